package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// eventually waits for a condition that something else brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 10*time.Second, 2*time.Millisecond, what)
}

// used peeks at what counts under a charge's limit.
func used(t *testing.T, s policy.Store, c policy.Charge) int64 {
	t.Helper()
	var d policy.Decision
	require.NoError(t, s.Peek(t.Context(), []policy.Charge{c}, &d))
	return d.Results[0].Used
}

// onNode returns a key that the store keeps on a node, and one that it keeps elsewhere.
func onNode(t *testing.T, store *redisstore.Store, addr string) (there, elsewhere string) {
	t.Helper()
	for i := 0; there == "" || elsewhere == ""; i++ {
		require.Less(t, i, 1000)
		c := policy.Charge{Limit: policy.PerHour(100), Key: fmt.Sprint("key", i), Units: 1}
		var d policy.Decision
		require.NoError(t, store.Take(t.Context(), policy.NewTicket(), []policy.Charge{c}, &d)) // so that the node is known
		if store.Node(&c) == addr {
			there = c.Key
		} else {
			elsewhere = c.Key
		}
	}
	return there, elsewhere
}

func byKey(r *http.Request) (string, error) { return r.Header.Get("X-Key"), nil }

func ask(h http.Handler, key string) (status int, took time.Duration) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Key", key)
	w := httptest.NewRecorder()
	start := time.Now()
	h.ServeHTTP(w, r)
	return w.Code, time.Since(start)
}

// A Limiter on a Redis that is frozen or killed: one request or a few pay the budget, and
// the others nothing; within a second of its return it decides again; and what
// was served meanwhile is not charged.
func TestOutage(t *testing.T) {
	for name, fault := range map[string]func(*redistest.Server) (end func()){
		"frozen": func(s *redistest.Server) func() { s.Freeze(); return s.Thaw },
		"killed": func(s *redistest.Server) func() { s.Kill(); return s.Restart },
	} {
		t.Run(name, func(t *testing.T) {
			srv := redistest.Start(t)
			store := redisstore.New(srv.Client(t))
			defer store.Close()
			limit := policy.FixedWindow(1_000_000, 24*time.Hour)
			l, err := ratelimit.New(ratelimit.Config{Store: store, Observe: func(ratelimit.Event) {}, Rules: []ratelimit.Rule{
				{Name: "open", Key: byKey, Limits: []policy.Limit{limit}},
				{Name: "local", Key: byKey, Limits: []policy.Limit{limit}, Fail: ratelimit.FailLocal},
			}})
			require.NoError(t, err)
			defer l.Close()
			h := l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			eventually(t, "the instances are counted", func() bool { return l.Health().Instances == 1 })
			status, _ := ask(h, "alice")
			require.Equal(t, 200, status)

			end := fault(srv)
			for l.Health().OK() {
				status, _ := ask(h, "alice")
				require.Equal(t, 200, status)
			}
			var times []time.Duration
			for stop := time.Now().Add(2 * time.Second); time.Now().Before(stop); time.Sleep(2 * time.Millisecond) {
				status, took := ask(h, "alice")
				require.Equal(t, 200, status)
				times = append(times, took)
			}
			slices.Sort(times)
			p99 := times[len(times)*99/100]
			t.Logf("%d requests, p50 %v, p99 %v, max %v", len(times), times[len(times)/2], p99, times[len(times)-1])
			assert.Less(t, p99, 10*time.Millisecond, "1 ms on a machine that is not busy")
			assert.NotZero(t, l.Health().Bypassed)

			end()
			ended := time.Now()
			for !l.Health().OK() {
				ask(h, "alice")
				time.Sleep(time.Millisecond)
				require.Less(t, time.Since(ended), 5*time.Second)
			}
			t.Logf("back after %v", time.Since(ended))
			assert.Less(t, time.Since(ended), 1500*time.Millisecond, "a second on a machine that is not busy")
			c := policy.Charge{Limit: limit, Scope: policy.NewScope("api", "open"), Key: "bob"}
			status, _ = ask(h, "bob")
			require.Equal(t, 200, status)
			require.Equal(t, int64(1), used(t, store, c))
			c.Key = "alice"
			eventually(t, "what probes took is given back", func() bool { return used(t, store, c) <= 2 })
		})
	}
}

// One node of a cluster is lost. Keys on the others are decided as ever, and nobody
// waits for it.
func TestOutageOfANode(t *testing.T) {
	cluster := redistest.StartCluster(t, "--cluster-require-full-coverage", "no")
	store := redisstore.New(cluster.Client(t))
	defer store.Close()
	lost := cluster.Nodes[1]
	there, elsewhere := onNode(t, store, lost.Addr())
	limit := policy.FixedWindow(1_000_000, 24*time.Hour)
	l, err := ratelimit.New(ratelimit.Config{Store: store, Observe: func(ratelimit.Event) {}, Rules: []ratelimit.Rule{
		{Name: "closed", Key: byKey, Limits: []policy.Limit{limit}, Fail: ratelimit.FailClosed}}})
	require.NoError(t, err)
	defer l.Close()
	h := l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, key := range []string{there, elsewhere} {
		status, _ := ask(h, key)
		require.Equal(t, 200, status)
	}
	lost.Freeze()
	defer lost.Thaw()
	var wg sync.WaitGroup
	var served, refused, other atomic.Int64
	stop := time.Now().Add(2 * time.Second)
	for _, key := range []string{there, there, elsewhere, elsewhere} {
		wg.Go(func() {
			for time.Now().Before(stop) {
				switch status, _ := ask(h, key); {
				case status == 200 && key == elsewhere:
					served.Add(1)
				case status == 503 && key == there:
					refused.Add(1)
				default:
					other.Add(1)
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	t.Logf("%d served, %d refused, %d otherwise", served.Load(), refused.Load(), other.Load())
	assert.Greater(t, served.Load(), int64(200))
	assert.Greater(t, refused.Load(), int64(200), "nobody waits for the lost node")
	assert.LessOrEqual(t, other.Load(), served.Load()/20, "a machine that is busy may miss a budget")
	failing := l.Health().Failing
	require.NotEmpty(t, failing)
	assert.Equal(t, lost.Addr(), failing[0].Node)

	lost.Thaw()
	thawed := time.Now()
	for status := 0; status != 200; status, _ = ask(h, there) {
		require.Less(t, time.Since(thawed), 5*time.Second)
		time.Sleep(time.Millisecond)
	}
	t.Logf("back after %v", time.Since(thawed))
	assert.Less(t, time.Since(thawed), 1500*time.Millisecond)
}

// Limiters of several processes admit the limit together while Redis is away.
func TestShareOfEachInstance(t *testing.T) {
	srv := redistest.Start(t)
	var handlers []http.Handler
	var limiters []*ratelimit.Limiter
	for range 4 {
		store := redisstore.New(srv.Client(t))
		defer store.Close()
		l, err := ratelimit.New(ratelimit.Config{Store: store, Observe: func(ratelimit.Event) {}, Rules: []ratelimit.Rule{
			{Name: "local", Key: byKey, Limits: []policy.Limit{policy.FixedWindow(20, 24*time.Hour)}, Fail: ratelimit.FailLocal}}})
		require.NoError(t, err)
		defer l.Close()
		limiters = append(limiters, l)
		handlers = append(handlers, l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	}
	for _, l := range limiters {
		eventually(t, "all four are counted", func() bool { return l.Health().Instances == 4 })
	}
	srv.Kill()
	got := map[int]int{}
	for _, h := range handlers {
		for range 30 {
			status, _ := ask(h, "alice")
			got[status]++
		}
	}
	require.Equal(t, map[int]int{200: 20, 429: 100}, got)
}
