package middleware_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
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

// sent is what a server sends for a request of a client that wants details.
func sent(t *testing.T, h http.Handler, path string) status {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+path, nil)
	require.NoError(t, err)
	r.Header.Set("X-API-Key", "a")
	r.Header.Set("Cost-Debug", "1")
	resp, err := srv.Client().Do(r)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	assert.NoError(t, err)
	assert.NoError(t, resp.Body.Close())
	return read(t, resp)
}

// The fields tell of what was settled, if they are not sent before.
func TestFieldsAfterSettle(t *testing.T) {
	t.Parallel()
	set := func(t *testing.T, r *http.Request, total int64) {
		t.Helper()
		assert.NoError(t, ratelimit.SetCost(r.Context(), "points", total))
	}
	write := func(w http.ResponseWriter) { _, _ = io.WriteString(w, "hello") }
	half := func(_ *http.Request, o ratelimit.Outcome) int64 { return o.Cost / 2 }
	for name, test := range map[string]struct {
		handler func(t *testing.T, w http.ResponseWriter, r *http.Request)
		settle  func(*http.Request, ratelimit.Outcome) int64
		want    status
		used    int64
	}{
		"less": {func(t *testing.T, w http.ResponseWriter, r *http.Request) { set(t, r, 15); write(w) }, nil,
			status{200, 15, 100, 85, "settled=15", ""}, 15},
		"more": {func(t *testing.T, w http.ResponseWriter, r *http.Request) { set(t, r, 90); write(w) }, nil,
			status{200, 90, 100, 10, "settled=90", ""}, 90},
		"a debt": {func(t *testing.T, w http.ResponseWriter, r *http.Request) { set(t, r, 190); write(w) }, nil,
			status{200, 190, 100, 0, "settled=190", ""}, 190},
		"as charged": {func(t *testing.T, w http.ResponseWriter, r *http.Request) { set(t, r, 40); write(w) }, nil,
			status{200, 40, 100, 60, "a=30,b=10", ""}, 40},
		"the last one": {func(t *testing.T, w http.ResponseWriter, r *http.Request) {
			set(t, r, 0)
			set(t, r, 90)
			set(t, r, 20)
			write(w)
		}, nil,
			status{200, 20, 100, 80, "settled=20", ""}, 20},
		"below the minimum": {func(t *testing.T, w http.ResponseWriter, r *http.Request) { set(t, r, 0); write(w) }, nil,
			status{200, 10, 100, 90, "minimum=10", ""}, 10},
		"in parts": {func(t *testing.T, w http.ResponseWriter, r *http.Request) {
			c := ratelimit.Costs{{Name: "a", Points: 30}, {Name: "c", Points: 2}}
			assert.NoError(t, ratelimit.SetCosts(r.Context(), "points", c))
			w.WriteHeader(201)
		}, nil, status{201, 32, 100, 68, "a=30,c=2", ""}, 32},
		"in too few parts": {func(t *testing.T, w http.ResponseWriter, r *http.Request) {
			assert.NoError(t, ratelimit.SetCosts(r.Context(), "points", ratelimit.Costs{{Name: "c", Points: 2}}))
			write(w)
		}, nil, status{200, 10, 100, 90, "c=2,minimum=8", ""}, 10},
		"in no part": {func(t *testing.T, w http.ResponseWriter, r *http.Request) {
			assert.NoError(t, ratelimit.SetCosts(r.Context(), "points", nil))
			write(w)
		}, nil, status{200, 10, 100, 90, "minimum=10", ""}, 10},
		"nothing written": {func(t *testing.T, _ http.ResponseWriter, r *http.Request) { set(t, r, 15) }, nil,
			status{200, 15, 100, 85, "settled=15", ""}, 15},
		"too late": {func(t *testing.T, w http.ResponseWriter, r *http.Request) {
			write(w)
			_ = http.NewResponseController(w).Flush()
			set(t, r, 15)
		}, nil,
			status{200, 40, 100, 60, "a=30,b=10", ""}, 15},
		"refused in what it says": {func(t *testing.T, w http.ResponseWriter, r *http.Request) {
			assert.ErrorContains(t, ratelimit.SetCosts(r.Context(), "points", ratelimit.Costs{{Name: "c", Points: -2}}), `SetCosts("points"): part "c" is negative: -2`)
			assert.ErrorContains(t, ratelimit.SetCosts(r.Context(), "point", nil), `SetCosts: none of the request's Limiters has a rule "point"`)
			write(w)
		}, nil, status{200, 40, 100, 60, "a=30,b=10", ""}, 40},
		"by a value below": {func(t *testing.T, w http.ResponseWriter, r *http.Request) {
			set(t, r.WithContext(context.WithValue(r.Context(), t, 1)), 15)
			write(w)
		}, nil, status{200, 15, 100, 85, "settled=15", ""}, 15},
		"with an end of its own": {func(t *testing.T, w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), time.Hour)
			defer cancel()
			set(t, r.WithContext(ctx), 15)
			write(w)
			_ = http.NewResponseController(w).Flush()
		}, nil, status{200, 40, 100, 60, "a=30,b=10", ""}, 15},
		"with an end of its own, and nothing written": {func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), time.Hour)
			defer cancel()
			set(t, r.WithContext(ctx), 15)
		}, nil, status{200, 15, 100, 85, "settled=15", ""}, 15},
		"in parts, told in the end": {func(t *testing.T, _ http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			c := ratelimit.Costs{{Name: "a", Points: 30}, {Name: "c", Points: 2}}
			assert.NoError(t, ratelimit.SetCosts(ctx, "points", c))
			c[0].Points = 7 // nobody sees it
		}, nil, status{200, 32, 100, 68, "a=30,c=2", ""}, 32},
		"by the outcome": {func(*testing.T, http.ResponseWriter, *http.Request) {}, half,
			status{200, 20, 100, 80, "settled=20", ""}, 20},
		"by the outcome, of what was sent": {func(_ *testing.T, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202) }, half,
			status{202, 40, 100, 60, "a=30,b=10", ""}, 20},
		"by the outcome, below the minimum": {func(t *testing.T, _ http.ResponseWriter, r *http.Request) { set(t, r, 12) }, half,
			status{200, 10, 100, 90, "settled=6,minimum=4", ""}, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := memstore.New(memstore.Options{})
			limit := policy.TokenBucket(100, 100*24*time.Hour)
			rule := ratelimit.Rule{MinCost: 10, Settle: test.settle}
			if name == "in parts" { // a limit that has no minimum
				rule.MinCost = 0
			}
			h := budget(t, store, limit, rule).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { test.handler(t, w, r) }))
			assert.Equal(t, test.want, sent(t, h, "/?a=30&b=10"))
			assert.Equal(t, test.used, used(t, store, "api", "points", hashed("a"), limit))
		})
	}
}

// What stacked limiters wrote is written anew: all that they have told, in their
// styles.
func TestFieldsAfterSettleOfStackedLimiters(t *testing.T) {
	t.Parallel()
	style := respond.Style{Fields: []respond.FieldWriter{respond.Fields{Used: "X-Outer"}}}
	outer := limiter(t, ratelimit.Config{Name: "outer", Style: style, Rules: []ratelimit.Rule{
		{Name: "points", Key: apiKey, Limits: []policy.Limit{policy.PerHour(90)}, Costs: ratelimit.CostsBy(recommendation)},
	}})
	inner := budget(t, memstore.New(memstore.Options{}), policy.PerHour(100), ratelimit.Rule{})
	var total int64
	outside := true
	h := outer.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if !outside {
				assert.NoError(t, ratelimit.SetCost(r.Context(), "points", total))
			}
		})).ServeHTTP(w, r)
		if outside { // also by a middleware between
			assert.NoError(t, ratelimit.SetCost(r.Context(), "points", total))
		}
	}))
	for i, before := range []int64{0, 20, 51} {
		total, outside = []int64{20, 31, 9}[i], i%2 == 0
		w := httptest.NewRecorder()
		h.ServeHTTP(w, request("/?a=10", "a"))
		resp := w.Result()
		assert.Equal(t, fmt.Sprint(before+total), resp.Header.Get("X-Outer"))
		assert.Equal(t, status{Code: 200, Cost: total, Max: 90, Available: 90 - before - total}, read(t, resp), "the tightest of both")
		assert.Equal(t, fmt.Sprint(90-before-total), resp.Header.Get("X-Ratelimit-Remaining"))
	}
}

// A limiter that is met on the way to another response writes none of its fields
// in this one, nor the other way round.
func TestFieldsAfterSettleOfAnotherResponse(t *testing.T) {
	t.Parallel()
	store := memstore.New(memstore.Options{})
	outer := budget(t, store, policy.PerHour(1000), ratelimit.Rule{})
	inner := limiter(t, ratelimit.Config{Name: "inner", Store: store, Style: pointed, Rules: []ratelimit.Rule{
		{Name: "part", Key: apiKey, Limits: []policy.Limit{policy.PerHour(50)}, Costs: ratelimit.CostsBy(recommendation)},
	}})
	part := httptest.NewRecorder()
	h := outer.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		inner.Handler(nothing).ServeHTTP(part, r)
		assert.NoError(t, ratelimit.SetCost(r.Context(), "points", 7))
		assert.NoError(t, ratelimit.SetCost(r.Context(), "part", 8))
	}))
	assert.Equal(t, status{Code: 200, Cost: 7, Max: 1000, Available: 993, Details: "settled=7"}, ask(t, h, "/?a=10"))
	assert.Equal(t, status{Code: 200, Cost: 10, Max: 50, Available: 40, Details: "a=10"}, read(t, part.Result()))
}

// Goroutines beside the handler's may set costs while it writes: after a Hold, and
// with a context that has an end of its own. Run with -race.
func TestSetCostBesideTheHandler(t *testing.T) {
	t.Parallel()
	for name, detach := range map[string]func(ctx context.Context) (context.Context, func()){
		"Hold":        func(ctx context.Context) (context.Context, func()) { return ctx, ratelimit.Hold(ctx) },
		"own context": func(ctx context.Context) (context.Context, func()) { return context.WithCancel(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := memstore.New(memstore.Options{})
			limit := policy.FixedWindow(1_000_000, 366*24*time.Hour)
			ended := make(chan struct{}, 1)
			h := budget(t, store, limit, ratelimit.Rule{}).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, end := detach(r.Context())
				var background sync.WaitGroup
				for i := range 4 {
					background.Go(func() {
						for range 50 {
							err := ratelimit.SetCosts(ctx, "points", ratelimit.Costs{{Name: fmt.Sprint("by ", i), Points: 5}})
							if name == "Hold" {
								assert.NoError(t, err)
							}
						}
					})
				}
				for i := range 200 {
					w.Header().Set(fmt.Sprint("X-Mine-", i%7), "x")
				}
				finish := func() {
					background.Wait()
					end()
					ended <- struct{}{}
				}
				if name == "Hold" {
					go finish()
				} else {
					defer finish()
				}
				w.WriteHeader(200)
				_, _ = io.WriteString(w, "hello")
			}))
			srv := httptest.NewServer(h)
			defer srv.Close()
			for range 20 {
				r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/?a=9", nil)
				require.NoError(t, err)
				r.Header.Set("X-API-Key", "a")
				resp, err := srv.Client().Do(r)
				require.NoError(t, err)
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				<-ended
			}
			require.Eventually(t, func() bool { return used(t, store, "api", "points", hashed("a"), limit) == 100 }, 5*time.Second, time.Millisecond)
		})
	}
}

// A handler that http.TimeoutHandler has given up on goes on in its own goroutine,
// and may set its cost there. Run with -race.
func TestSetCostInATimeoutHandler(t *testing.T) {
	t.Parallel()
	limit := policy.FixedWindow(1_000_000, 366*24*time.Hour)
	for _, outside := range []bool{false, true} {
		t.Run(fmt.Sprint("outside: ", outside), func(t *testing.T) {
			t.Parallel()
			store := memstore.New(memstore.Options{})
			l := budget(t, store, limit, ratelimit.Rule{})
			const requests = 50
			finished := make(chan struct{}, requests)
			slow := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for range 100 {
					_ = ratelimit.SetCost(r.Context(), "points", 5)
				}
				<-r.Context().Done()
				for range 100 {
					_ = ratelimit.SetCost(r.Context(), "points", 6) // an error, once the limiter's handler has returned
				}
				w.WriteHeader(200)
			}))
			timed := func(h http.Handler) http.Handler {
				return http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer func() { finished <- struct{}{} }()
					h.ServeHTTP(w, r)
				}), time.Millisecond, "too slow")
			}
			h := l.Handler(timed(slow))
			if outside {
				h = timed(l.Handler(slow))
			}
			srv := httptest.NewServer(h)
			defer srv.Close()
			for range requests {
				r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/?a=9", nil)
				require.NoError(t, err)
				r.Header.Set("X-API-Key", "a")
				resp, err := srv.Client().Do(r)
				require.NoError(t, err)
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				<-finished
			}
		})
	}
}

// What the fields tell after a settle is what the store says then.
func TestFieldsAfterSettleAreTheStores(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]policy.Limit{
		"bucket":         policy.TokenBucket(70, time.Hour),
		"bucket, burst":  policy.TokenBucket(7, time.Second).WithBurst(100),
		"bucket, slower": policy.TokenBucket(100, time.Hour).WithBurst(30),
		"fixed":          policy.FixedWindow(100, time.Hour),
		"quota":          policy.Quota(100, policy.Monthly),
		"unlimited":      policy.Quota(policy.Unlimited, policy.Monthly),
		"window":         policy.PerMinute(100),
		"log":            policy.SlidingLog(100, time.Minute),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(1, 2))
				store := memstore.New(memstore.Options{})
				var told *respond.Report
				style := respond.Style{Fields: []respond.FieldWriter{recorder{&told}}}
				var units, total int64
				l := limiter(t, ratelimit.Config{Store: store, Style: style, Rules: []ratelimit.Rule{{
					Name: "points", Key: apiKey, Limits: []policy.Limit{limit},
					Cost: func(*http.Request) (int64, error) { return units, nil },
				}}})
				h := l.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					assert.NoError(t, ratelimit.SetCost(r.Context(), "points", total))
				}))
				exact := limit.Algorithm() != policy.AlgorithmSlidingWindow && limit.Algorithm() != policy.AlgorithmSlidingLog
				served := 0
				for range 500 {
					units, total = random.Int64N(30), random.Int64N(60)
					before, err := l.Peek(request("/", "a"))
					require.NoError(t, err)
					if get(h, "/", "a").Code == 200 {
						served++
						units = 0
						after, err := l.Peek(request("/", "a"))
						require.NoError(t, err)
						got, want := told.Standings[0], after.Standings[0].Result
						require.Equal(t, total, got.Cost)
						require.Equal(t, want.Used, got.Result.Used)
						require.Equal(t, want.Remaining, got.Result.Remaining)
						if exact || before.Standings[0].Result.Used == 0 {
							require.Equal(t, want.ResetAfter, got.Result.ResetAfter)
							require.Equal(t, want.NextAfter, got.Result.NextAfter)
						}
					}
					time.Sleep(time.Duration(random.Int64N(int64(20 * time.Second))))
				}
				require.Greater(t, served, 10)
			})
		})
	}
}

// A request with a ledger of its own, as one part of a batch, has a response of its own.
func TestFieldsAfterSettleUnderALedgerOfItsOwn(t *testing.T) {
	t.Parallel()
	l := limiter(t, ratelimit.Config{Rules: []ratelimit.Rule{{Name: "points", Key: apiKey, Limits: []policy.Limit{policy.FixedWindow(100, time.Hour)},
		Settle: func(*http.Request, ratelimit.Outcome) int64 { return 10 }}}})
	h := l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request("/", "a").WithContext(ratelimit.NewLedger(t.Context())))
	assert.Equal(t, "90", w.Header().Get("X-RateLimit-Remaining"))
}
