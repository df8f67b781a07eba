package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Sentinel is a private master with a replica, and a sentinel that watches them and
// decides alone (a quorum of 1). It takes a master for dead that has not answered for
// a little more than a second, which is how often it makes a lost connection anew.
type Sentinel struct {
	// Servers are the master, as it was at the start, and its replica. A failover
	// changes who is what, and none of them: see Master.
	Servers []*Server

	// Watcher is the sentinel.
	Watcher *Server

	tb testing.TB
}

const (
	sentinelReplicas = 1
	masterName       = "stint"
)

// StartSentinel starts servers and their sentinel, and waits until all replicas
// follow and the sentinel knows them. The arguments are those of redis-server, for
// every server but the sentinel. It ends with the test, and takes a second or two.
func StartSentinel(tb testing.TB, args ...string) *Sentinel {
	tb.Helper()
	s := &Sentinel{tb: tb}
	args = append([]string{"--repl-diskless-sync-delay", "0"}, args...)
	master := Start(tb, args...)
	s.Servers = append(s.Servers, master)
	for range sentinelReplicas {
		s.Servers = append(s.Servers, Start(tb, append([]string{"--replicaof", loopback, strconv.Itoa(master.port)}, args...)...))
	}
	Await(tb, "replicas follow", func() bool { return master.Followed(sentinelReplicas) })

	s.Watcher = &Server{tb: tb, bin: binary(tb), dir: tb.TempDir()}
	s.Watcher.watches = filepath.Join(s.Watcher.dir, "sentinel.conf")
	conf := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]d 1\nsentinel down-after-milliseconds %[1]s 1200\n"+
		"sentinel failover-timeout %[1]s 3000\nsentinel parallel-syncs %[1]s %[4]d\n",
		masterName, loopback, master.port, sentinelReplicas)
	if err := os.WriteFile(s.Watcher.watches, []byte(conf), 0o600); err != nil {
		tb.Fatalf("redistest: sentinel: %v", err)
	}
	s.Watcher.start()
	Await(tb, "the sentinel knows the replicas", s.isWell)
	return s
}

// Options returns the options of a client: set what else it needs, and make it with
// redis.NewFailoverClient.
func (s *Sentinel) Options() *redis.FailoverOptions {
	return &redis.FailoverOptions{MasterName: masterName, SentinelAddrs: []string{s.Watcher.Addr()}}
}

// Client returns a new client of whoever is the master, with default options. It is
// closed when the test tb ends.
func (s *Sentinel) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	c := redis.NewFailoverClient(s.Options())
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Master returns the server that the sentinel takes for the master.
func (s *Sentinel) Master() *Server {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c := redis.NewSentinelClient(&redis.Options{Addr: s.Watcher.Addr(), MaxRetries: -1})
	defer c.Close()
	// Its address here is the old one until a failover has ended, unlike that which
	// clients are told.
	master, err := c.Master(ctx, masterName).Result()
	for _, server := range s.Servers {
		if server.Addr() == net.JoinHostPort(master["ip"], master["port"]) {
			return server
		}
	}
	s.tb.Fatalf("redistest: the sentinel's master is not known: %v, %v", master, err)
	return nil
}

// Failover makes another server the master, as an operator does: the old one becomes
// its replica. It returns when there is another master.
func (s *Sentinel) Failover() {
	s.tb.Helper()
	s.AwaitWell()
	old := s.Master()
	const patience = 5 * time.Second
	var asked time.Time
	Await(s.tb, "another master", func() bool {
		if s.Master() != old {
			return true
		}
		// A failover is refused while one is under way, and may be given up.
		if time.Since(asked) > patience {
			if _, err := s.Watcher.ask("SENTINEL", "FAILOVER", masterName); err == nil {
				asked = time.Now()
			}
		}
		return false
	})
	s.AwaitFailover(old)
}

// AwaitFailover waits until a server, which may have been killed, is the master no
// more, and another one is and takes writes.
func (s *Sentinel) AwaitFailover(from *Server) {
	s.tb.Helper()
	Await(s.tb, "another master", func() bool {
		master := s.Master()
		return master != from && master.role() == "master"
	})
}

// AwaitWell waits until all servers that were not killed follow the master, and the
// sentinel knows them: a failover would succeed.
func (s *Sentinel) AwaitWell() {
	s.tb.Helper()
	Await(s.tb, "the sentinel sees all well", s.isWell)
}

// isWell reports whether all servers that were not killed follow the master, and the
// sentinel knows them.
func (s *Sentinel) isWell() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c := redis.NewSentinelClient(&redis.Options{Addr: s.Watcher.Addr(), MaxRetries: -1})
	defer c.Close()
	replicas, err := c.Replicas(ctx, masterName).Result()
	if err != nil {
		return false
	}
	want, known := -1, 0
	for _, server := range s.Servers {
		if server.proc != nil {
			want++
		}
	}
	for _, r := range replicas {
		if r["flags"] == "slave" && r["master-link-status"] == "ok" {
			known++
		}
	}
	return known >= want && s.Master().Followed(want)
}

// Followed reports whether so many replicas have what the server writes now. That they
// say so is not enough: a replica that has just arrived is told nothing for a second.
func (s *Server) Followed(by int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	client := redis.NewClient(&redis.Options{Addr: s.Addr(), Password: s.password, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	pipe := client.Pipeline()
	pipe.Publish(ctx, "redistest", "") // which replicas hear of, and which needs no key
	replicas := pipe.Do(ctx, "WAIT", by, 100)
	_, err := pipe.Exec(ctx)
	n, _ := replicas.Int()
	return err == nil && n >= by
}

// role returns "master" or "slave", or nothing if the server does not answer.
func (s *Server) role() string {
	for line := range strings.Lines(s.info("replication")) {
		if role, ok := strings.CutPrefix(strings.TrimSpace(line), "role:"); ok {
			return role
		}
	}
	return ""
}

// info returns a section of the server's information, or nothing.
func (s *Server) info(section string) string {
	text, _ := s.ask("INFO", section)
	info, _ := text.(string)
	return info
}

// ask sends the server a command that may fail.
func (s *Server) ask(args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	client := redis.NewClient(&redis.Options{Addr: s.Addr(), Password: s.password, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	return client.Do(ctx, args...).Result()
}

// endpoint returns the host and port of an address.
func endpoint(addr string) (host, port string) {
	host, port, _ = net.SplitHostPort(addr)
	return host, port
}
