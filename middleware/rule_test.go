package middleware_test

import (
	"encoding/json"
	"io"
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
	"github.com/stint-go/stint/respond"
)

func header(name string) func(*http.Request) string {
	return func(r *http.Request) string { return r.Header.Get(name) }
}

// What each kind of fault does to a request, and what is told of it.
func TestRuleDecides(t *testing.T) {
	t.Parallel()
	minute := []policy.Limit{policy.PerMinute(10)}
	cost := func(n int64, err error) func(*http.Request) (int64, error) {
		return func(*http.Request) (int64, error) { return n, err }
	}
	choose := func(limits []policy.Limit, err error) ratelimit.LimitsFunc {
		return func(*http.Request) ([]policy.Limit, error) { return limits, err }
	}
	tiers := policy.Tiers{"basic": {policy.PerMinute(3)}, "enterprise": nil}
	tests := []struct {
		name   string
		rule   ratelimit.Rule
		status int
		reason respond.Reason
		limit  string // X-RateLimit-Limit
		kinds  []ratelimit.Kind
		err    string // of the event
	}{
		{name: "allowed", rule: ratelimit.Rule{Limits: minute},
			status: 200, limit: "10", kinds: []ratelimit.Kind{ratelimit.Allowed}},
		{name: "no key", rule: ratelimit.Rule{Limits: minute, Key: ratelimit.Header("X-Nothing")},
			status: 400, reason: respond.NoKey, kinds: []ratelimit.Kind{ratelimit.Refused}, err: `ratelimit: rule "orders": key: ratelimit: the request has no key`},
		{name: "empty key", rule: ratelimit.Rule{Limits: minute, Key: fixed("")},
			status: 400, reason: respond.NoKey, kinds: []ratelimit.Kind{ratelimit.Refused}, err: `ratelimit: rule "orders": key: ratelimit: the request has no key`},
		{name: "failing key", rule: ratelimit.Rule{Limits: minute, Key: failing(errTest)},
			status: 400, reason: respond.NoKey, kinds: []ratelimit.Kind{ratelimit.Refused}, err: `ratelimit: rule "orders": key: test error`},
		{name: "empty partition", rule: ratelimit.Rule{Limits: minute, Partition: fixed("")},
			status: 400, reason: respond.NoKey, kinds: []ratelimit.Kind{ratelimit.Refused}, err: `ratelimit: rule "orders": partition: ratelimit: the request has no key`},
		{name: "partition", rule: ratelimit.Rule{Limits: minute, Partition: fixed("acme")},
			status: 200, limit: "10", kinds: []ratelimit.Kind{ratelimit.Allowed}},
		{name: "skipped", rule: ratelimit.Rule{Limits: minute, Key: failing(errTest), Skip: func(*http.Request) bool { return true }},
			status: 200},
		{name: "cost", rule: ratelimit.Rule{Limits: minute, Cost: cost(10, nil)},
			status: 200, limit: "10", kinds: []ratelimit.Kind{ratelimit.Allowed}},
		{name: "cost of nothing", rule: ratelimit.Rule{Limits: minute, Cost: cost(0, nil)},
			status: 200, limit: "10", kinds: []ratelimit.Kind{ratelimit.Allowed}},
		{name: "cost too high", rule: ratelimit.Rule{Limits: minute, Cost: cost(11, nil)},
			status: 413, reason: respond.CostTooHigh, limit: "10", kinds: []ratelimit.Kind{ratelimit.Refused}},
		{name: "cost as high as can be", rule: ratelimit.Rule{Limits: []policy.Limit{policy.PerMinute(10), policy.PerHour(10)}, Cost: cost(1<<63-1, nil)},
			status: 413, reason: respond.CostTooHigh, limit: "10", kinds: []ratelimit.Kind{ratelimit.Refused}},
		{name: "negative cost", rule: ratelimit.Rule{Limits: minute, Cost: cost(-1, nil)},
			status: 400, reason: respond.InvalidCost, kinds: []ratelimit.Kind{ratelimit.Refused}, err: `ratelimit: rule "orders": cost -1 is negative: give units back with SetCost`},
		{name: "failing cost", rule: ratelimit.Rule{Limits: minute, Cost: cost(1, errTest)},
			status: 400, reason: respond.InvalidCost, kinds: []ratelimit.Kind{ratelimit.Refused}, err: `ratelimit: rule "orders": cost: test error`},
		{name: "chosen limits", rule: ratelimit.Rule{Limits: minute, LimitsFor: choose([]policy.Limit{policy.PerMinute(7)}, nil)},
			status: 200, limit: "7", kinds: []ratelimit.Kind{ratelimit.Allowed}},
		{name: "chosen default", rule: ratelimit.Rule{Limits: minute, LimitsFor: choose(nil, nil)},
			status: 200, limit: "10", kinds: []ratelimit.Kind{ratelimit.Allowed}},
		{name: "chosen none", rule: ratelimit.Rule{Limits: minute, LimitsFor: choose([]policy.Limit{}, nil)},
			status: 200},
		{name: "chosen default, and there is none", rule: ratelimit.Rule{LimitsFor: choose(nil, nil)},
			status: 500, reason: respond.Misconfigured, kinds: []ratelimit.Kind{ratelimit.Refused}, err: `ratelimit: rule "orders": LimitsFor chose the default, and there are no Limits`},
		{name: "failing choice", rule: ratelimit.Rule{Limits: minute, LimitsFor: choose(nil, errTest)},
			status: 500, reason: respond.Misconfigured, kinds: []ratelimit.Kind{ratelimit.Refused}, err: `ratelimit: rule "orders": limits: test error`},
		{name: "invalid choice", rule: ratelimit.Rule{Limits: minute, LimitsFor: choose([]policy.Limit{{}}, nil)},
			status: 500, reason: respond.Misconfigured, kinds: []ratelimit.Kind{ratelimit.Refused}, err: `ratelimit: rule "orders": limits: policy: zero Limit: write one with a constructor, such as PerMinute(60)`},
		{name: "choice of one name", rule: ratelimit.Rule{Limits: minute, LimitsFor: choose([]policy.Limit{policy.PerMinute(1), policy.PerMinute(2)}, nil)},
			status: 500, reason: respond.Misconfigured, kinds: []ratelimit.Kind{ratelimit.Refused}, err: `ratelimit: rule "orders": limits: policy: two limits named "window-1m" (1 per minute and 2 per minute): tell them apart with Named`},
		{name: "tier", rule: ratelimit.Rule{LimitsFor: ratelimit.ByTier(func(*http.Request) string { return "basic" }, tiers)},
			status: 200, limit: "3", kinds: []ratelimit.Kind{ratelimit.Allowed}},
		{name: "tier without limits", rule: ratelimit.Rule{LimitsFor: ratelimit.ByTier(func(*http.Request) string { return "enterprise" }, tiers), Limits: minute},
			status: 200},
		{name: "unknown tier", rule: ratelimit.Rule{LimitsFor: ratelimit.ByTier(func(*http.Request) string { return "gold" }, tiers)},
			status: 500, reason: respond.Misconfigured, kinds: []ratelimit.Kind{ratelimit.Refused}, err: `ratelimit: rule "orders": limits: unknown tier "gold"`},
		{name: "unknown tier, and a default", rule: ratelimit.Rule{LimitsFor: ratelimit.ByTier(func(*http.Request) string { return "gold" }, tiers), Limits: minute},
			status: 200, limit: "10", kinds: []ratelimit.Kind{ratelimit.Allowed}},
		{name: "override", rule: ratelimit.Rule{LimitsFor: ratelimit.ByOverride(func(*http.Request) string { return "vip" }, policy.Overrides{"vip": {policy.PerMinute(99)}}, nil), Limits: minute},
			status: 200, limit: "99", kinds: []ratelimit.Kind{ratelimit.Allowed}},
		{name: "override without limits", rule: ratelimit.Rule{LimitsFor: ratelimit.ByOverride(func(*http.Request) string { return "vip" }, policy.Overrides{"vip": {}}, nil), Limits: minute},
			status: 200},
		{name: "no override", rule: ratelimit.Rule{LimitsFor: ratelimit.ByOverride(func(*http.Request) string { return "joe" }, policy.Overrides{"vip": {}}, nil), Limits: minute},
			status: 200, limit: "10", kinds: []ratelimit.Kind{ratelimit.Allowed}},
		{name: "no override, but a tier", rule: ratelimit.Rule{LimitsFor: ratelimit.ByOverride(func(*http.Request) string { return "joe" }, nil,
			ratelimit.ByTier(func(*http.Request) string { return "basic" }, tiers)), Limits: minute},
			status: 200, limit: "3", kinds: []ratelimit.Kind{ratelimit.Allowed}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.rule.Name = "orders"
			if test.rule.Key == nil {
				test.rule.Key = apiKey
			}
			var seen events
			next := new(served)
			l := limiter(t, ratelimit.Config{Rules: []ratelimit.Rule{test.rule}, Observe: seen.observe})
			w := get(l.Handler(next), "/", "s3cret")
			require.Equal(t, test.status, w.Code, w.Body)
			assert.Equal(t, test.status == 200, next.n == 1, "the handler runs if the request is allowed")
			assert.Equal(t, test.limit, w.Header().Get("X-RateLimit-Limit"))
			assert.NotContains(t, w.Body.String(), "test error")
			assert.NotContains(t, w.Body.String(), "gold")
			if test.status != 200 {
				var body struct{ Code respond.Reason }
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
				assert.Equal(t, test.reason, body.Code, w.Body)
				assert.Empty(t, w.Header().Get("Retry-After"), "waiting does not help")
			}
			if test.kinds == nil {
				test.kinds = []ratelimit.Kind{}
			}
			require.Equal(t, test.kinds, seen.kinds())
			if len(test.kinds) > 0 {
				e := seen.last(t)
				assert.Equal(t, "api", e.Limiter)
				assert.Equal(t, "orders", e.Rule)
				assert.Equal(t, test.reason, e.Reason)
				if test.err == "" {
					assert.NoError(t, e.Err)
				} else {
					assert.EqualError(t, e.Err, test.err)
				}
			}
		})
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen events
		next := new(served)
		l := limiter(t, ratelimit.Config{Observe: seen.observe, Rules: []ratelimit.Rule{
			{Name: "per_key", Key: apiKey, Limits: []policy.Limit{policy.FixedWindow(2, time.Minute), policy.FixedWindow(100, time.Hour)}},
		}})
		h := l.Handler(next)
		first := get(h, "/", "a")
		assert.Equal(t, "1", first.Header().Get("X-RateLimit-Remaining"))
		get(h, "/", "a")
		time.Sleep(10*time.Second + time.Millisecond)
		w := get(h, "/", "a")
		assert.Equal(t, 429, w.Code)
		assert.Equal(t, "50", w.Header().Get("Retry-After"), "to the end of the minute, rounded up")
		assert.Equal(t, "2", w.Header().Get("X-RateLimit-Limit"))
		assert.Equal(t, "0", w.Header().Get("X-RateLimit-Remaining"))
		assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		assert.Equal(t, 2, next.n)
		e := seen.last(t)
		assert.Equal(t, ratelimit.Event{Kind: ratelimit.Refused, Limiter: "api", Rule: "per_key",
			Limit: policy.FixedWindow(2, time.Minute), Reason: respond.RateLimitExceeded}, e)

		assert.Equal(t, 200, get(h, "/", "b").Code, "another key is another count")
		time.Sleep(50 * time.Second)
		assert.Equal(t, 200, get(h, "/", "a").Code)
	})
}

// 10 a minute and 100 an hour together: a request that the minute refuses does
// not take from the hour.
func TestAllOrNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newSpy()
		hour := policy.PerHour(100)
		l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{
			{Name: "per_key", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(10), hour}},
		}})
		h := l.Handler(http.HandlerFunc(ok))
		got := make(map[int]int)
		for range 120 {
			got[get(h, "/", "a").Code]++
			time.Sleep(time.Minute / 240)
		}
		assert.Equal(t, map[int]int{200: 10, 429: 110}, got)
		assert.EqualValues(t, 10, used(t, store, "api", "per_key", hashed("a"), hour))
		assert.Equal(t, 120, store.takes, "one round trip for each")
	})
}

// A changed number applies to the usage there is.
func TestTierUpgradeKeepsTheUsage(t *testing.T) {
	t.Parallel()
	l := limiter(t, ratelimit.Config{Rules: []ratelimit.Rule{{Name: "per_key", Key: apiKey,
		LimitsFor: ratelimit.ByTier(header("X-Plan"), policy.Tiers{"basic": {policy.PerHour(3)}, "premium": {policy.PerHour(5)}})}}})
	h := l.Handler(http.HandlerFunc(ok))
	send := func(plan string) int {
		r := request("/", "a")
		r.Header.Set("X-Plan", plan)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for _, want := range []int{200, 200, 200, 429} {
		assert.Equal(t, want, send("basic"))
	}
	for _, want := range []int{200, 200, 429} {
		assert.Equal(t, want, send("premium"))
	}
	assert.Equal(t, 429, send("basic"))
}

// Stores are asked for sums that they can compute with exactly.
func TestCostIsBounded(t *testing.T) {
	t.Parallel()
	store := newSpy()
	l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{{Name: "points", Key: apiKey,
		Limits: []policy.Limit{policy.PerHour(policy.MaxUnits)}, Cost: func(*http.Request) (int64, error) { return 1<<63 - 1, nil }}}})
	assert.Equal(t, 413, get(l.Handler(http.HandlerFunc(ok)), "/", "a").Code)
	assert.EqualValues(t, policy.MaxUnits+1, store.most)
}

// A function of a rule that panics leaves nothing taken, and nothing served.
func TestPanicInARule(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]any{"any": "boom", "abort": http.ErrAbortHandler} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, next := newSpy(), new(served)
			minute := policy.PerMinute(5)
			l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{
				{Name: "first", Key: apiKey, Limits: []policy.Limit{minute}},
				{Name: "second", Key: apiKey, Limits: []policy.Limit{minute}, Cost: func(r *http.Request) (int64, error) {
					if r.URL.Path == "/panic" {
						panic(value)
					}
					return 1, nil
				}},
			}})
			h := l.Handler(next)
			assert.PanicsWithValue(t, value, func() { get(h, "/panic", "a") })
			assert.Zero(t, next.n)
			assert.Zero(t, store.takes)
			assert.Zero(t, used(t, store, "api", "first", hashed("a"), minute))
			assert.Equal(t, map[int]int{200: 5, 429: 1}, statuses(h, "a", 6), "and the next requests find all in order")
		})
	}
}

func TestTooManyLimitsForOneRequest(t *testing.T) {
	t.Parallel()
	var seen events
	l := limiter(t, ratelimit.Config{Observe: seen.observe, Rules: []ratelimit.Rule{{Name: "per_key", Key: apiKey,
		LimitsFor: func(*http.Request) ([]policy.Limit, error) {
			limits := make([]policy.Limit, policy.MaxCharges+1)
			for i := range limits {
				limits[i] = policy.FixedWindow(1, time.Duration(i+1)*time.Second)
			}
			return limits, nil
		}}}})
	assert.Equal(t, 500, get(l.Handler(http.HandlerFunc(ok)), "/", "a").Code)
	assert.ErrorContains(t, seen.last(t).Err, "65 charges in one request")
}

// A cost may read the body, as long as it leaves it readable.
func TestCostFromTheBody(t *testing.T) {
	t.Parallel()
	l := limiter(t, ratelimit.Config{Rules: []ratelimit.Rule{{Name: "points", Key: fixed("a"), Limits: []policy.Limit{policy.PerMinute(10)},
		Cost: func(r *http.Request) (int64, error) {
			b, err := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(string(b)))
			return int64(len(b)), err
		}}}})
	h := l.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(w, r.Body)
		assert.NoError(t, err)
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader("seven..")))
	assert.Equal(t, "seven..", w.Body.String())
	assert.Equal(t, "3", w.Header().Get("X-RateLimit-Remaining"))
}
