package middleware_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

func ExampleAdaptive() {
	apiKey := ratelimit.Header("X-API-Key")
	adaptive, err := ratelimit.NewAdaptive(ratelimit.AdaptiveConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Scale: adaptive.Scale(),
		Rules: []ratelimit.Rule{{Name: "per_key", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(100)}}},
	}))
	defer limits.Close()
	r := chi.NewRouter()
	r.Use(limits.Handler, adaptive.Handler)
	r.Get("/items", items)

	call(r, "GET", "/items", "X-API-Key", "alice")
	factor, _ := adaptive.Scale().Get()
	fmt.Println(factor)
	// Output:
	// GET /items: 200, 99 of 100 left
	// 1
}

// health plays steady seconds to an Adaptive whose clock it has.
type health struct {
	*ratelimit.Adaptive
	now time.Time
}

func newHealth(t *testing.T, c ratelimit.AdaptiveConfig) *health {
	t.Helper()
	h := &health{now: time.Unix(1_790_000_000, 0)}
	c.Now = func() time.Time { return h.now }
	a, err := ratelimit.NewAdaptive(c)
	require.NoError(t, err)
	h.Adaptive = a
	return h
}

// seconds plays seconds of 100 requests that take so long, failed of which fail,
// and returns the factor after each.
func (h *health) seconds(n int, latency time.Duration, failed int) (factors []float64) {
	for range n {
		for i := range 100 {
			h.now = h.now.Add(10 * time.Millisecond)
			h.Record(latency, i < failed)
		}
		factor, _ := h.Scale().Get()
		factors = append(factors, factor)
	}
	return factors
}

// factor returns the last of them.
func last(factors []float64) float64 { return factors[len(factors)-1] }

func TestAdaptiveByLatency(t *testing.T) {
	t.Parallel()
	h := newHealth(t, ratelimit.AdaptiveConfig{})
	assert.InDelta(t, 1, slices.Min(h.seconds(60, 50*time.Millisecond, 0)), 0)
	assert.InEpsilon(t, 50*time.Millisecond, h.Level(), 0.13, "a bucket is an eighth of an octave")
	assert.InDelta(t, 1, slices.Min(h.seconds(5, 80*time.Millisecond, 0)), 0, "less than twice the level")

	reduced := h.seconds(4, 120*time.Millisecond, 0)
	assert.Less(t, last(reduced), 0.9)
	assert.Greater(t, reduced[1], 0.5, "by as much as it is slower")
	assert.True(t, slices.IsSortedFunc(reduced, func(a, b float64) int { return -compare(a, b) }), "%v", reduced)
	held := h.seconds(5, 90*time.Millisecond, 0)
	assert.InDelta(t, last(reduced), slices.Min(held), 0, "in between nothing moves")
	assert.InDelta(t, last(reduced), slices.Max(held), 0)
	raised := h.seconds(3, 60*time.Millisecond, 0)
	assert.InDelta(t, 0.15, last(raised)-last(held), 0.051)
	assert.InDelta(t, 1, last(h.seconds(20, 60*time.Millisecond, 0)), 0)

	// Ten times as slow halves it at each step, down to the floor.
	collapsed := h.seconds(10, 500*time.Millisecond, 0)
	assert.InDelta(t, 0.25, collapsed[1], 0.01, "in two steps")
	assert.InDelta(t, 0.1, last(collapsed), 0)
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func TestAdaptiveByFailures(t *testing.T) {
	t.Parallel()
	h := newHealth(t, ratelimit.AdaptiveConfig{Failures: 0.2, Floor: 0.25})
	h.seconds(10, 50*time.Millisecond, 0)
	assert.InDelta(t, 1, slices.Min(h.seconds(5, 50*time.Millisecond, 19)), 0)
	factors := h.seconds(10, 50*time.Millisecond, 30)
	assert.InDelta(t, 0.8, factors[1], 0.2)
	assert.InDelta(t, 0.25, last(factors), 0)
	assert.InDelta(t, 0.25, last(h.seconds(5, 50*time.Millisecond, 15)), 0, "held until it is at most half of that")
	assert.InDelta(t, 1, last(h.seconds(20, 50*time.Millisecond, 9)), 0)
}

// A lasting overload is not taken for the usual; what reducing limits does not
// change is learnt.
func TestAdaptiveLevel(t *testing.T) {
	t.Parallel()
	h := newHealth(t, ratelimit.AdaptiveConfig{Memory: time.Minute})
	h.seconds(60, 50*time.Millisecond, 0)
	level := h.Level()
	h.seconds(2, 150*time.Millisecond, 0)
	h.seconds(1000, 90*time.Millisecond, 0) // reduced, and in between
	assert.Equal(t, level, h.Level())
	factor, _ := h.Scale().Get()
	assert.Less(t, factor, 1.0)

	assert.InDelta(t, 0.1, last(h.seconds(30, 200*time.Millisecond, 0)), 0.1)
	h.seconds(300, 200*time.Millisecond, 0)
	factor, _ = h.Scale().Get()
	assert.InDelta(t, 1, factor, 0, "it is learnt: limits are whole again")
	h.seconds(60, 50*time.Millisecond, 0)
	assert.InEpsilon(t, 50*time.Millisecond, h.Level(), 0.14, "what is better is learnt sooner")
}

// Without requests there is no overload.
func TestAdaptiveIdle(t *testing.T) {
	t.Parallel()
	h := newHealth(t, ratelimit.AdaptiveConfig{})
	h.seconds(10, 50*time.Millisecond, 0)
	h.seconds(20, time.Second, 0)
	factor, _ := h.Scale().Get()
	require.InDelta(t, 0.1, factor, 0)
	h.now = h.now.Add(9 * time.Second)
	factor, _ = h.Scale().Get()
	require.InDelta(t, 0.1, factor, 0, "nothing is known yet")
	h.now = h.now.Add(2 * time.Second)
	factor, _ = h.Scale().Get()
	require.InDelta(t, 0.65, factor, 0.06, "a step for each second")
	h.now = h.now.Add(time.Hour)
	factor, _ = h.Scale().Get()
	require.InDelta(t, 1, factor, 0)

	// A few requests in ten seconds are judged too.
	for range 5 {
		h.now = h.now.Add(2100 * time.Millisecond)
		h.Record(5*time.Second, false)
	}
	factor, _ = h.Scale().Get()
	require.Less(t, factor, 1.0)
}

// Critical rules are scaled last, and raised first.
func TestAdaptiveCritical(t *testing.T) {
	t.Parallel()
	h := newHealth(t, ratelimit.AdaptiveConfig{})
	rec := new(eventLog)
	limits := limiter(t, ratelimit.Config{Scale: h.Scale(), Observe: rec.observe, Rules: []ratelimit.Rule{
		{Name: "pay", Critical: true, Key: apiKey, Limits: []policy.Limit{policy.PerHour(1000)}},
		{Name: "browse", Key: apiKey, Limits: []policy.Limit{policy.PerHour(1000)}},
	}})
	numbers := func() (pay, browse int64) {
		report, err := limits.Peek(request("/", "alice"))
		require.NoError(t, err)
		return report.Standings[0].Result.Limit, report.Standings[1].Result.Limit
	}
	numbers()
	h.seconds(10, 50*time.Millisecond, 0)
	var trace [][2]int64
	for range 12 {
		h.seconds(1, time.Second, 0)
		pay, browse := numbers()
		trace = append(trace, [2]int64{pay, browse})
		if browse > 100 {
			require.EqualValues(t, 1000, pay, "%v", trace)
		}
	}
	require.Equal(t, [2]int64{100, 100}, trace[len(trace)-1])
	for range 60 {
		h.seconds(1, 50*time.Millisecond, 0)
		pay, browse := numbers()
		trace = append(trace, [2]int64{pay, browse})
		if pay < 950 {
			require.EqualValues(t, 100, browse, "%v", trace)
		}
	}
	require.Equal(t, [2]int64{1000, 1000}, trace[len(trace)-1])
	for _, e := range rec.take() {
		require.Equal(t, ratelimit.Rescaled, e.Kind)
	}
}

// What the middleware observes, and what it leaves out.
func TestAdaptiveHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var serve http.HandlerFunc
		a, err := ratelimit.NewAdaptive(ratelimit.AdaptiveConfig{})
		require.NoError(t, err)
		h := a.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r) }))
		// second serves requests for a second and tells what became of the factor.
		second := func(ctx context.Context, handler http.HandlerFunc) float64 {
			serve = handler
			for range 20 {
				time.Sleep(50 * time.Millisecond)
				func() {
					defer func() { _ = recover() }()
					h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(ctx))
				}()
			}
			time.Sleep(time.Second)
			factor, _ := a.Scale().Get()
			return factor
		}
		takes := func(d time.Duration) http.HandlerFunc {
			return func(http.ResponseWriter, *http.Request) { time.Sleep(d) }
		}
		for range 20 {
			require.InDelta(t, 1, second(t.Context(), takes(10*time.Millisecond)), 0)
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		for name, handler := range map[string]http.HandlerFunc{
			"event stream": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
				time.Sleep(time.Second)
			},
			"other protocol": func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusSwitchingProtocols)
				time.Sleep(time.Second)
			},
			"client's fault": func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(10 * time.Millisecond)
				w.WriteHeader(http.StatusBadRequest)
			},
		} {
			require.InDelta(t, 1, second(t.Context(), handler), 0, name)
		}
		fails := func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(10 * time.Millisecond)
			w.WriteHeader(http.StatusBadGateway)
		}
		require.InDelta(t, 1, second(gone, fails), 0, "the client left")
		for name, handler := range map[string]http.HandlerFunc{
			"fails":  fails,
			"slow":   takes(100 * time.Millisecond),
			"panics": func(http.ResponseWriter, *http.Request) { time.Sleep(10 * time.Millisecond); panic("no") },
		} {
			require.Less(t, second(t.Context(), handler), 1.0, name)
			for range 20 {
				second(t.Context(), takes(10*time.Millisecond))
			}
			factor, _ := a.Scale().Get()
			require.InDelta(t, 1, factor, 0)
		}
		require.Less(t, second(gone, takes(100*time.Millisecond)), 1.0, "the client left since it took too long")
	})
}

func TestAdaptiveErrors(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]ratelimit.AdaptiveConfig{
		"Floor": {Floor: 1.5}, "Every": {Every: time.Microsecond}, "Slower": {Slower: 1}, "Failures": {Failures: -1},
		"Memory": {Memory: time.Second}, "Slower NaN": {Slower: math.NaN()},
	} {
		_, err := ratelimit.NewAdaptive(c)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "write")
	}
	a, err := ratelimit.NewAdaptive(ratelimit.AdaptiveConfig{})
	require.NoError(t, err)
	require.ErrorContains(t, a.Scale().Set(t.Context(), 0.5, time.Time{}), "Adaptive's")
}

// A service whose latency grows with what it has under way, and that six times its
// usual load is too much for, comes to rest at a latency near the usual, and is
// released afterwards.
func TestAdaptiveOverload(t *testing.T) {
	t.Parallel()
	const usual, overload = 20, 120 // requests a second: it bears 50
	type second struct {
		served, factor float64
		latency        time.Duration
	}
	// run is as long of the usual, of overload, and of the usual.
	run := func(t *testing.T, adapt bool, each int) (seconds []second) {
		synctest.Test(t, func(t *testing.T) {
			var underWay, served, spent atomic.Int64
			service := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				began := time.Now()
				underWay.Add(1)
				for left := 100.0; left > 0; { // milliseconds of work: five at once are done at full speed
					time.Sleep(50 * time.Millisecond)
					left -= 50 * min(1, 5/float64(underWay.Load()))
				}
				underWay.Add(-1)
				served.Add(1)
				spent.Add(int64(time.Since(began)))
			})
			a, err := ratelimit.NewAdaptive(ratelimit.AdaptiveConfig{})
			require.NoError(t, err)
			c := ratelimit.Config{Rules: []ratelimit.Rule{{Name: "all", Key: apiKey, Limits: []policy.Limit{policy.TokenBucket(overload, time.Second).WithBurst(10)}}}}
			if adapt {
				c.Scale = a.Scale()
			}
			h := limiter(t, c).Handler(a.Handler(service))
			var requests sync.WaitGroup
			defer requests.Wait()
			for s := range 3 * each {
				load := usual
				if s/each == 1 {
					load = overload
				}
				for range load {
					time.Sleep(time.Second / time.Duration(load))
					requests.Go(func() { get(h, "/", "alice") })
				}
				factor, _ := a.Scale().Get()
				n := served.Swap(0)
				seconds = append(seconds, second{float64(n), factor, time.Duration(spent.Swap(0) / max(1, n))})
			}
		})
		return seconds
	}
	adapted, plain := run(t, true, 30), run(t, false, 8)
	mean := func(seconds []second) (m second) {
		for _, s := range seconds {
			m.served += s.served / float64(len(seconds))
			m.latency += s.latency / time.Duration(len(seconds))
			m.factor += s.factor / float64(len(seconds))
		}
		return m
	}
	usually, under, after := mean(adapted[10:30]), mean(adapted[45:60]), mean(adapted[80:])
	t.Logf("usual %+v; overload with %+v, without %+v; after %+v", usually, under, mean(plain[12:16]), after)
	worst := slices.MaxFunc(adapted[45:60], func(a, b second) int { return int(a.latency - b.latency) })
	require.Less(t, worst.latency, 3*usually.latency, "15 seconds into the overload")
	require.Greater(t, under.served, 1.25*usually.served)
	require.Greater(t, mean(plain[12:16]).latency, 5*usually.latency, "4 seconds into it, without")
	require.Less(t, after.latency, usually.latency*11/10, "afterwards")
	require.InDelta(t, 1, adapted[85].factor, 0, "and released")
}

// Requests that hang are slow before they end; streams are not.
func TestAdaptiveHanging(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"hangs": true, "streams": false} {
		synctest.Test(t, func(t *testing.T) {
			a, err := ratelimit.NewAdaptive(ratelimit.AdaptiveConfig{})
			require.NoError(t, err)
			end := make(chan struct{})
			h := a.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(10 * time.Millisecond)
				if r.URL.Path == "/hangs" {
					<-end
				}
				if r.URL.Path == "/streams" {
					w.Header().Set("Content-Type", "text/event-stream")
					w.(http.Flusher).Flush()
					<-end
				}
			}))
			for range 200 {
				get(h, "/", "alice")
				time.Sleep(50 * time.Millisecond)
			}
			var under sync.WaitGroup
			defer under.Wait()
			defer close(end)
			for range 50 {
				under.Go(func() { get(h, "/"+name, "alice") })
			}
			lowest := 1.0
			for range 10 {
				time.Sleep(time.Second)
				factor, _ := a.Scale().Get()
				lowest = min(lowest, factor)
			}
			require.Equal(t, want, lowest < 0.5, "%s: %v", name, lowest)
		})
	}
}
