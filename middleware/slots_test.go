package middleware_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/respond"
)

// slotted limits each API key to slots, after a rate that counts what is asked.
func slotted(t *testing.T, store policy.Store, slots policy.Limit, observe func(ratelimit.Event)) *ratelimit.Limiter {
	t.Helper()
	return limiter(t, ratelimit.Config{Store: store, Observe: observe, Rules: []ratelimit.Rule{
		{Name: "rate", Key: apiKey, Limits: []policy.Limit{policy.PerHour(1000)}},
		{Name: "slots", Key: apiKey, Limits: []policy.Limit{slots}, Fail: ratelimit.FailClosed},
	}})
}

// waiting returns how many wait for a slot of the key "a".
func waiting(t *testing.T, store policy.Store, slots policy.Limit) int64 {
	t.Helper()
	var d policy.Decision
	c := policy.Charge{Scope: policy.NewScope("api", "slots"), Key: hashed("a"), Limit: slots}
	require.NoError(t, store.Peek(context.Background(), []policy.Charge{c}, &d))
	return d.Results[0].Queue
}

// A gate is a handler that lets nobody out until it is told to.
type gate struct {
	entered chan *http.Request
	leave   chan struct{}
}

func newGate() *gate { return &gate{make(chan *http.Request, 1000), make(chan struct{})} }

func (g *gate) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	g.entered <- r
	<-g.leave
}

// begin sends a request in the background.
func begin(h http.Handler, r *http.Request) <-chan *httptest.ResponseRecorder {
	done := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		done <- w
	}()
	return done
}

func TestSlotsAreHeldWhileTheHandlerRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		slots := policy.Concurrency(2)
		g := newGate()
		h := slotted(t, store, slots, nil).Handler(g)
		a, b := begin(h, request("/", "a")), begin(h, request("/", "a"))
		<-g.entered
		<-g.entered
		w := get(h, "/", "a")
		require.Equal(t, 429, w.Code)
		require.Contains(t, w.Body.String(), `"code":"concurrency_exceeded"`)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.EqualValues(t, 2, used(t, store, "api", "slots", hashed("a"), slots))
		require.EqualValues(t, 2, used(t, store, "api", "rate", hashed("a"), policy.PerHour(1000)), "a refusal takes nothing")
		// Another key has slots of its own. The holders keep theirs, however long.
		c := begin(h, request("/", "b"))
		<-g.entered
		time.Sleep(time.Hour)
		require.Equal(t, 429, get(h, "/", "a").Code)
		for range 3 {
			g.leave <- struct{}{}
		}
		for _, done := range []<-chan *httptest.ResponseRecorder{a, b, c} {
			require.Equal(t, 200, (<-done).Code)
		}
		require.EqualValues(t, 0, used(t, store, "api", "slots", hashed("a"), slots))
		close(g.leave)
		require.Equal(t, 200, get(h, "/", "a").Code)
	})
}

// Every way out of a handler frees the slot.
func TestEveryWayOutFreesTheSlot(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"return": func(http.ResponseWriter, *http.Request) {},
		"panic":  func(http.ResponseWriter, *http.Request) { panic("no") },
		"abort":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"hijack": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if assert.NoError(t, err) {
				_ = conn.Close()
			}
		},
		"disconnect": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := memstore.New(memstore.Options{})
			slots := policy.Concurrency(1)
			h := slotted(t, store, slots, nil).Handler(handler)
			ended := make(chan struct{})
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(ended)
				h.ServeHTTP(w, r)
			}))
			srv.Config.ErrorLog = log.New(io.Discard, "", 0)
			srv.Start()
			defer srv.Close()
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			require.NoError(t, err)
			_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: a\r\n\r\n")
			require.NoError(t, err)
			if name == "disconnect" {
				require.Eventually(t, func() bool { return used(t, store, "api", "slots", hashed("a"), slots) == 1 }, 5*time.Second, time.Millisecond)
				require.NoError(t, conn.Close())
			}
			<-ended
			_ = conn.Close()
			require.EqualValues(t, 0, used(t, store, "api", "slots", hashed("a"), slots))
		})
	}
}

func TestQueueLetsInByArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		slots := policy.Concurrency(1).WithQueue(3, time.Minute)
		g := newGate()
		var events sync.Map
		h := slotted(t, store, slots, func(e ratelimit.Event) { events.Store(e.Kind, e) }).Handler(g)
		var done []<-chan *httptest.ResponseRecorder
		for _, path := range []string{"/1", "/2", "/3", "/4"} {
			done = append(done, begin(h, request(path, "a")))
			synctest.Wait()
		}
		w := get(h, "/5", "a")
		require.Equal(t, 429, w.Code)
		require.Contains(t, w.Body.String(), `"code":"queue_full"`)
		time.Sleep(20 * time.Second)
		for i, path := range []string{"/1", "/2", "/3", "/4"} {
			require.Equal(t, path, (<-g.entered).URL.Path)
			synctest.Wait()
			require.Empty(t, g.entered, "one at once")
			g.leave <- struct{}{}
			require.Equal(t, 200, (<-done[i]).Code)
			synctest.Wait()
		}
		require.EqualValues(t, 0, used(t, store, "api", "slots", hashed("a"), slots))
		require.EqualValues(t, 4, used(t, store, "api", "rate", hashed("a"), policy.PerHour(1000)))
		e, _ := events.Load(ratelimit.Allowed)
		require.Equal(t, 20*time.Second, e.(ratelimit.Event).Waited)
	})
}

func TestQueueTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		slots := policy.Concurrency(1).WithQueue(3, 30*time.Second)
		g := newGate()
		h := slotted(t, store, slots, nil).Handler(g)
		first := begin(h, request("/", "a"))
		<-g.entered
		start := time.Now()
		w := get(h, "/", "a")
		require.Equal(t, 30*time.Second, time.Since(start))
		require.Equal(t, 429, w.Code)
		require.Contains(t, w.Body.String(), `"code":"queue_timeout"`)
		require.NotEmpty(t, w.Header().Get("Retry-After"))
		require.EqualValues(t, 1, used(t, store, "api", "rate", hashed("a"), policy.PerHour(1000)), "leaving gives the rest back")
		// A request that must be done sooner does not wait longer.
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start = time.Now()
		w = httptest.NewRecorder()
		h.ServeHTTP(w, request("/", "a").WithContext(ctx))
		require.Equal(t, 5*time.Second, time.Since(start))
		g.leave <- struct{}{}
		require.Equal(t, 200, (<-first).Code)
		require.EqualValues(t, 1, used(t, store, "api", "rate", hashed("a"), policy.PerHour(1000)))
		require.EqualValues(t, 0, used(t, store, "api", "slots", hashed("a"), slots))
	})
}

// Who would wait too long is told at once, by what requests took before.
func TestQueueRefusesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		slots := policy.Concurrency(1).WithQueue(10, 30*time.Second)
		g := newGate()
		h := slotted(t, store, slots, nil).Handler(g)
		one := begin(h, request("/", "a"))
		<-g.entered
		time.Sleep(20 * time.Second)
		g.leave <- struct{}{}
		<-one

		one = begin(h, request("/", "a"))
		<-g.entered
		two := begin(h, request("/", "a")) // expected to wait for 20 s
		synctest.Wait()
		start := time.Now()
		w := get(h, "/", "a") // and for 40 s
		require.Equal(t, time.Duration(0), time.Since(start))
		require.Equal(t, 429, w.Code)
		require.Contains(t, w.Body.String(), `"code":"queue_timeout"`)
		require.Equal(t, "40", w.Header().Get("Retry-After"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		w = httptest.NewRecorder()
		h.ServeHTTP(w, request("/", "a").WithContext(ctx)) // must be done in 10 s
		require.Equal(t, 429, w.Code)
		require.Equal(t, time.Duration(0), time.Since(start))
		g.leave <- struct{}{}
		<-g.entered
		g.leave <- struct{}{}
		<-one
		<-two
	})
}

// A client that goes while it waits leaves the queue, with a body sent or not.
func TestQueueIsLeftByWhoDisconnects(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no body":         "GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: a\r\n\r\n",
		"whole body":      "POST / HTTP/1.1\r\nHost: x\r\nX-API-Key: a\r\nContent-Length: 5\r\n\r\nhello",
		"half a body":     "POST / HTTP/1.1\r\nHost: x\r\nX-API-Key: a\r\nContent-Length: 500\r\n\r\nhello",
		"chunks, no end":  "POST / HTTP/1.1\r\nHost: x\r\nX-API-Key: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"chunks, the end": "POST / HTTP/1.1\r\nHost: x\r\nX-API-Key: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := memstore.New(memstore.Options{})
			slots := policy.Concurrency(1).WithQueue(5, time.Minute)
			g := newGate()
			h := slotted(t, store, slots, nil).Handler(g)
			srv := httptest.NewServer(h)
			defer srv.Close()
			first := begin(h, request("/", "a"))
			<-g.entered
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			require.NoError(t, err)
			_, err = io.WriteString(conn, body)
			require.NoError(t, err)
			require.Eventually(t, func() bool { return waiting(t, store, slots) == 1 }, 5*time.Second, time.Millisecond)
			require.NoError(t, conn.Close())
			require.Eventually(t, func() bool { return waiting(t, store, slots) == 0 }, 5*time.Second, time.Millisecond)
			require.EqualValues(t, 1, used(t, store, "api", "rate", hashed("a"), policy.PerHour(1000)))
			close(g.leave)
			<-first
		})
	}
}

// What was read ahead is the handler's to read.
func TestQueuedBodyIsWhole(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 5000, 64 << 10, 64<<10 + 1, 300_000} {
		for _, chunked := range []bool{false, true} {
			store := memstore.New(memstore.Options{})
			slots := policy.Concurrency(1).WithQueue(5, time.Minute)
			g := newGate()
			l := slotted(t, store, slots, nil)
			var got []byte
			var err error
			srv := httptest.NewServer(l.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got, err = io.ReadAll(r.Body)
			})))
			first := begin(l.Handler(g), request("/", "a"))
			<-g.entered
			sent := strings.Repeat("abcdefghij", size/10+1)[:size]
			var body io.Reader = strings.NewReader(sent)
			if chunked {
				body = struct{ io.Reader }{body}
			}
			r, rerr := http.NewRequestWithContext(t.Context(), "POST", srv.URL, body)
			require.NoError(t, rerr)
			r.Header.Set("X-API-Key", "a")
			done := make(chan int)
			go func() {
				resp, err := srv.Client().Do(r)
				if assert.NoError(t, err) {
					_ = resp.Body.Close()
					done <- resp.StatusCode
				}
			}()
			require.Eventually(t, func() bool { return waiting(t, store, slots) == 1 }, 5*time.Second, time.Millisecond)
			close(g.leave)
			require.Equal(t, 200, <-done)
			<-first
			require.NoError(t, err)
			require.Equal(t, sent, string(got))
			srv.Close()
		}
	}
}

// A refused wait does not wait for a body that does not come.
func TestQueueTimeoutWithASlowBody(t *testing.T) {
	t.Parallel()
	store := memstore.New(memstore.Options{})
	g := newGate()
	h := slotted(t, store, policy.Concurrency(1).WithQueue(5, 50*time.Millisecond), nil).Handler(g)
	srv := httptest.NewServer(h)
	defer srv.Close()
	first := begin(h, request("/", "a"))
	<-g.entered
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nX-API-Key: a\r\nContent-Length: 500\r\n\r\nhello")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	answer, err := io.ReadAll(conn) // the server ends the connection
	require.NoError(t, err)
	require.Contains(t, string(answer), "429 Too Many Requests")
	require.Contains(t, string(answer), "queue_timeout")
	close(g.leave)
	<-first
}

// Slots are closed without a store, where their rule is.
func TestSlotsWithoutAStore(t *testing.T) {
	t.Parallel()
	store := newSpy()
	store.take = func(context.Context) error { return errors.New("down") }
	w := get(slotted(t, store, policy.Concurrency(1), nil).Handler(&served{}), "/", "a")
	require.Equal(t, 503, w.Code)
	require.Contains(t, w.Body.String(), string(respond.StoreUnavailable))
}

// A slot that is lost all the same is reported, once.
func TestLostSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		slots := policy.Concurrency(1).WithLease(6 * time.Second)
		var lost atomic.Int64
		l := slotted(t, store, slots, func(e ratelimit.Event) {
			if e.Kind == ratelimit.SlotLost {
				lost.Add(1)
				assert.Equal(t, "slots", e.Rule)
			}
		})
		g := newGate()
		first := begin(l.Handler(g), request("/", "a"))
		r := <-g.entered
		time.Sleep(time.Minute)
		select {
		case <-ratelimit.Lost(r.Context()):
			t.Fatal("it is held")
		default:
		}
		c := policy.Charge{Scope: policy.NewScope("api", "slots"), Key: hashed("a"), Limit: slots}
		require.NoError(t, store.Reset(t.Context(), []policy.Charge{c}))
		start := time.Now()
		<-ratelimit.Lost(r.Context())
		require.LessOrEqual(t, time.Since(start), 4*time.Second, "two thirds of the lease")
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, lost.Load())
		g.leave <- struct{}{}
		<-first
		require.Nil(t, ratelimit.Lost(t.Context()))
	})
}

// A connection that was hijacked, and what goes on in the background, may keep
// its slot.
func TestHoldKeepsTheSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		slots := policy.Concurrency(1)
		var release func()
		h := slotted(t, store, slots, nil).Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			release = ratelimit.Hold(r.Context())
		}))
		require.Equal(t, 200, get(h, "/", "a").Code)
		time.Sleep(time.Hour)
		require.Equal(t, 429, get(h, "/", "a").Code)
		release()
		require.Equal(t, 200, get(h, "/", "a").Code)
		release()
	})
}

// Check takes slots too: for as long as its request, or a Hold of its own.
func TestCheckTakesSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		slots := policy.Concurrency(1).WithLease(time.Second)
		l := slotted(t, store, slots, nil)
		ctx := ratelimit.NewLedger(t.Context())
		release := ratelimit.Hold(ctx)
		report, err := l.Check(request("/", "a").WithContext(ctx))
		require.NoError(t, err)
		require.Nil(t, report.Denial)
		time.Sleep(time.Minute)
		report, err = l.Check(request("/", "a"))
		require.NoError(t, err)
		require.Equal(t, respond.ConcurrencyExceeded, report.Denial.Reason)
		release()
		// Nobody releases this one, nor renews it.
		report, err = l.Check(request("/", "a"))
		require.NoError(t, err)
		require.Nil(t, report.Denial)
		require.EqualValues(t, 1, used(t, store, "api", "slots", hashed("a"), slots))
		time.Sleep(time.Second)
		require.EqualValues(t, 0, used(t, store, "api", "slots", hashed("a"), slots))
	})
}

// An inner refusal frees the outer slot, and a request waits in one queue.
func TestStackedSlots(t *testing.T) {
	t.Parallel()
	store := memstore.New(memstore.Options{})
	outerSlots := policy.Concurrency(1).WithQueue(1, time.Minute)
	outer := limiter(t, ratelimit.Config{Name: "outer", Store: store, Rules: []ratelimit.Rule{{Name: "slots", Key: apiKey, Limits: []policy.Limit{outerSlots}}}})
	strict := rated(t, store, "strict", policy.PerHour(1))
	h := outer.Handler(strict.Handler(&served{}))
	require.Equal(t, map[int]int{200: 1, 429: 3}, statuses(h, "a", 4))
	require.EqualValues(t, 0, used(t, store, "outer", "slots", hashed("a"), outerSlots))

	second := limiter(t, ratelimit.Config{Name: "second", Store: store, Rules: []ratelimit.Rule{{Name: "slots", Key: apiKey, Limits: []policy.Limit{outerSlots}}}})
	w := get(outer.Handler(second.Handler(&served{})), "/", "b")
	require.Equal(t, 500, w.Code)
	require.Contains(t, w.Body.String(), "misconfigured")
	require.EqualValues(t, 0, used(t, store, "outer", "slots", hashed("b"), outerSlots))
}

func TestSlotsInManyWays(t *testing.T) {
	t.Parallel()
	store := memstore.New(memstore.Options{})
	slots := policy.Concurrency(10).WithQueue(490, time.Minute)
	var inside, most atomic.Int64
	h := slotted(t, store, slots, nil).Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n := inside.Add(1)
		defer inside.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(time.Millisecond)
		if r.URL.Path == "/panic" {
			panic(http.ErrAbortHandler)
		}
	}))
	var wg sync.WaitGroup
	for i := range 10_000 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			path := "/"
			switch i % 4 {
			case 0:
				path = "/panic"
			case 1:
				cancelled := time.AfterFunc(time.Duration(i%50)*time.Millisecond, cancel)
				defer cancelled.Stop()
			case 2:
				ctx, cancel = context.WithTimeout(ctx, time.Duration(i%50)*time.Millisecond)
				defer cancel()
			}
			defer func() { _ = recover() }()
			h.ServeHTTP(httptest.NewRecorder(), request(path, "a").WithContext(ctx))
		})
		if i%500 == 499 {
			wg.Wait()
		}
	}
	wg.Wait()
	require.LessOrEqual(t, most.Load(), int64(10))
	require.Zero(t, used(t, store, "api", "slots", hashed("a"), slots))
	require.Zero(t, waiting(t, store, slots))
}

// Check reads nothing of the body, however long it waits.
func TestCheckLeavesTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		slots := policy.Concurrency(1).WithQueue(5, time.Minute)
		l := slotted(t, store, slots, nil)
		g := newGate()
		first := begin(l.Handler(g), request("/", "a"))
		<-g.entered
		time.AfterFunc(time.Second, func() { close(g.leave) })
		r := httptest.NewRequest("POST", "/", strings.NewReader("hello"))
		r.Header.Set("X-API-Key", "a")
		report, err := l.Check(r.WithContext(ratelimit.NewLedger(r.Context())))
		require.NoError(t, err)
		require.Nil(t, report.Denial)
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.Equal(t, "hello", string(body))
		<-first
	})
}

// Whoever holds the ledger keeps what was taken before.
func TestHoldAfterCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		slots := policy.Concurrency(1).WithLease(time.Second)
		l := slotted(t, store, slots, nil)
		ctx := ratelimit.NewLedger(t.Context())
		_, err := l.Check(request("/", "a").WithContext(ctx))
		require.NoError(t, err)
		require.NoError(t, ratelimit.SetCost(ctx, "rate", 3))
		require.EqualValues(t, 1, used(t, store, "api", "slots", hashed("a"), slots), "a cost frees no slot")
		release := ratelimit.Hold(ctx)
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, used(t, store, "api", "slots", hashed("a"), slots))
		release()
		require.EqualValues(t, 0, used(t, store, "api", "slots", hashed("a"), slots))
		require.EqualValues(t, 3, used(t, store, "api", "rate", hashed("a"), policy.PerHour(1000)))
	})
}

// A Check that comes as its request ends leaves no slot behind.
func TestCheckBesideTheEnd(t *testing.T) {
	t.Parallel()
	store := memstore.New(memstore.Options{})
	slots := policy.Concurrency(policy.MaxSlots).WithLease(100 * time.Millisecond)
	outer, l := rated(t, store, "outer", policy.PerSecond(1_000_000)), slotted(t, store, slots, nil)
	var wg sync.WaitGroup
	h := outer.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		wg.Go(func() { _, _ = l.Check(r) })
	}))
	for range 20_000 {
		get(h, "/", "a")
	}
	wg.Wait()
	require.Eventually(t, func() bool { return used(t, store, "api", "slots", hashed("a"), slots) == 0 }, 5*time.Second, 50*time.Millisecond)
}

// A request whose client goes on sending is served as soon as it has its slot.
func TestQueuedStreamIsServed(t *testing.T) {
	t.Parallel()
	store := memstore.New(memstore.Options{})
	slots := policy.Concurrency(1).WithQueue(5, time.Minute)
	l := slotted(t, store, slots, nil)
	g := newGate()
	srv := httptest.NewServer(l.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		assert.NoError(t, rc.EnableFullDuplex())
		_, _ = io.WriteString(w, "ready\n")
		assert.NoError(t, rc.Flush())
		buf := make([]byte, 16)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			_ = rc.Flush()
			if err != nil {
				assert.ErrorIs(t, err, io.EOF)
				return
			}
		}
	})))
	defer srv.Close()
	first := begin(l.Handler(g), request("/", "a"))
	<-g.entered
	body, send := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL, body)
	require.NoError(t, err)
	r.Header.Set("X-API-Key", "a")
	responses := make(chan *http.Response, 1)
	go func() {
		resp, err := srv.Client().Do(r)
		assert.NoError(t, err)
		responses <- resp
	}()
	_, err = io.WriteString(send, "one")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return waiting(t, store, slots) == 1 }, 5*time.Second, time.Millisecond)
	// So that what was sent has been read, and more is awaited: without the pause
	// the test proves less, and fails no sooner.
	time.Sleep(100 * time.Millisecond)
	close(g.leave)
	resp := <-responses
	answer := make([]byte, len("ready\none"))
	_, err = io.ReadFull(resp.Body, answer) // before more is sent
	require.NoError(t, err)
	require.Equal(t, "ready\none", string(answer))
	_, err = io.WriteString(send, "two")
	require.NoError(t, err)
	require.NoError(t, send.Close())
	rest, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "two", string(rest))
	<-first
}

// What is told after a wait is as of its end.
func TestFieldsAfterAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, ratelimit.Config{
			Style: respond.Style{Fields: []respond.FieldWriter{respond.RateLimit}},
			Rules: []ratelimit.Rule{
				{Name: "rate", Key: apiKey, Limits: []policy.Limit{policy.FixedWindow(100, time.Minute)}},
				{Name: "slots", Key: apiKey, Limits: []policy.Limit{policy.Concurrency(1).WithQueue(5, time.Minute)}},
			},
		})
		g := newGate()
		first := begin(l.Handler(g), request("/", "a"))
		<-g.entered
		time.AfterFunc(40*time.Second, func() { close(g.leave) })
		w := get(l.Handler(&served{}), "/", "a")
		require.Contains(t, w.Header().Get("RateLimit"), `"rate";r=98;t=20`)
		<-first
	})
}
