package middleware_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
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

// undecided is a store that answers neither a decision nor an error.
type undecided struct{ policy.Store }

func (undecided) Take(context.Context, policy.Ticket, []policy.Charge, *policy.Decision) error {
	return nil
}

func TestStoreFails(t *testing.T) {
	t.Parallel()
	closed := memstore.New(memstore.Options{})
	require.NoError(t, closed.Close())
	failed := newSpy()
	failed.take = func(context.Context) error { return errTest }
	slow := newSpy()
	slow.take = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	stores := map[string]struct {
		store policy.Store
		err   error
	}{
		"error":       {failed, errTest},
		"closed":      {closed, policy.ErrClosed},
		"no decision": {undecided{}, nil},
		"slow":        {slow, context.DeadlineExceeded},
	}
	open := ratelimit.Rule{Name: "open", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(10)}}
	shut := open
	shut.Name, shut.Fail = "closed", ratelimit.FailClosed
	for name, failure := range stores {
		t.Run(name+", open", func(t *testing.T) {
			t.Parallel()
			var seen events
			next := new(served)
			l := limiter(t, ratelimit.Config{Store: failure.store, Rules: []ratelimit.Rule{open}, Observe: seen.observe})
			w := get(l.Handler(next), "/", "a")
			assert.Equal(t, 200, w.Code)
			assert.Equal(t, 1, next.n)
			assert.Empty(t, w.Header(), "there is nothing to tell")
			assert.Equal(t, []ratelimit.Kind{ratelimit.Bypassed}, seen.decisions())
			require.Error(t, seen.last(t).Err)
			if failure.err != nil {
				require.ErrorIs(t, seen.last(t).Err, failure.err)
			}

			report, err := l.Check(request("/", "a"))
			require.Error(t, err)
			assert.Nil(t, report.Denial)
			assert.Empty(t, report.Standings)
		})
		t.Run(name+", closed", func(t *testing.T) {
			t.Parallel()
			var seen events
			next := new(served)
			l := limiter(t, ratelimit.Config{Store: failure.store, Rules: []ratelimit.Rule{open, shut}, Observe: seen.observe})
			w := get(l.Handler(next), "/", "a")
			assert.Equal(t, 503, w.Code, "never a 429")
			assert.Zero(t, next.n)
			assert.Equal(t, "1", w.Header().Get("Retry-After"))
			assert.Contains(t, w.Body.String(), "store_unavailable")
			assert.NotContains(t, w.Body.String(), "test error")
			assert.Equal(t, []ratelimit.Kind{ratelimit.Refused}, seen.decisions())
			e := seen.last(t)
			assert.Equal(t, "closed", e.Rule)
			assert.Equal(t, respond.StoreUnavailable, e.Reason)
			require.Error(t, e.Err)

			report, err := l.Check(request("/", "a"))
			require.Error(t, err)
			assert.Equal(t, 503, report.Denial.Status)
		})
	}
}

// SetCost in a request that was bypassed is no fault of the handler's.
func TestSetCostOfABypassedRule(t *testing.T) {
	t.Parallel()
	store := newSpy()
	store.take = func(context.Context) error { return errTest }
	l := limiter(t, ratelimit.Config{Store: store, Observe: func(ratelimit.Event) {}, Rules: []ratelimit.Rule{
		{Name: "open", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(10)}}}})
	get(l.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		assert.NoError(t, ratelimit.SetCost(r.Context(), "open", 3))
		assert.Error(t, ratelimit.SetCost(r.Context(), "other", 3))
	})), "/", "a")
	assert.Empty(t, store.settles)
}

func TestBudget(t *testing.T) {
	t.Parallel()
	for _, budget := range []time.Duration{0, 10 * time.Millisecond} {
		want := budget
		if want == 0 {
			want = 50 * time.Millisecond
		}
		t.Run(want.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newSpy()
				store.take = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
				l := limiter(t, ratelimit.Config{Store: store, Budget: budget, Observe: func(ratelimit.Event) {},
					Rules: []ratelimit.Rule{{Name: "open", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(10)}}}})
				start := time.Now()
				get(l.Handler(http.HandlerFunc(ok)), "/", "a")
				assert.Equal(t, want, time.Since(start))
			})
		})
	}
}

// A refusal waits for giving back no longer than the budget.
func TestGivingBackKeepsTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen events
		store := newSpy()
		store.settle = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		outer := limiter(t, ratelimit.Config{Store: store, Name: "outer", Observe: seen.observe,
			Rules: []ratelimit.Rule{{Name: "rule", Key: apiKey, Limits: []policy.Limit{policy.PerHour(10)}}}})
		inner := rated(t, memstore.New(memstore.Options{}), "inner", policy.PerHour(1))
		h := outer.Handler(inner.Handler(http.HandlerFunc(ok)))
		get(h, "/", "a")
		start := time.Now()
		w := get(h, "/", "a")
		assert.Equal(t, 429, w.Code)
		assert.Equal(t, 50*time.Millisecond, time.Since(start))
		e := seen.last(t)
		assert.Equal(t, ratelimit.SettleFailed, e.Kind)
		assert.Equal(t, "outer", e.Limiter)
		require.ErrorIs(t, e.Err, context.DeadlineExceeded)
	})
}

// A client that has gone is neither served nor refused, and charged nothing.
func TestClientHasGone(t *testing.T) {
	t.Parallel()
	hour := policy.PerHour(1)
	for _, when := range []string{"before", "during", "during, and it would be refused", "during, and the store fails", "in the inner"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			var seen events
			store, next := newSpy(), new(served)
			l := limiter(t, ratelimit.Config{Name: "api", Store: store, Observe: seen.observe,
				Rules: []ratelimit.Rule{{Name: "per_key", Key: apiKey, Limits: []policy.Limit{hour}, Fail: ratelimit.FailClosed}}})
			h := l.Handler(next)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			wantUsed, wantKinds := int64(0), []ratelimit.Kind{ratelimit.Abandoned}
			switch when {
			case "before":
				cancel()
			case "during, and it would be refused":
				get(h, "/", "a")
				next.n, wantUsed, wantKinds = 0, 1, []ratelimit.Kind{ratelimit.Allowed, ratelimit.Abandoned}
				fallthrough
			case "during":
				store.take = func(ctx context.Context) error { cancel(); return ctx.Err() } // ctx does not inherit it
			case "during, and the store fails":
				store.take = func(context.Context) error { cancel(); return errTest }
			case "in the inner":
				inner := newSpy()
				inner.take = func(ctx context.Context) error { cancel(); return ctx.Err() }
				h = l.Handler(rated(t, inner, "inner", hour).Handler(next))
				wantKinds = []ratelimit.Kind{ratelimit.Allowed}
				defer func() {
					assert.Zero(t, used(t, inner, "inner", "per_key", hashed("a"), hour))
				}()
			}
			w := httptest.NewRecorder()
			w.Code = 0
			h.ServeHTTP(w, request("/", "a").WithContext(ctx))
			assert.Zero(t, next.n)
			assert.Equal(t, http.StatusServiceUnavailable, w.Code, "silence would read as success")
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			assert.Empty(t, w.Body.String())
			if when != "in the inner" {
				assert.Len(t, w.Header(), 1)
			}
			assert.Equal(t, wantUsed, used(t, store, "api", "per_key", hashed("a"), hour))
			assert.Equal(t, wantKinds, seen.kinds())
			if when == "before" {
				assert.Zero(t, store.takes, "nothing is asked for it")
			}
		})
	}
}

func TestCheckForAClientThatHasGone(t *testing.T) {
	t.Parallel()
	store := newSpy()
	ctx, cancel := context.WithCancel(t.Context())
	store.take = func(context.Context) error { cancel(); return nil }
	_, err := rated(t, store, "api", policy.PerHour(1)).Check(request("/", "a").WithContext(ctx))
	require.ErrorIs(t, err, context.Canceled)
	assert.Zero(t, used(t, store, "api", "per_key", hashed("a"), policy.PerHour(1)))
}

// An Overflow is told beside the decision.
func TestOverflowIsTold(t *testing.T) {
	t.Parallel()
	var seen events
	l := limiter(t, ratelimit.Config{Store: overflowing{memstore.New(memstore.Options{})}, Observe: seen.observe,
		Rules: []ratelimit.Rule{{Name: "per_key", Key: apiKey, Limits: []policy.Limit{policy.PerHour(1)}}}})
	get(l.Handler(http.HandlerFunc(ok)), "/", "a")
	require.Equal(t, []ratelimit.Kind{ratelimit.Overflowed, ratelimit.Allowed}, seen.kinds())
	assert.Equal(t, "per_key", seen.all[0].Rule)
	assert.Equal(t, policy.PerHour(1), seen.all[0].Limit)
}

type overflowing struct{ policy.Store }

func (o overflowing) Take(ctx context.Context, ticket policy.Ticket, charges []policy.Charge, d *policy.Decision) error {
	err := o.Store.Take(ctx, ticket, charges, d)
	d.Results[0].Overflow = true
	return err
}

// Where nobody observes, failures are logged, at most once a second. It cannot
// run beside other tests, since it replaces the default logger.
func TestFailuresAreLogged(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	synctest.Test(t, func(t *testing.T) {
		store := newSpy()
		store.take = func(context.Context) error { return errTest }
		h := rated(t, store, "api", policy.PerMinute(1)).Handler(http.HandlerFunc(ok))
		for range 5 {
			get(h, "/", "s3cret")
			time.Sleep(time.Second / 4)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		require.Len(t, lines, 2, log.String())
		assert.Contains(t, lines[0], `level=WARN msg="rate limits: bypassed" limiter=api`)
		assert.Contains(t, lines[0], `error="test error"`)
		assert.Contains(t, lines[0], "suppressed=0")
		assert.Contains(t, lines[1], "suppressed=3")
		assert.NotContains(t, log.String(), "s3cret")
		assert.NotContains(t, log.String(), hashed("s3cret"))

		// What clients do wrong, and what limits decide, is not logged.
		store.take = nil
		time.Sleep(time.Second)
		statuses(h, "b", 1) // the store is back
		log.Reset()
		time.Sleep(time.Second)
		statuses(h, "a", 2)
		get(h, "/", "")
		assert.Empty(t, log.String())
	})
}
