package redistest_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stint-go/stint/redisstore/redistest"
)

// proxied returns a proxy before a fresh server, and a client with one
// connection through it that is set up.
func proxied(t *testing.T) (*redistest.Server, *redistest.Proxy, *redis.Client) {
	t.Helper()
	s := redistest.Start(t)
	p := redistest.StartProxy(t, s.Addr())
	c := redis.NewClient(&redis.Options{
		Addr: p.Addr(), PoolSize: 1, PipelinePoolSize: -1, MaxRetries: -1, ReadTimeout: 5 * time.Second,
	})
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	return s, p, c
}

func TestProxyCounts(t *testing.T) {
	t.Parallel()
	_, p, c := proxied(t)
	before := p.Traffic()
	if before.Connections != 1 {
		t.Errorf("%d connections, want 1", before.Connections)
	}
	for range 10 {
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	pipe := c.Pipeline()
	for range 50 {
		pipe.Ping(t.Context())
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := p.Traffic().Since(before)
	const ping, pong = int64(len("*1\r\n$4\r\nping\r\n")), int64(len("+PONG\r\n"))
	want := redistest.Traffic{RoundTrips: 11, Sent: 60 * ping, Received: 60 * pong}
	if got != want {
		t.Errorf("10 pings and a pipeline of 50: %+v, want %+v", got, want)
	}

	// A long request and a long reply are one round trip too.
	before = p.Traffic()
	if err := c.Echo(t.Context(), strings.Repeat("x", 8<<20)).Err(); err != nil {
		t.Fatal(err)
	}
	if n := p.Traffic().Since(before).RoundTrips; n != 1 {
		t.Errorf("8 MB there and back: %d round trips, want 1", n)
	}
}

func TestProxyDelays(t *testing.T) {
	t.Parallel()
	_, p, c := proxied(t)
	for _, delay := range []time.Duration{30 * time.Millisecond, 0, 10 * time.Millisecond} {
		p.SetDelay(delay)
		start := time.Now()
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 2*delay || took > 2*delay+time.Second {
			t.Errorf("with %v each way a ping took %v", delay, took)
		}
	}
	p.SetDelay(50 * time.Millisecond)
	start := time.Now()
	if err := c.Echo(t.Context(), strings.Repeat("x", 8<<20)).Err(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("delays add up: 8 MB in pieces, 50 ms each way, took %v", took)
	}
}

func TestProxyFreezes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		freeze  func(*redistest.Proxy)
		arrives bool // the request reaches the server meanwhile
	}{
		"both ways": {(*redistest.Proxy).Freeze, false},
		"replies":   {(*redistest.Proxy).FreezeReplies, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p, c := proxied(t)
			direct := s.Client(t)
			tt.freeze(p)
			late := make(chan error, 1)
			go func() { late <- c.Incr(t.Context(), "k").Err() }()
			select {
			case err := <-late:
				t.Fatalf("a frozen proxy let an answer pass (%v)", err)
			case <-time.After(short):
			}
			if n := direct.Exists(t.Context(), "k").Val(); (n == 1) != tt.arrives {
				t.Errorf("meanwhile the server has %d of the key", n)
			}
			p.Thaw()
			if err := <-late; err != nil {
				t.Errorf("after the thaw: %v", err)
			}
			if v := direct.Get(t.Context(), "k").Val(); v != "1" {
				t.Errorf("the server counted %s, want 1", v)
			}
		})
	}
}

func TestProxyCuts(t *testing.T) {
	t.Parallel()
	_, p, c := proxied(t)
	p.Freeze()
	cut := make(chan error, 1)
	go func() { cut <- c.Ping(t.Context()).Err() }()
	time.Sleep(short)
	p.Cut()
	var timeout net.Error
	if err := <-cut; err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("a cut connection: %v, want an error, and not a time-out", err)
	}
	p.Thaw()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Errorf("a new connection: %v", err)
	}
	if n := p.Traffic().Connections; n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	redistest.Await(t, "one connection is open", func() bool { return p.Open() == 1 })
	_ = c.Close()
	redistest.Await(t, "none is open", func() bool { return p.Open() == 0 })
}

func TestProxyBeforeNothing(t *testing.T) {
	t.Parallel()
	s, _, c := proxied(t)
	s.Kill()
	for range 2 {
		if err := c.Ping(t.Context()).Err(); err == nil {
			t.Error("a proxy before a killed server answered")
		}
	}
	s.Restart()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}
