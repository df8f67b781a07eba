package redistest_test

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stint-go/stint/redisstore/redistest"
)

// Each fault of the network is what a client sees of it, what the server was asked
// meanwhile, and a network that is well again after Heal.
func TestProxyFaults(t *testing.T) {
	t.Parallel()
	timeout := func(err error) bool {
		var e net.Error
		return errors.As(err, &e) && e.Timeout()
	}
	broken := func(err error) bool { return err != nil && !timeout(err) }
	failed := func(err error) bool { return err != nil }
	for name, tt := range map[string]struct {
		fault   func(*redistest.Proxy)
		sees    func(error) bool
		arrives bool
	}{
		"requests are lost":             {(*redistest.Proxy).DropRequests, timeout, false},
		"replies are lost":              {(*redistest.Proxy).DropReplies, timeout, true},
		"a black hole":                  {(*redistest.Proxy).BlackHole, timeout, false},
		"replies end in the middle":     {func(p *redistest.Proxy) { p.Truncate(3) }, broken, true},
		"replies end before they begin": {func(p *redistest.Proxy) { p.Truncate(0) }, broken, true},
		"connections are reset":         {(*redistest.Proxy).Reset, broken, false},
		"replies are spoilt":            {func(p *redistest.Proxy) { p.Corrupt(1) }, failed, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			p := redistest.StartProxy(t, s.Addr())
			// After as many failures to connect as its pool has places, a client goes on
			// saying so for a second: a reset may come that early.
			c := redis.NewClient(&redis.Options{
				Addr: p.Addr(), PoolSize: 2, PipelinePoolSize: -1, MaxRetries: -1, DialerRetries: 1,
				DialTimeout: short, ReadTimeout: short, WriteTimeout: short,
			})
			t.Cleanup(func() { _ = c.Close() })
			if err := c.Ping(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			tt.fault(p)
			if err := c.Incr(t.Context(), "old").Err(); !tt.sees(err) {
				t.Errorf("on the connection there was: %v", err)
			}
			if err := c.Incr(t.Context(), "new").Err(); err == nil {
				t.Errorf("on a new connection there was an answer")
			}
			direct := s.Client(t)
			if n := direct.Exists(t.Context(), "old").Val(); (n == 1) != tt.arrives {
				t.Errorf("the server has %d of the key", n)
			}
			p.Heal()
			if err := c.Incr(t.Context(), "healed").Err(); err != nil {
				// What was broken may be noticed by the first to use it.
				if err = c.Incr(t.Context(), "healed").Err(); err != nil {
					t.Errorf("after it: %v", err)
				}
			}
			if v := direct.Get(t.Context(), "healed").Val(); v != "1" {
				t.Errorf("after it the server counted %q, want 1", v)
			}
		})
	}
}

func TestProxyResets(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.StartProxy(t, s.Addr())
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	if n, err := conn.Read(b); err != nil || string(b[:n]) != "+PONG\r\n" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	p.Reset()
	if _, err := conn.Read(b); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

func TestProxyBlackHoleNeedsNoTarget(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.StartProxy(t, s.Addr())
	p.BlackHole()
	s.Kill()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("PING\r\n"))
	_ = conn.SetReadDeadline(time.Now().Add(short))
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("got %v, want a time-out", err)
	}
}

// One byte in n is another one, and the others are as they were.
func TestProxyCorruptsOneInSoMany(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.StartProxy(t, s.Addr())
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p.Corrupt(4)
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	const want = "+PONG\r\n"
	b := make([]byte, len(want))
	if _, err := conn.Read(b); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		if (b[i] != want[i]) != (i%4 == 0) {
			t.Errorf("byte %d of %q: %q", i, want, b[i])
		}
	}
}
