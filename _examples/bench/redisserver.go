package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/redis/go-redis/v9"
)

// A redisServer is a private process, in a folder of its own, on a socket.
type redisServer struct {
	command *exec.Cmd
	dir     string
	socket  string
	version string
}

func startRedis() (*redisServer, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	s := &redisServer{dir: dir, socket: filepath.Join(dir, "redis.sock")}
	s.command = exec.Command("redis-server", "--port", "0", "--unixsocket", s.socket, "--dir", dir, "--save", "", "--appendonly", "no")
	if err := s.command.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := s.await(); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// await waits until the server answers.
func (s *redisServer) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := s.client()
	defer client.Close()
	for {
		info, err := client.Info(ctx, "server").Result()
		if err == nil {
			if m := regexp.MustCompile(`redis_version:(\S+)`).FindStringSubmatch(info); m != nil {
				s.version = m[1]
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("redis-server did not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// client returns a new client with go-redis's defaults.
func (s *redisServer) client() *redis.Client {
	return redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket})
}

// clear forgets what other rows left.
func (s *redisServer) clear() error {
	client := s.client()
	defer client.Close()
	return client.FlushAll(context.Background()).Err()
}

func (s *redisServer) stop() {
	_ = s.command.Process.Kill()
	_ = s.command.Wait()
	_ = os.RemoveAll(s.dir)
}
