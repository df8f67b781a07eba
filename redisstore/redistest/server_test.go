package redistest_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stint-go/stint/redisstore/redistest"
)

// short is a client's patience where an answer must not come.
const short = 100 * time.Millisecond

func impatient(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: -1, DialTimeout: short, ReadTimeout: short, WriteTimeout: short,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestServersAreApart(t *testing.T) {
	t.Parallel()
	a, b := redistest.Start(t), redistest.Start(t)
	if err := a.Client(t).Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Client(t).Exists(t.Context(), "k").Result(); n != 0 || err != nil {
		t.Errorf("a key of one server exists %d times on another (%v)", n, err)
	}
	opts, err := redis.ParseURL(a.URL())
	if err != nil || opts.Addr != a.Addr() {
		t.Errorf("URL %q reads as %+v (%v)", a.URL(), opts, err)
	}
}

func TestServerKeepsNothing(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	addr := s.Addr()
	s.Kill()
	if err := impatient(t, addr).Ping(t.Context()).Err(); err == nil {
		t.Error("a killed server answers")
	}
	s.Restart()
	if s.Addr() != addr {
		t.Errorf("restarted at %s, was %s", s.Addr(), addr)
	}
	if n, err := c.Exists(t.Context(), "k").Result(); n != 0 || err != nil {
		t.Errorf("after a restart the key exists %d times (%v)", n, err)
	}
}

func TestArgumentsWin(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	c := s.Client(t)
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	if v, err := c.Get(t.Context(), "k").Result(); v != "v" || err != nil {
		t.Errorf("a server that keeps its data has %q (%v)", v, err)
	}
}

func TestFreeze(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := impatient(t, s.Addr())
	s.Freeze()
	var timeout net.Error
	if err := c.Ping(t.Context()).Err(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a frozen server: %v, want a time-out", err)
	}
	s.Thaw()
	if err := s.Client(t).Ping(t.Context()).Err(); err != nil {
		t.Errorf("a thawed server: %v", err)
	}
	s.Freeze() // and a frozen server is killed at the end
}

func TestServerEndsWithItsTest(t *testing.T) {
	t.Parallel()
	var addr string
	t.Run("", func(t *testing.T) { addr = redistest.Start(t).Addr() })
	if conn, err := net.DialTimeout("tcp", addr, short); err == nil {
		_ = conn.Close()
		t.Error("the server outlived its test")
	}
}

func TestBadArgumentsAreReported(t *testing.T) {
	t.Parallel()
	redistest.Start(t) // skips here, not below
	tb := &recorder{TB: t}
	tb.run(func() { redistest.Start(tb, "--no-such-option", "yes") })
	if !strings.Contains(tb.fatal, "no-such-option") {
		t.Errorf("the test was told %q", tb.fatal)
	}
}

func TestMissingServer(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("nothing is looked for on Windows")
	}
	for name, tt := range map[string]struct {
		require       string
		skips, fatals bool
	}{
		"skips":        {"", true, false},
		"fails if set": {"1", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", t.TempDir())
			t.Setenv("STINT_REQUIRE_REDIS", tt.require)
			tb := &recorder{TB: t}
			tb.run(func() { redistest.Start(tb) })
			if (tb.skip != "") != tt.skips || (tb.fatal != "") != tt.fatals {
				t.Errorf("skip %q, fatal %q", tb.skip, tb.fatal)
			}
			if said := tb.skip + tb.fatal; !strings.Contains(said, "apt-get install redis-server") {
				t.Errorf("%q does not say how to install it", said)
			}
		})
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	c := cluster.Client(t)
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if err := c.Set(t.Context(), key, key, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	keys := map[string]int64{}
	err := c.ForEachMaster(t.Context(), func(ctx context.Context, node *redis.Client) error {
		n, err := node.DBSize(ctx).Result()
		mu.Lock()
		defer mu.Unlock()
		keys[node.Options().Addr] = n
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range cluster.Addrs() {
		if keys[addr] == 0 {
			t.Errorf("node %s has none of 8 keys: %v", addr, keys)
		}
	}

	cluster.Nodes[1].Restart()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := c.Set(t.Context(), "a", "again", 0).Err()
		info := cluster.Nodes[1].Client(t).ClusterInfo(t.Context()).Val()
		if err == nil && strings.Contains(info, "cluster_state:ok") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a restarted node does not find its place: %v\n%s", err, info)
		}
	}
}

// A recorder is a test that is told to skip or fail, and only writes it down.
type recorder struct {
	testing.TB
	skip, fatal string
}

func (r *recorder) run(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func (r *recorder) Skip(args ...any) {
	r.skip, _ = args[0].(string)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) {
	r.fatal, _ = args[0].(string)
	runtime.Goexit()
}

func (r *recorder) Fatalf(_ string, args ...any) {
	if err, ok := args[0].(error); ok {
		r.fatal = err.Error()
	}
	runtime.Goexit()
}
