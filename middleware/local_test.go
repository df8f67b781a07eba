package middleware_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
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

// While the store is away each of three instances admits a third, in memory. When it
// is back it counts as if nothing had been.
func TestFailLocal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen events
		store := newSpy()
		limit := policy.FixedWindow(10, time.Hour)
		l := limiter(t, ratelimit.Config{Store: store, Instances: 3, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, limit)}, Observe: seen.observe})
		h := l.Handler(http.HandlerFunc(ok))
		assert.Equal(t, map[int]int{200: 4}, statuses(h, "a", 4))
		assert.Equal(t, 3, l.Health().Instances)

		store.fail(hangs)
		w := get(h, "/", "a")
		assert.Equal(t, 200, w.Code)
		assert.Equal(t, "3", w.Header().Get("X-RateLimit-Limit"), "the share is what is true now")
		assert.Equal(t, "2", w.Header().Get("X-RateLimit-Remaining"))
		assert.Equal(t, ratelimit.Localized, seen.last(t).Kind)
		require.Error(t, seen.last(t).Err)
		assert.Equal(t, map[int]int{200: 2, 429: 5}, statuses(h, "a", 7))
		e := seen.last(t)
		assert.Equal(t, ratelimit.Refused, e.Kind)
		assert.Equal(t, respond.RateLimitExceeded, e.Reason)
		assert.Equal(t, "per_key", e.Rule)
		assert.EqualValues(t, 3, e.Limit.N())
		w = get(h, "/", "a")
		assert.NotEmpty(t, w.Header().Get("Retry-After"))
		assert.Contains(t, w.Body.String(), "rate_limit_exceeded", "a limit refused, and not the store's error")
		assert.Equal(t, 200, get(h, "/", "b").Code, "another key")
		report, err := l.Peek(request("/", "a"))
		require.Error(t, err)
		require.NotNil(t, report.Denial)
		assert.Equal(t, 429, report.Denial.Status)
		report, err = l.Peek(request("/", "b"))
		require.Error(t, err)
		require.Nil(t, report.Denial)
		assert.EqualValues(t, 2, report.Standings[0].Result.Remaining)
		assert.EqualValues(t, 10, l.Health().Local)
		assert.Zero(t, l.Health().Bypassed)

		store.fail(nil)
		for !l.Health().OK() {
			time.Sleep(100 * time.Millisecond)
			get(h, "/", "b")
		}
		synctest.Wait()
		assert.EqualValues(t, 4, used(t, store, "api", "per_key", hashed("a"), limit), "what was admitted meanwhile is not charged")
		assert.Equal(t, map[int]int{200: 6, 429: 1}, statuses(h, "a", 7))
	})
}

// Limiters that count together do so in memory too, in any order of coming and going.
func TestFailLocalOfTwoLimiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newSpy()
		config := func(name string, store policy.Store) ratelimit.Config {
			return ratelimit.Config{Name: name, Store: store, Instances: 2, Observe: func(ratelimit.Event) {},
				Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, policy.FixedWindow(10, time.Hour))}}
		}
		one := limiter(t, config("api", store))
		two := ratelimit.Must(ratelimit.New(config("api", store)))
		other, unlike := limiter(t, config("other", store)), limiter(t, config("api", newSpy()))
		store.fail(hangs)
		served := func(l *ratelimit.Limiter) int { return statuses(l.Handler(http.HandlerFunc(ok)), "a", 10)[200] }
		assert.Equal(t, 3, statuses(two.Handler(http.HandlerFunc(ok)), "a", 3)[200])
		assert.Equal(t, 2, served(one))
		assert.Equal(t, 0, served(two))
		assert.Equal(t, 5, served(other), "under another name it counts by itself")
		assert.Equal(t, 10, served(unlike), "and over another store")
		require.NoError(t, two.Close())
		require.NoError(t, two.Close())
		assert.Equal(t, 0, served(one))
		three := ratelimit.Must(ratelimit.New(config("api", store)))
		assert.Equal(t, 0, served(three))
		require.NoError(t, three.Close())
		assert.True(t, ratelimit.Remembered(store))
		require.NoError(t, one.Close())
		require.NoError(t, other.Close())
		assert.False(t, ratelimit.Remembered(store), "nothing is left of closed Limiters")
	})
}

// What a rule does with its charges in memory is what it does in the store: costs,
// outcomes, slots, queues, stacked Limiters, and giving back.
func TestFailLocalIsALimiter(t *testing.T) {
	t.Parallel()
	down := func() *spy {
		store := newSpy()
		store.fail(hangs)
		return store
	}
	at := func(t *testing.T, l *ratelimit.Limiter, key string) int64 {
		t.Helper()
		report, _ := l.Peek(request("/", key))
		require.Len(t, report.Standings, 1)
		return report.Standings[0].Result.Used
	}
	quiet := func(ratelimit.Event) {}
	hour := policy.FixedWindow(100, time.Hour)
	for name, test := range map[string]func(t *testing.T){
		"SetCost": func(t *testing.T) {
			l := limiter(t, ratelimit.Config{Store: down(), Instances: 1, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, hour)}, Observe: quiet})
			get(l.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				assert.NoError(t, ratelimit.SetCost(r.Context(), "per_key", 5))
			})), "/", "a")
			assert.EqualValues(t, 5, at(t, l, "a"))
		},
		"Settle": func(t *testing.T) {
			rule := ruleOf(ratelimit.FailLocal, hour)
			rule.Settle = func(_ *http.Request, o ratelimit.Outcome) int64 {
				assert.EqualValues(t, 1, o.Cost)
				return int64(o.Status)
			}
			l := limiter(t, ratelimit.Config{Store: down(), Instances: 1, Rules: []ratelimit.Rule{rule}, Observe: quiet})
			get(l.Handler(http.HandlerFunc(ok)), "/", "a")
			assert.EqualValues(t, 200, at(t, l, "a"))
		},
		"stacked": func(t *testing.T) {
			store := down()
			outer := limiter(t, ratelimit.Config{Store: store, Instances: 1, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, hour)}, Observe: quiet})
			one := policy.FixedWindow(1, time.Hour)
			inner := limiter(t, ratelimit.Config{Name: "inner", Store: store, Instances: 1, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, one)}, Observe: quiet})
			h := outer.Handler(outer.Handler(inner.Handler(http.HandlerFunc(ok))))
			assert.Equal(t, map[int]int{200: 1, 429: 3}, statuses(h, "a", 4))
			assert.EqualValues(t, 1, at(t, outer, "a"), "met twice and counted once, and given back where the inner one refuses")
		},
		"a client that has gone": func(t *testing.T) {
			rate := ruleOf(ratelimit.FailLocal, hour)
			slots := ratelimit.Rule{Name: "slots", Key: apiKey, Limits: []policy.Limit{policy.Concurrency(1).WithQueue(1, time.Minute)}, Fail: ratelimit.FailLocal}
			l := limiter(t, ratelimit.Config{Store: down(), Instances: 1, Rules: []ratelimit.Rule{rate, slots}, Observe: quiet})
			h := l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(20 * time.Second) }))
			go get(h, "/", "a")
			synctest.Wait()
			time.Sleep(time.Second)
			ctx, leave := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, leave)
			h.ServeHTTP(httptest.NewRecorder(), request("/", "a").WithContext(ctx))
			report, _ := l.Peek(request("/", "a"))
			require.Len(t, report.Standings, 2)
			for _, st := range report.Standings {
				assert.EqualValues(t, 1, st.Result.Used, "%s: the one's that is inside", st.Rule)
				assert.Zero(t, st.Result.Queue)
			}
			time.Sleep(time.Minute)
		},
		"refused further in": func(t *testing.T) {
			l := limiter(t, ratelimit.Config{Store: down(), Instances: 1, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, hour)}, Observe: quiet})
			inner := limiter(t, ratelimit.Config{Name: "inner", Instances: 1, Rules: []ratelimit.Rule{
				{Name: "r", Key: func(*http.Request) (string, error) { return "", ratelimit.ErrNoKey }, Limits: []policy.Limit{hour}}}, Observe: quiet})
			assert.Equal(t, map[int]int{400: 2}, statuses(l.Handler(inner.Handler(http.HandlerFunc(ok))), "a", 2))
			assert.Zero(t, at(t, l, "a"))
		},
		"Check": func(t *testing.T) {
			l := limiter(t, ratelimit.Config{Store: down(), Instances: 1, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, policy.FixedWindow(1, time.Hour))}, Observe: quiet})
			report, err := l.Check(request("/", "a"))
			require.Error(t, err)
			require.Nil(t, report.Denial)
			require.Len(t, report.Standings, 1)
			report, err = l.Check(request("/", "a"))
			require.Error(t, err)
			require.Equal(t, 429, report.Denial.Status)
			ctx := ratelimit.NewLedger(t.Context())
			for range 3 {
				report, _ = l.Check(request("/", "b").WithContext(ctx))
				require.Nil(t, report.Denial, "counted once for one request")
			}
		},
		"slots and a queue": func(t *testing.T) {
			slots := policy.Concurrency(2).WithQueue(2, time.Minute)
			l := limiter(t, ratelimit.Config{Store: down(), Instances: 2, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, slots)}, Observe: quiet})
			var inside, most atomic.Int64
			h := l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				most.Store(max(most.Load(), inside.Add(1)))
				time.Sleep(25 * time.Second) // longer than a lease
				inside.Add(-1)
			}))
			codes := make(chan int, 3)
			for range 3 {
				go func() { codes <- get(h, "/", "a").Code }()
				time.Sleep(time.Second)
			}
			got := map[int]int{}
			for range 3 {
				got[<-codes]++
			}
			assert.Equal(t, map[int]int{200: 2, 429: 1}, got, "one holds, one waits, one is too many")
			assert.EqualValues(t, 1, most.Load())
			assert.Zero(t, at(t, l, "a"))
		},
		"With": func(t *testing.T) {
			store := down()
			l := limiter(t, ratelimit.Config{Store: store, Instances: 2, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailOpen, hour)}, Observe: quiet})
			wider, err := l.With(ratelimit.Rule{Name: "more", Key: apiKey, Limits: []policy.Limit{policy.FixedWindow(4, time.Hour)}, Fail: ratelimit.FailLocal})
			require.NoError(t, err)
			assert.Equal(t, map[int]int{200: 2, 429: 1}, statuses(wider.Handler(http.HandlerFunc(ok)), "a", 3))
			assert.Equal(t, map[int]int{200: 3}, statuses(l.Handler(http.HandlerFunc(ok)), "a", 3))
			assert.EqualValues(t, 5, wider.Health().Bypassed)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, test)
		})
	}
}

// A share that rounds to nothing is closed, and so is one among nobody knows how many.
func TestFailLocalWithoutAShare(t *testing.T) {
	t.Parallel()
	month := policy.Quota(10, policy.Monthly)
	chosen := func(*http.Request) ([]policy.Limit, error) { return []policy.Limit{month}, nil }
	for name, c := range map[string]struct {
		rule ratelimit.Rule
		want int
	}{
		"a share":                {ruleOf(ratelimit.FailLocal, policy.PerMinute(4)), 200},
		"less than 1":            {ruleOf(ratelimit.FailLocal, policy.PerMinute(3)), 503},
		"less than 1 of a burst": {ruleOf(ratelimit.FailLocal, policy.PerMinute(100), policy.TokenBucket(10, time.Second).WithBurst(3)), 503},
		"a quota":                {ratelimit.Rule{Name: "quota", Key: apiKey, LimitsFor: chosen, Fail: ratelimit.FailLocal}, 503},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newSpy()
			store.fail(func(context.Context) error { return errTest })
			l := limiter(t, ratelimit.Config{Store: store, Instances: 4, Rules: []ratelimit.Rule{c.rule}, Observe: func(ratelimit.Event) {}})
			w := get(l.Handler(http.HandlerFunc(ok)), "/", "a")
			assert.Equal(t, c.want, w.Code)
			if c.want == 503 {
				assert.Equal(t, "1", w.Header().Get("Retry-After"))
				assert.Contains(t, w.Body.String(), "store_unavailable")
			}
		})
	}
}

// What a request costs more than the share, and not more than the limit, is refused as
// by a store that is away: the client could not ask for less. More than the limit is
// too much, as always.
func TestFailLocalOfACostAboveTheShare(t *testing.T) {
	t.Parallel()
	store := newSpy()
	for name, scale := range map[string]float64{"whole": 1, "scaled": 0.5} {
		reduced := ratelimit.NewScale()
		require.NoError(t, reduced.Set(t.Context(), scale, time.Time{}))
		l := limiter(t, ratelimit.Config{Name: name, Store: store, Instances: 2, Scale: reduced, Observe: func(ratelimit.Event) {}, Rules: []ratelimit.Rule{
			{Name: "points", Key: apiKey, Limits: []policy.Limit{policy.FixedWindow(1000, time.Hour)}, Cost: costHeader, Fail: ratelimit.FailLocal}}})
		h := l.Handler(http.HandlerFunc(ok))
		costs := func(n string) *httptest.ResponseRecorder {
			r, w := request("/", n), httptest.NewRecorder()
			r.Header.Set("Cost", n)
			h.ServeHTTP(w, r)
			return w
		}
		store.fail(nil)
		assert.Equal(t, 200, costs("501").Code)
		store.fail(func(context.Context) error { return errTest })
		w := costs("501")
		assert.Equal(t, 503, w.Code)
		assert.Equal(t, "1", w.Header().Get("Retry-After"))
		assert.Equal(t, 200, costs("500").Code)
		assert.Equal(t, 413, costs("1001").Code)
	}
}

func costHeader(r *http.Request) (int64, error) {
	return strconv.ParseInt(r.Header.Get("Cost"), 10, 64)
}

// A counting store counts who shares it.
type counting struct {
	*spy
	n        atomic.Int64
	attended atomic.Pointer[string]
	left     atomic.Int64
}

var _ policy.Instances = (*counting)(nil)

func (c *counting) Attend(name string) (func() int, func()) {
	c.attended.Store(&name)
	return func() int { return int(c.n.Load()) }, func() { c.left.Add(1) }
}

func TestFailLocalAmongCountedInstances(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &counting{spy: newSpy()}
		l, err := ratelimit.New(ratelimit.Config{Name: "shop", Store: store, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, policy.FixedWindow(8, time.Hour))}, Observe: func(ratelimit.Event) {}})
		require.NoError(t, err)
		assert.Equal(t, "shop", *store.attended.Load())
		h := l.Handler(http.HandlerFunc(ok))
		store.fail(hangs)
		assert.Equal(t, 503, get(h, "/", "a").Code, "among how many is not known yet")
		store.n.Store(4)
		assert.Equal(t, 4, l.Health().Instances)
		assert.Equal(t, map[int]int{200: 2, 429: 1}, statuses(h, "a", 3))
		store.n.Store(2)
		assert.Equal(t, map[int]int{200: 2, 429: 1}, statuses(h, "a", 3), "a larger share, of which two are used")
		assert.EqualValues(t, 1, l.Health().Unavailable)
		require.NoError(t, l.Close())
		require.NoError(t, l.Close())
		assert.EqualValues(t, 1, store.left.Load())
		assert.Equal(t, 503, get(h, "/", "a").Code, "it counts no more")
	})
	store := &counting{spy: newSpy()}
	l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailOpen, policy.PerHour(1))}})
	assert.Nil(t, store.attended.Load(), "nobody needs the number")
	assert.Zero(t, l.Health().Instances)
}

func TestFailLocalIsWiredRight(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config ratelimit.Config
		err    string
	}{
		"a quota": {ratelimit.Config{Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, policy.PerHour(1), policy.Quota(1, policy.Monthly))}},
			`ratelimit: rule 1 ("per_key"): FailLocal with a Quota, which no process can count alone: write FailOpen or FailClosed, or put the quota into a rule of its own`},
		"instances that nobody counts": {ratelimit.Config{Store: newSpy(), Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, policy.PerHour(1))}},
			`ratelimit: rule 1 ("per_key"): FailLocal shares the limits among instances, and the Store *middleware_test.spy does not count them: write how many there are in Config.Instances`},
		"negative instances": {ratelimit.Config{Instances: -1, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, policy.PerHour(1))}},
			`ratelimit: Instances -1: write how many processes share the Store, or leave it out`},
		"in memory": {ratelimit.Config{Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, policy.PerHour(1))}}, ""},
		"given":     {ratelimit.Config{Store: newSpy(), Instances: 2, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, policy.PerHour(1))}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := ratelimit.New(c.config)
			if c.err != "" {
				require.EqualError(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.NoError(t, l.Close())
		})
	}
	assert.Equal(t, "local", ratelimit.FailLocal.String())
}

// The embedded store, closed, is a store that fails.
func TestFailLocalOverAClosedMemstore(t *testing.T) {
	t.Parallel()
	store := memstore.New(memstore.Options{})
	require.NoError(t, store.Close())
	l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailLocal, policy.PerHour(2))}, Observe: func(ratelimit.Event) {}})
	assert.Equal(t, map[int]int{200: 2, 429: 1}, statuses(l.Handler(http.HandlerFunc(ok)), "a", 3))
	assert.Equal(t, 1, l.Health().Instances)
	w := httptest.NewRecorder()
	l.Limits().ServeHTTP(w, request("/", "a"))
	assert.Equal(t, 503, w.Code, "what is shown is the store's")
}

// A thousand guesses at once, more than the store can answer in time: those that it does
// not answer are counted in memory, so that no flood passes by being one.
func TestFailLocalGuardAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newSpy()
		var asked, reached atomic.Int64
		store.fail(func(ctx context.Context) error {
			if asked.Add(1) > 7 {
				return hangs(ctx)
			}
			return nil
		})
		guard := ratelimit.Guard{Name: "login", IP: plainKey("X-API-Key"), PerIP: policy.Lockout(10, time.Hour), Fail: ratelimit.FailLocal}
		l := limiter(t, ratelimit.Config{Store: store, Instances: 1, Rules: guard.Rules(), Observe: func(ratelimit.Event) {}})
		h := l.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			reached.Add(1)
			time.Sleep(time.Second)
			w.WriteHeader(http.StatusUnauthorized)
		}))
		var guesses sync.WaitGroup
		for range 1000 {
			guesses.Go(func() { get(h, "/", "a") })
		}
		guesses.Wait()
		assert.EqualValues(t, 7+10, reached.Load(), "a limit of each")
	})
}

// Failures are counted in memory while the store is away, and an operator's Unblock
// ends the blocks there too.
func TestFailLocalGuard(t *testing.T) {
	t.Parallel()
	store := newSpy()
	store.fail(func(context.Context) error { return errTest })
	guard := ratelimit.Guard{Name: "login", IP: plainKey("X-API-Key"), PerIP: policy.Lockout(4, time.Hour), Account: plainKey("X-API-Key"), PerPair: policy.Lockout(4, time.Hour), Fail: ratelimit.FailLocal}
	l := limiter(t, ratelimit.Config{Store: store, Instances: 2, Rules: guard.Rules(), Observe: func(ratelimit.Event) {}})
	h := l.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/right" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	assert.Equal(t, 200, get(h, "/right", "a").Code)
	assert.Equal(t, map[int]int{401: 2, 429: 1}, statuses(h, "a", 3))
	assert.Contains(t, get(h, "/right", "a").Body.String(), "blocked")
	require.NoError(t, l.Unblock(t.Context(), "login.ip", "a"))
	assert.Contains(t, get(h, "/right", "a").Body.String(), "blocked", "the pair")
	require.NoError(t, l.Unblock(t.Context(), "login.pair", "a", "a"))
	assert.Equal(t, 200, get(h, "/right", "a").Code)
}
