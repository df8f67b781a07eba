package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"sync"
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

func ExampleScale() {
	scale := ratelimit.NewScale()
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Scale: scale,
		Rules: []ratelimit.Rule{{Name: "per_key", Key: ratelimit.Header("X-API-Key"), Limits: []policy.Limit{policy.PerHour(100)}}},
	}))
	defer limits.Close()
	h := limits.Handler(http.HandlerFunc(items))

	call(h, "GET", "/items", "X-API-Key", "alice")
	_ = scale.Set(context.Background(), 0.5, time.Now().Add(10*time.Minute))
	call(h, "GET", "/items", "X-API-Key", "alice")
	_ = scale.Set(context.Background(), 1, time.Time{})
	call(h, "GET", "/items", "X-API-Key", "alice")
	// Output:
	// GET /items: 200, 99 of 100 left
	// GET /items: 200, 48 of 50 left
	// GET /items: 200, 97 of 100 left
}

func ExampleNewSharedScale() {
	store := memstore.New(memstore.Options{}) // a redisstore, for processes to share it
	defer store.Close()
	scale, err := ratelimit.NewSharedScale("load", store)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer scale.Close()
	elsewhere, _ := ratelimit.NewSharedScale("load", store)
	defer elsewhere.Close()

	_ = elsewhere.Set(context.Background(), 0.25, time.Now().Add(time.Hour))
	factor, until := scale.Get()
	fmt.Println(factor, time.Until(until).Round(time.Minute))
	// Output: 0.25 1h0m0s
}

func ExampleScale_Set() {
	scale := ratelimit.NewScale()
	fmt.Println(scale.Set(context.Background(), 1.5, time.Time{}))
	// Output: ratelimit: scale by 1.5: write a factor above 0, and up to 1
}

// The snippet of README.md.
func Example_scale() {
	ctx := context.Background()
	store := memstore.New(memstore.Options{})
	defer store.Close()
	rules := []ratelimit.Rule{{Name: "per_key", Key: ratelimit.Header("X-API-Key"), Limits: []policy.Limit{policy.PerHour(100)}}}
	reduce := func() error {
		scale, err := ratelimit.NewSharedScale("load", store) // or NewScale(), of this process alone
		if err != nil {
			return err
		}
		limits, err := ratelimit.New(ratelimit.Config{Store: store, Scale: scale, Rules: rules})
		if err != nil {
			return err
		}
		err = scale.Set(ctx, 0.5, time.Now().Add(10*time.Minute)) // half of all rates and bursts, in all processes
		call(limits.Handler(http.HandlerFunc(items)), "GET", "/items", "X-API-Key", "alice")
		return err
	}
	if err := reduce(); err != nil {
		fmt.Println(err)
	}
	// Output: GET /items: 200, 49 of 50 left
}

// eventLog keeps events but those of allowed requests.
type eventLog struct {
	mu     sync.Mutex
	events []ratelimit.Event
}

func (r *eventLog) observe(e ratelimit.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Kind != ratelimit.Allowed {
		r.events = append(r.events, e)
	}
}

func (r *eventLog) take() []ratelimit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

// A factor applies at the next request, is multiplied with the rule's, keeps what
// was used, and ends when it is to end.
func TestScaleApplies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, all, own := t.Context(), ratelimit.NewScale(), ratelimit.NewScale()
		rec := new(eventLog)
		l := limiter(t, ratelimit.Config{
			Name: "api", Scale: all, Observe: rec.observe,
			Rules: []ratelimit.Rule{
				{Name: "both", Key: apiKey, Scale: own, Limits: []policy.Limit{policy.TokenBucket(100, time.Hour).WithBurst(200)}},
				{Name: "one", Key: apiKey, Limits: []policy.Limit{policy.PerHour(1000), policy.Quota(1000, policy.Daily), policy.Concurrency(100)}},
				// Nothing to scale, and nothing to tell of it.
				{Name: "bought", Key: apiKey, Limits: []policy.Limit{policy.Quota(1000, policy.Monthly)}},
				{Name: "guard", Key: apiKey, Limits: []policy.Limit{policy.Lockout(10, time.Hour)}},
			},
		})
		h := l.Handler(new(served))
		shown := func() string {
			w := httptest.NewRecorder()
			l.Limits().ServeHTTP(w, request("/", "alice"))
			return w.Body.String()
		}
		get(h, "/", "alice")
		assert.JSONEq(t, `{"api":{"both":{"limit":100,"remaining":199},
			"one/window-1h":{"limit":1000,"remaining":999},"one/slots":{"limit":100,"remaining":100}}}`, shown())

		require.NoError(t, all.Set(ctx, 0.5, time.Now().Add(time.Minute)))
		require.NoError(t, own.Set(ctx, 0.1, time.Time{}))
		w := get(h, "/", "alice")
		assert.Equal(t, "5", w.Header().Get("X-Ratelimit-Limit"))
		assert.Equal(t, "8", w.Header().Get("X-Ratelimit-Remaining"))
		assert.JSONEq(t, `{"api":{"both":{"limit":5,"remaining":8,"whole":100},
			"one/window-1h":{"limit":500,"remaining":498,"whole":1000},"one/slots":{"limit":100,"remaining":100}}}`, shown())
		assert.Equal(t, []ratelimit.Event{
			{Kind: ratelimit.Rescaled, Limiter: "api", Rule: "both", Factor: 0.05},
			{Kind: ratelimit.Rescaled, Limiter: "api", Rule: "one", Factor: 0.5},
		}, rec.take(), "once a change")

		time.Sleep(time.Minute - time.Microsecond)
		factor, until := all.Get()
		assert.InDelta(t, 0.5, factor, 0)
		assert.Equal(t, time.Microsecond, time.Until(until))
		time.Sleep(time.Microsecond)
		factor, until = all.Get()
		assert.InDelta(t, 1, factor, 0)
		assert.Zero(t, until)
		assert.Equal(t, "10", get(h, "/", "alice").Header().Get("X-Ratelimit-Limit"))

		time.Sleep(policy.MaxScale)
		assert.Equal(t, "100", get(h, "/", "alice").Header().Get("X-Ratelimit-Limit"), "nothing is kept for ever")
		kinds := rec.take()
		require.NotEmpty(t, kinds)
		assert.Equal(t, ratelimit.Event{Kind: ratelimit.Rescaled, Limiter: "api", Rule: "both", Factor: 1}, kinds[len(kinds)-1])
	})
}

// What only the reduced limit refuses says so; what the whole one would refuse too
// does not.
func TestReducedRefusals(t *testing.T) {
	t.Parallel()
	for name, style := range map[string]respond.Style{"429": {}, "503": {ReducedStatus: 503}, "409": {Status: 409}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scale, rec := ratelimit.NewScale(), new(eventLog)
			h := limiter(t, ratelimit.Config{
				Scale: scale, Style: style, Observe: rec.observe,
				Rules: []ratelimit.Rule{{Name: "points", Key: apiKey, Limits: []policy.Limit{policy.TokenBucket(10, time.Hour)}}},
			}).Handler(new(served))
			require.NoError(t, scale.Set(t.Context(), 0.5, time.Time{}))
			require.Equal(t, 200, get(h, "/", "alice").Code)
			for range 4 {
				get(h, "/", "alice")
			}
			w := get(h, "/", "alice")
			assert.Equal(t, name, fmt.Sprint(w.Code))
			assert.Contains(t, w.Body.String(), "#temporary-reduced-capacity")
			assert.Contains(t, w.Body.String(), `"detail":"Over the limit of 5 per hour, which is reduced for a while."`)
			assert.Contains(t, w.Body.String(), `"code":"rate_limit_exceeded"`)
			assert.NotEmpty(t, w.Header().Get("Retry-After"))
			events := rec.take()
			e := events[len(events)-1]
			assert.True(t, e.Reduced)
			assert.Equal(t, "5 per hour, burst 5, reduced from 10", e.Limit.String())
			require.NoError(t, scale.Set(t.Context(), 1, time.Time{}))
			for range 5 {
				require.Equal(t, 200, get(h, "/", "alice").Code)
			}
			w = get(h, "/", "alice")
			require.NoError(t, scale.Set(t.Context(), 0.5, time.Time{}))
			for _, w := range []*httptest.ResponseRecorder{w, get(h, "/", "alice")} {
				assert.Contains(t, w.Body.String(), "#quota-exceeded")
				assert.NotEqual(t, 503, w.Code)
			}
			events = rec.take()
			assert.False(t, events[len(events)-1].Reduced)
		})
	}
}

// A cost beyond the reduced capacity is no 413: it is admitted once nothing is
// used, after the Retry-After that was said.
func TestReducedCosts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		scale := ratelimit.NewScale()
		cost := int64(1)
		h := limiter(t, ratelimit.Config{
			Scale: scale, Rules: []ratelimit.Rule{{
				Name: "points", Key: apiKey, Limits: []policy.Limit{policy.TokenBucket(100, 100*time.Second)},
				Cost: func(*http.Request) (int64, error) { return cost, nil },
			}},
		}).Handler(new(served))
		require.NoError(t, scale.Set(t.Context(), 0.5, time.Time{}))
		require.Equal(t, 200, get(h, "/", "alice").Code)
		cost = 100
		w := get(h, "/", "alice")
		require.Equal(t, 429, w.Code)
		require.Equal(t, "2", w.Header().Get("Retry-After"))
		time.Sleep(2 * time.Second)
		require.Equal(t, 200, get(h, "/", "alice").Code)
		cost = 101
		require.Equal(t, 413, get(h, "/", "alice").Code)
	})
}

// A factor that moves while a request is on its way charges it once.
func TestScaleMovesWithinARequest(t *testing.T) {
	t.Parallel()
	scale := ratelimit.NewScale()
	l := limiter(t, ratelimit.Config{Scale: scale, Rules: []ratelimit.Rule{{Name: "per_key", Key: apiKey, Limits: []policy.Limit{policy.PerHour(100)}}}})
	h := l.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.NoError(t, scale.Set(r.Context(), 0.5, time.Time{}))
		l.Handler(new(served)).ServeHTTP(w, r)
	}))
	assert.Equal(t, "99", get(h, "/", "alice").Header().Get("X-Ratelimit-Remaining"))
	assert.Equal(t, "48", get(h, "/", "alice").Header().Get("X-Ratelimit-Remaining"))
}

func TestScaleErrors(t *testing.T) {
	t.Parallel()
	scale := ratelimit.NewScale()
	for _, factor := range []float64{0, -1, 1.01, math.NaN(), math.Inf(1)} {
		require.ErrorContains(t, scale.Set(t.Context(), factor, time.Time{}), "write a factor above 0, and up to 1")
	}
	for _, until := range []time.Time{time.Now().Add(-time.Second), time.Now().Add(2 * policy.MaxScale)} {
		require.ErrorContains(t, scale.Set(t.Context(), 0.5, until), "write 1ms to")
		require.NoError(t, scale.Set(t.Context(), 1, until), "1 ends at once")
	}
	_, err := ratelimit.NewSharedScale("load", newSpy()) // it hides what its store is besides
	require.ErrorContains(t, err, "write a store that is a policy.Scaler")
	store := memstore.New(memstore.Options{})
	_, err = ratelimit.NewSharedScale("a b", store)
	require.ErrorContains(t, err, "write letters")
	shared, err := ratelimit.NewSharedScale("load", store)
	require.NoError(t, err)
	require.NoError(t, shared.Set(t.Context(), 0.5, time.Time{}))
	require.NoError(t, store.Close())
	err = shared.Set(t.Context(), 0.7, time.Time{})
	require.True(t, errors.Is(err, policy.ErrClosed), err)
	factor, _ := shared.Get()
	assert.InDelta(t, 0.5, factor, 0, "what was last known")
	require.NoError(t, shared.Close())
	style := respond.Style{ReducedStatus: 500}
	require.ErrorContains(t, style.Validate(), "write zero, or 503")
}

// A request under a scale allocates no more than one without.
func TestScaleAllocatesNothing(t *testing.T) {
	scale := ratelimit.NewScale()
	allocations := func(s *ratelimit.Scale) float64 {
		h := limiter(t, ratelimit.Config{Scale: s, Rules: []ratelimit.Rule{{Name: "per_key", Key: apiKey, Limits: []policy.Limit{policy.PerHour(1e9)}}}}).Handler(new(served))
		r, w := request("/", "alice"), httptest.NewRecorder()
		least := math.Inf(1) // of many: under the race detector pools forget at random
		for range 200 {
			least = min(least, testing.AllocsPerRun(1, func() { h.ServeHTTP(w, r) }))
		}
		return least
	}
	require.NoError(t, scale.Set(t.Context(), 0.5, time.Time{}))
	require.InDelta(t, allocations(nil), allocations(scale), 0)
}
