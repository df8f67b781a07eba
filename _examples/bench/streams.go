package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
)

// measureStreams holds n requests open, ten of each key, and prints what it costs
// to renew their slots while nothing else happens.
func measureStreams(ctx context.Context, out io.Writer, server *redisServer, n int, length time.Duration) error {
	client := server.client()
	defer client.Close()
	store := redisstore.New(client)
	defer store.Close()
	var lost, failed atomic.Int64
	header := func(name string) ratelimit.KeyFunc {
		return func(r *http.Request) (string, error) { return r.Header.Get(name), nil }
	}
	limiter, err := ratelimit.New(ratelimit.Config{
		Store: store, Budget: 5 * time.Second,
		Observe: func(e ratelimit.Event) {
			switch e.Kind {
			case ratelimit.SlotLost:
				lost.Add(1)
			case ratelimit.RenewFailed, ratelimit.Bypassed, ratelimit.Refused:
				failed.Add(1)
			}
		},
		Rules: []ratelimit.Rule{{Name: "per_key", Key: header("Key"), Limits: []policy.Limit{policy.Concurrency(50)}}},
	})
	if err != nil {
		return err
	}
	defer limiter.Close()

	end, open := make(chan struct{}), make(chan struct{}, n)
	handler := limiter.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		open <- struct{}{}
		<-end
	}))
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("Key", strconv.Itoa(i/10))
			handler.ServeHTTP(httptest.NewRecorder(), r)
		})
	}
	for range n {
		select {
		case <-open:
		case <-time.After(time.Minute):
			close(end)
			return fmt.Errorf("not all of %d streams opened", n)
		}
	}
	ownBefore, serverBefore := processTime(os.Getpid()), processTime(server.command.Process.Pid)
	began := time.Now()
	select {
	case <-ctx.Done():
	case <-time.After(length):
	}
	elapsed := time.Since(began)
	own, redis := processTime(os.Getpid())-ownBefore, processTime(server.command.Process.Pid)-serverBefore
	close(end)
	wg.Wait()
	fmt.Fprintf(out, "%d open streams for %v, leases of 10 s: %.1f %% of a core in this process, %.1f %% in Redis; %d slots lost, %d failures\n",
		n, elapsed.Round(time.Second), percent(own, elapsed), percent(redis, elapsed), lost.Load(), failed.Load())
	return ctx.Err()
}

func percent(used, elapsed time.Duration) float64 { return 100 * float64(used) / float64(elapsed) }

// processTime returns how much processor time a process has used: by /proc, and
// zero where there is none, but for this process.
func processTime(pid int) time.Duration {
	if pid == os.Getpid() {
		var u syscall.Rusage
		if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
			return 0
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	const userTime, systemTime, ticksPerSecond = 11, 12, 100
	if len(fields) <= systemTime {
		return 0
	}
	user, _ := strconv.Atoi(fields[userTime])
	system, _ := strconv.Atoi(fields[systemTime])
	return time.Duration(user+system) * time.Second / ticksPerSecond
}
