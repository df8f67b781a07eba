package middleware_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

func TestSetCost(t *testing.T) {
	t.Parallel()
	limit := policy.FixedWindow(100, policy.PerDay(1).Window())
	five := func(*http.Request) (int64, error) { return 5, nil }
	tests := []struct {
		name    string
		handler func(t *testing.T, r *http.Request)
		used    int64 // under the rule "points", of which 5 were charged
		settles int
	}{
		{"more", func(t *testing.T, r *http.Request) { require.NoError(t, ratelimit.SetCost(r.Context(), "points", 40)) }, 40, 1},
		{"beyond the limit", func(t *testing.T, r *http.Request) {
			require.NoError(t, ratelimit.SetCost(r.Context(), "points", 140))
		}, 140, 1},
		{"less", func(t *testing.T, r *http.Request) { require.NoError(t, ratelimit.SetCost(r.Context(), "points", 2)) }, 2, 1},
		{"nothing", func(t *testing.T, r *http.Request) { require.NoError(t, ratelimit.SetCost(r.Context(), "points", 0)) }, 0, 1},
		{"as charged", func(t *testing.T, r *http.Request) { require.NoError(t, ratelimit.SetCost(r.Context(), "points", 5)) }, 5, 0},
		{"the last call holds", func(t *testing.T, r *http.Request) {
			require.NoError(t, ratelimit.SetCost(r.Context(), "points", 70))
			require.NoError(t, ratelimit.SetCost(r.Context(), "points", 7))
		}, 7, 1},
		{"two rules in one call", func(t *testing.T, r *http.Request) {
			require.NoError(t, ratelimit.SetCost(r.Context(), "points", 7))
			require.NoError(t, ratelimit.SetCost(r.Context(), "requests", 2))
		}, 7, 1},
		{"by a context below", func(t *testing.T, r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			require.NoError(t, ratelimit.SetCost(ctx, "points", 9))
		}, 9, 1},
		{"a rule that was skipped", func(t *testing.T, r *http.Request) { require.NoError(t, ratelimit.SetCost(r.Context(), "skipped", 9)) }, 5, 0},
		{"a rule that is not there", func(t *testing.T, r *http.Request) {
			require.EqualError(t, ratelimit.SetCost(r.Context(), "point", 9), `ratelimit: SetCost: none of the request's Limiters has a rule "point"`)
		}, 5, 0},
		{"negative", func(t *testing.T, r *http.Request) {
			require.ErrorContains(t, ratelimit.SetCost(r.Context(), "points", -1), `ratelimit: SetCost("points", -1): write zero or more`)
		}, 5, 0},
		{"another context", func(t *testing.T, _ *http.Request) {
			require.ErrorContains(t, ratelimit.SetCost(t.Context(), "points", 9), "no Limiter has handled this request")
		}, 5, 0},
		{"and then a panic", func(t *testing.T, r *http.Request) {
			require.NoError(t, ratelimit.SetCost(r.Context(), "points", 12))
			panic(http.ErrAbortHandler)
		}, 12, 1},
	}
	for _, stacked := range []bool{false, true} {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				store := newSpy()
				l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{
					{Name: "requests", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(10)}},
					{Name: "points", Key: apiKey, Limits: []policy.Limit{limit}, Cost: five},
					{Name: "skipped", Key: apiKey, Limits: []policy.Limit{limit}, Skip: func(*http.Request) bool { return true }},
				}})
				next := http.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					test.handler(t, r)
					assert.Empty(t, store.settles, "it is sent when the handler has returned")
				}))
				if stacked {
					next = rated(t, store, "inner", policy.PerMinute(10)).Handler(next)
				}
				h := l.Handler(next)
				func() {
					defer func() { _ = recover() }()
					w := get(h, "/", "a")
					assert.Equal(t, 200, w.Code)
				}()
				assert.Equal(t, test.used, used(t, store, "api", "points", hashed("a"), limit))
				assert.Len(t, store.settles, test.settles)
			})
		}
	}
}

func TestSetCostAfterTheHandler(t *testing.T) {
	t.Parallel()
	store := newSpy()
	limit := policy.PerHour(100)
	var kept context.Context
	h := rated(t, store, "api", limit).Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { kept = r.Context() }))
	get(h, "/", "a")
	require.EqualError(t, ratelimit.SetCost(kept, "per_key", 30),
		`ratelimit: SetCost("per_key"): the costs were sent before: set them while the handler runs, or until a Hold ends`)
	assert.EqualValues(t, 1, used(t, store, "api", "per_key", hashed("a"), limit))
	assert.Empty(t, store.settles)
	ratelimit.Hold(kept)() // there is nothing to hold
	require.Error(t, ratelimit.SetCost(kept, "per_key", 30))
}

// What holds a request settles it in the end, once.
func TestHold(t *testing.T) {
	t.Parallel()
	store := newSpy()
	limit := policy.PerHour(100)
	var kept context.Context
	var release, second func()
	inner := limiter(t, ratelimit.Config{Name: "inner", Store: store, Rules: []ratelimit.Rule{{Name: "early", Key: apiKey, Limits: []policy.Limit{limit}}}})
	h := rated(t, store, "api", limit).Handler(inner.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		kept = r.Context()
		release, second = ratelimit.Hold(kept), ratelimit.Hold(kept)
		assert.NoError(t, ratelimit.SetCost(kept, "early", 7))
	})))
	get(h, "/", "a")
	require.NoError(t, ratelimit.SetCost(kept, "per_key", 20))
	second()
	second()
	assert.Empty(t, store.settles)
	require.NoError(t, ratelimit.SetCost(kept, "per_key", 21))
	release()
	assert.EqualValues(t, 7, used(t, store, "inner", "early", hashed("a"), limit))
	assert.EqualValues(t, 21, used(t, store, "api", "per_key", hashed("a"), limit))
	assert.Len(t, store.settles, 2, "one of each limiter")
	require.Error(t, ratelimit.SetCost(kept, "per_key", 30))
	release()
	assert.Len(t, store.settles, 2)
	ratelimit.Hold(t.Context())() // no request's
}

// A client that hangs up does not keep its cost from being settled.
func TestSetCostAfterTheClientHasGone(t *testing.T) {
	t.Parallel()
	store := newSpy()
	store.settle = func(ctx context.Context) error { return ctx.Err() }
	limit := policy.PerHour(100)
	ctx, cancel := context.WithCancel(t.Context())
	h := rated(t, store, "api", limit).Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		assert.NoError(t, ratelimit.SetCost(r.Context(), "per_key", 20))
	}))
	h.ServeHTTP(httptest.NewRecorder(), request("/", "a").WithContext(ctx))
	assert.EqualValues(t, 20, used(t, store, "api", "per_key", hashed("a"), limit))
}
