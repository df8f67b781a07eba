package middleware_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// rated is a Limiter of one rule per API key.
func rated(t *testing.T, store policy.Store, name string, limits ...policy.Limit) *ratelimit.Limiter {
	t.Helper()
	return limiter(t, ratelimit.Config{Name: name, Store: store,
		Rules: []ratelimit.Rule{{Name: "per_key", Key: apiKey, Limits: limits}}})
}

// 10 an hour outside and 2 an hour inside: after 2 served and 10 refused the
// outer one has 8 left.
func TestStackedLimitersActAsOne(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]func(n int64) policy.Limit{
		"window": policy.PerHour,
		"bucket": func(n int64) policy.Limit { return policy.TokenBucket(n, time.Hour) },
		"fixed":  func(n int64) policy.Limit { return policy.FixedWindow(n, time.Hour) },
		"log":    func(n int64) policy.Limit { return policy.SlidingLog(n, time.Hour) },
	} {
		for _, shared := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					outerStore := newSpy()
					innerStore := outerStore
					if !shared {
						innerStore = newSpy()
					}
					outer, inner := rated(t, outerStore, "outer", limits(10)), rated(t, innerStore, "inner", limits(2))
					next := new(served)
					h := outer.Handler(inner.Handler(next))

					assert.Equal(t, map[int]int{200: 2, 429: 10}, statuses(h, "a", 12))
					assert.Equal(t, 2, next.n)
					assert.EqualValues(t, 2, used(t, outerStore, "outer", "per_key", hashed("a"), limits(10)))
					assert.EqualValues(t, 2, used(t, innerStore, "inner", "per_key", hashed("a"), limits(2)))
					require.Len(t, outerStore.settles, 10)
					for _, n := range outerStore.tickets {
						assert.Equal(t, 1, n, "a ticket settles once")
					}

					// Alone, the outer one tells the same.
					report, err := outer.Peek(request("/", "a"))
					require.NoError(t, err)
					assert.EqualValues(t, 8, report.Standings[0].Result.Remaining)
				})
			})
		}
	}
}

func TestStackedHeadersTellTheTightest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newSpy()
		style := respond.Style{Fields: []respond.FieldWriter{respond.XRateLimit, respond.RateLimitDraft11{}}}
		limited := func(name string, limit policy.Limit) *ratelimit.Limiter {
			return limiter(t, ratelimit.Config{Name: name, Store: store, Style: style,
				Rules: []ratelimit.Rule{{Name: name + "_rule", Key: apiKey, Limits: []policy.Limit{limit}}}})
		}
		for name, chain := range map[string]struct{ outer, inner *ratelimit.Limiter }{
			"inner is tighter": {limited("a", policy.FixedWindow(10, time.Hour)), limited("b", policy.FixedWindow(2, time.Hour))},
			"outer is tighter": {limited("c", policy.FixedWindow(2, time.Hour)), limited("d", policy.FixedWindow(10, time.Hour))},
		} {
			h := chain.outer.Handler(chain.inner.Handler(http.HandlerFunc(ok)))
			w := get(h, "/", name)
			assert.Equal(t, []string{"2"}, w.Header()["X-Ratelimit-Limit"], name)
			assert.Equal(t, []string{"1"}, w.Header()["X-Ratelimit-Remaining"], name)
			assert.Equal(t, 2, strings.Count(w.Header().Get("RateLimit"), ";r="), "both policies are told, once each: %q", w.Header().Get("RateLimit"))
			assert.Len(t, w.Header().Values("RateLimit"), 1)
		}
	})
}

// The outer standings of a refusal are those after giving back.
func TestRefusalTellsWhatWasGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct {
			limit policy.Limit
			cost  int64
		}{
			"window":      {policy.PerHour(10), 1},
			"bucket":      {policy.TokenBucket(10, time.Hour), 3},
			"huge bucket": {policy.TokenBucket(1_000_000_000_000, time.Hour), 400_000_000_000},
			"fixed":       {policy.FixedWindow(10, time.Hour), 4},
		} {
			var told *respond.Report
			style := respond.Style{Fields: []respond.FieldWriter{recorder{&told}}}
			cost := func(*http.Request) (int64, error) { return test.cost, nil }
			outer := limiter(t, ratelimit.Config{Name: "outer", Style: style, Rules: []ratelimit.Rule{{Name: "rule", Key: apiKey, Limits: []policy.Limit{test.limit}, Cost: cost}}})
			inner := limiter(t, ratelimit.Config{Name: "inner", Style: style, Rules: []ratelimit.Rule{{Name: "rule", Key: apiKey, Limits: []policy.Limit{policy.PerDay(1)}}}})
			h := outer.Handler(inner.Handler(http.HandlerFunc(ok)))
			require.Equal(t, 200, get(h, "/", "a").Code)
			time.Sleep(time.Second)
			require.Equal(t, 429, get(h, "/", "a").Code)
			require.Len(t, told.Standings, 2, name)
			truth, err := outer.Peek(request("/", "a"))
			require.NoError(t, err)
			got, want := told.Standings[0].Result, truth.Standings[0].Result
			assert.Equal(t, want.Used, got.Used, name)
			assert.Equal(t, want.Remaining, got.Remaining, name)
			assert.InDelta(t, want.ResetAfter, got.ResetAfter, float64(time.Millisecond), name)
			assert.Equal(t, "inner", told.Denial.Standing.Limiter, name)
		}
	})
}

// recorder is a FieldWriter that copies the last report.
type recorder struct{ last **respond.Report }

func (f recorder) WriteFields(_ http.Header, r *respond.Report) {
	c := *r
	c.Standings = append([]respond.Standing(nil), r.Standings...)
	*f.last = &c
}

// What is given back goes where it was taken, under the partition's name too.
func TestGivingBackWithinAPartition(t *testing.T) {
	t.Parallel()
	store := newSpy()
	outer := limiter(t, ratelimit.Config{Name: "outer", Store: store, Rules: []ratelimit.Rule{
		{Name: "per_key", Key: apiKey, Partition: fixed("acme"), Limits: []policy.Limit{policy.PerHour(10)}},
	}})
	inner := rated(t, store, "inner", policy.PerHour(1))
	statuses(outer.Handler(inner.Handler(http.HandlerFunc(ok))), "a", 5)
	report, err := outer.Peek(request("/", "a"))
	require.NoError(t, err)
	assert.EqualValues(t, 1, report.Standings[0].Result.Used)
}

func TestThreeStackedLimiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newSpy()
		a, b, c := rated(t, store, "a", policy.PerHour(10)), rated(t, store, "b", policy.PerHour(5)), rated(t, store, "c", policy.PerHour(2))
		h := a.Handler(b.Handler(c.Handler(http.HandlerFunc(ok))))
		assert.Equal(t, map[int]int{200: 2, 429: 4}, statuses(h, "k", 6))
		assert.EqualValues(t, 2, used(t, store, "a", "per_key", hashed("k"), policy.PerHour(10)))
		assert.EqualValues(t, 2, used(t, store, "b", "per_key", hashed("k"), policy.PerHour(5)))
		// A refusal in the middle gives back what is in front of it, alone.
		assert.Equal(t, map[int]int{200: 3, 429: 1}, statuses(a.Handler(b.Handler(http.HandlerFunc(ok))), "k", 4))
		assert.EqualValues(t, 5, used(t, store, "a", "per_key", hashed("k"), policy.PerHour(10)))
	})
}

// Any refusal gives back, whatever its reason.
func TestInnerFaultsGiveBack(t *testing.T) {
	t.Parallel()
	day := []policy.Limit{policy.PerDay(1)}
	for name, rule := range map[string]ratelimit.Rule{
		"no key":        {Key: failing(ratelimit.ErrNoKey), Limits: day},
		"cost":          {Key: apiKey, Limits: day, Cost: func(*http.Request) (int64, error) { return -1, nil }},
		"too high":      {Key: apiKey, Limits: day, Cost: func(*http.Request) (int64, error) { return 2, nil }},
		"misconfigured": {Key: apiKey, LimitsFor: func(*http.Request) ([]policy.Limit, error) { return nil, errTest }},
		"store":         {Key: apiKey, Limits: day, Fail: ratelimit.FailClosed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outerStore, innerStore := newSpy(), newSpy()
			innerStore.take = func(context.Context) error {
				if name == "store" {
					return errTest
				}
				return nil
			}
			outer := rated(t, outerStore, "outer", policy.PerHour(10))
			rule.Name = "inner"
			var told *respond.Report
			style := respond.Style{Fields: []respond.FieldWriter{respond.XRateLimit, recorder{&told}}}
			inner := limiter(t, ratelimit.Config{Name: "inner", Store: innerStore, Rules: []ratelimit.Rule{rule}, Style: style, Observe: func(ratelimit.Event) {}})
			w := get(outer.Handler(inner.Handler(http.HandlerFunc(ok))), "/", "a")
			assert.GreaterOrEqual(t, w.Code, 400)
			assert.Zero(t, used(t, outerStore, "outer", "per_key", hashed("a"), policy.PerHour(10)))
			assert.WithinDuration(t, time.Now(), told.Now, time.Minute)
			assert.Zero(t, told.Standings[0].Result.ResetAfter)
			assert.Zero(t, told.Standings[0].Result.NextAfter)
			if name != "too high" {
				assert.Equal(t, "10", w.Header().Get("X-RateLimit-Remaining"), "the outer limit as it stands is all there is to tell")
			}
		})
	}
}

func TestMetAgainIsNotCountedAgain(t *testing.T) {
	t.Parallel()
	hour := policy.PerHour(10)
	store, other := newSpy(), newSpy()
	same := rated(t, store, "api", hour)
	tests := []struct {
		name  string
		inner *ratelimit.Limiter
		key   string // of the inner request, if it is another's
		used  int64
	}{
		{name: "the same Limiter", inner: same, used: 1},
		{name: "a Limiter of the same names, store and limit", inner: rated(t, store, "api", hour), used: 1},
		{name: "another name", inner: rated(t, store, "other", hour), used: 1},
		{name: "another limit", inner: rated(t, store, "api", policy.PerMinute(10)), used: 1},
		{name: "another number", inner: rated(t, store, "api", policy.PerHour(9)), used: 2}, // misconfigured; it errs on the strict side
		{name: "another store", inner: rated(t, other, "api", hour), used: 1},
		{name: "another key", inner: same, key: "b", used: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			key := test.name
			h := same.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if test.key != "" {
					r = r.Clone(r.Context())
					r.Header.Set("X-API-Key", test.key)
				}
				test.inner.Handler(http.HandlerFunc(ok)).ServeHTTP(w, r)
			}))
			require.Equal(t, 200, get(h, "/", key).Code)
			assert.Equal(t, test.used, used(t, store, "api", "per_key", hashed(key), hour))
			if test.key != "" {
				assert.EqualValues(t, 1, used(t, store, "api", "per_key", hashed(test.key), hour))
			}
		})
	}
	assert.EqualValues(t, 1, used(t, other, "api", "per_key", hashed("another store"), hour))

	// Each request counts, of course.
	h := same.Handler(same.Handler(http.HandlerFunc(ok)))
	assert.Equal(t, map[int]int{200: 10, 429: 2}, statuses(h, "twice", 12))
}

func TestNewLedgerStartsAfresh(t *testing.T) {
	t.Parallel()
	store := newSpy()
	hour := policy.PerHour(3)
	l := rated(t, store, "api", hour)
	internal := l.Handler(http.HandlerFunc(ok))
	h := l.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 3 { // parts of a batch
			internal.ServeHTTP(httptest.NewRecorder(), r.WithContext(ratelimit.NewLedger(r.Context())))
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	assert.Equal(t, 204, get(h, "/", "a").Code)
	assert.EqualValues(t, 3, used(t, store, "api", "per_key", hashed("a"), hour), "one for the request, two for parts; the third part was refused and gave nothing of it back")
	assert.Empty(t, store.settles)
}

// The context that handlers get is a full context, and leads to its parent.
func TestLedgerIsAContext(t *testing.T) {
	t.Parallel()
	l := rated(t, newSpy(), "api", policy.PerHour(3))
	ctx, cancel := context.WithCancelCause(context.WithValue(context.Background(), contextKey("k"), "v"))
	var kept context.Context
	h := l.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		kept = r.Context()
		child, stop := context.WithTimeout(kept, time.Hour)
		defer stop()
		assert.Equal(t, "v", child.Value(contextKey("k")))
		cancel(errTest)
		<-child.Done()
		assert.ErrorIs(t, context.Cause(child), errTest)
	}))
	h.ServeHTTP(httptest.NewRecorder(), request("/", "a").WithContext(ctx))
	assert.Equal(t, "v", kept.Value(contextKey("k")))
	require.ErrorIs(t, kept.Err(), context.Canceled)
}

func TestConcurrentUseOfOneRequest(t *testing.T) {
	t.Parallel()
	store := newSpy()
	outer, inner := rated(t, store, "outer", policy.PerHour(1000)), rated(t, store, "inner", policy.PerHour(5))
	h := outer.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				inner.Handler(http.HandlerFunc(ok)).ServeHTTP(httptest.NewRecorder(), r)
				_, err := inner.Check(r)
				assert.NoError(t, err)
				// It may have been given back by then.
				_ = ratelimit.SetCost(r.Context(), "per_key", 2)
				_, err = inner.Peek(r)
				assert.NoError(t, err)
			})
		}
		wg.Wait()
	}))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { statuses(h, "a", 5) })
	}
	wg.Wait()
	for ticket, n := range store.tickets {
		assert.Equal(t, 1, n, "ticket %s", ticket)
	}
}

// Requests of many keys at once are admitted exactly.
func TestConcurrentRequests(t *testing.T) {
	t.Parallel()
	h := rated(t, newSpy(), "api", policy.FixedWindow(50, 24*time.Hour)).Handler(http.HandlerFunc(ok))
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := map[string]map[int]int{"a": {}, "b": {}, "c": {}}
	for key := range total {
		for range 4 {
			wg.Go(func() {
				got := statuses(h, key, 40)
				mu.Lock()
				defer mu.Unlock()
				for status, n := range got {
					total[key][status] += n
				}
			})
		}
	}
	wg.Wait()
	for key, got := range total {
		assert.Equal(t, map[int]int{200: 50, 429: 110}, got, key)
	}
}
