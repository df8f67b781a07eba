package middleware_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/respond"
)

// incomparable is a Store that == panics on.
type incomparable struct {
	policy.Store
	_ []int
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	good := ratelimit.Rule{Name: "orders", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(60)}}
	rules := func(change func(*ratelimit.Rule)) []ratelimit.Rule {
		bad := good
		bad.Name = "second"
		change(&bad)
		return []ratelimit.Rule{good, bad}
	}
	many := make([]policy.Limit, policy.MaxCharges)
	for i := range many {
		many[i] = policy.PerMinute(1).Named("l" + strings.Repeat("x", i%60) + string(rune('a'+i/60)))
	}
	tests := []struct {
		name   string
		config ratelimit.Config
		want   string // all of the error's text, or its beginning if it ends in "…"
	}{
		{"no rules", ratelimit.Config{}, "ratelimit: no rules: write at least one Rule"},
		{"name of the limiter", ratelimit.Config{Name: "my api", Rules: rules(func(*ratelimit.Rule) {})}, `ratelimit: Name: name "my api": write letters…`},
		{"negative budget", ratelimit.Config{Budget: -1, Rules: []ratelimit.Rule{good}}, "ratelimit: Budget -1ns: write how long…"},
		{"style", ratelimit.Config{Style: respond.Style{Status: 404}, Rules: []ratelimit.Rule{good}}, "ratelimit: Style: respond: Status 404…"},
		{"typed nil store", ratelimit.Config{Store: (*memstore.Store)(nil), Rules: []ratelimit.Rule{good}}, "ratelimit: Store is a nil *memstore.Store…"},
		{"store that cannot be compared", ratelimit.Config{Store: incomparable{}, Rules: []ratelimit.Rule{good}}, "ratelimit: Store middleware_test.incomparable cannot be compared…"},
		{"no name", ratelimit.Config{Rules: rules(func(r *ratelimit.Rule) { r.Name = "" })}, `ratelimit: rule 2 (""): name ""…`},
		{"bad name", ratelimit.Config{Rules: rules(func(r *ratelimit.Rule) { r.Name = "a\r\nb" })}, `ratelimit: rule 2 ("a\r\nb"): name…`},
		{"name of another", ratelimit.Config{Rules: rules(func(r *ratelimit.Rule) { r.Name = "orders" })}, `ratelimit: rule 2 ("orders"): rule 1 has this name: write another…`},
		{"no key", ratelimit.Config{Rules: rules(func(r *ratelimit.Rule) { r.Key = nil })}, `ratelimit: rule 2 ("second"): no Key: write one, such as ratelimit.Header("X-API-Key")`},
		{"no limits", ratelimit.Config{Rules: rules(func(r *ratelimit.Rule) { r.Limits = nil })}, `ratelimit: rule 2 ("second"): no Limits: write at least one…`},
		{"empty limits", ratelimit.Config{Rules: rules(func(r *ratelimit.Rule) { r.Limits = []policy.Limit{} })}, `ratelimit: rule 2 ("second"): no Limits…`},
		{"zero limit", ratelimit.Config{Rules: rules(func(r *ratelimit.Rule) { r.Limits = []policy.Limit{{}} })}, `ratelimit: rule 2 ("second"): policy: zero Limit…`},
		{"invalid limit", ratelimit.Config{Rules: rules(func(r *ratelimit.Rule) { r.Limits = []policy.Limit{policy.PerMinute(0)} })}, `ratelimit: rule 2 ("second"): policy: sliding window limit…`},
		{"limits of one name", ratelimit.Config{Rules: rules(func(r *ratelimit.Rule) { r.Limits = []policy.Limit{policy.PerMinute(1), policy.PerMinute(2)} })}, `ratelimit: rule 2 ("second"): policy: two limits named "window-1m"…`},
		{"too many limits", ratelimit.Config{Rules: rules(func(r *ratelimit.Rule) { r.Limits = many })}, "ratelimit: 65 limits in one request, such as GET /-/-/-: write at most 64"},
		{"fail mode", ratelimit.Config{Rules: rules(func(r *ratelimit.Rule) { r.Fail = 7 })}, `ratelimit: rule 2 ("second"): mode of failure FailMode(7): write FailOpen, FailClosed or FailLocal in Fail`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l, err := ratelimit.New(test.config)
			require.Error(t, err)
			assert.Nil(t, l)
			if beginning, cut := strings.CutSuffix(test.want, "…"); cut {
				assert.Contains(t, err.Error(), beginning)
				assert.True(t, strings.HasPrefix(err.Error(), beginning), err.Error())
			} else {
				assert.Equal(t, test.want, err.Error())
			}
			assert.Panics(t, func() { ratelimit.Must(l, err) })
		})
	}
}

func TestOneLinersPanicAtWiring(t *testing.T) {
	t.Parallel()
	minute := policy.PerMinute(60)
	for name, wire := range map[string]func(){
		"PerKey without key":         func() { ratelimit.PerKey(nil, minute) },
		"PerKey without limits":      func() { ratelimit.PerKey(apiKey) },
		"PerWorkspace without key":   func() { ratelimit.PerWorkspace(nil, minute) },
		"PerIP without limits":       func() { ratelimit.PerIP() },
		"PerMethod without key":      func() { ratelimit.PerMethod(nil, minute) },
		"PerEndpoint without key":    func() { ratelimit.PerEndpoint(nil, minute) },
		"PerEndpoint, invalid limit": func() { ratelimit.PerEndpoint(apiKey, policy.PerMinute(-1)) },
		"Config that is wrong":       func() { ratelimit.Config{Budget: -time.Second}.PerKey(apiKey, minute) },
		"ByTier without plan":        func() { ratelimit.ByTier(nil, policy.Tiers{"a": {minute}}) },
		"ByTier without tiers":       func() { ratelimit.ByTier(func(*http.Request) string { return "" }, nil) },
		"ByTier, invalid limit":      func() { ratelimit.ByTier(func(*http.Request) string { return "" }, policy.Tiers{"a": {{}}}) },
		"ByOverride without subject": func() { ratelimit.ByOverride(nil, nil, nil) },
		"ByOverride, invalid limit": func() {
			ratelimit.ByOverride(func(*http.Request) string { return "" }, policy.Overrides{"a": {{}}}, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Panics(t, wire)
		})
	}
}

func TestNothingChangesAfterNew(t *testing.T) {
	t.Parallel()
	c := ratelimit.Config{
		Rules: []ratelimit.Rule{{Name: "orders", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(2)}}},
		Style: respond.Style{Fields: []respond.FieldWriter{respond.XRateLimit}, Header: http.Header{"X-Docs": {"before"}}},
	}
	tiers := policy.Tiers{"basic": {policy.PerHour(3)}}
	overrides := policy.Overrides{"vip": {policy.PerHour(4)}}
	l := limiter(t, c)
	chosen := limiter(t, ratelimit.Config{Rules: []ratelimit.Rule{{Name: "orders", Key: apiKey, LimitsFor: ratelimit.ByOverride(
		func(r *http.Request) string { return r.Header.Get("X-API-Key") }, overrides,
		ratelimit.ByTier(func(*http.Request) string { return "basic" }, tiers))}}})

	c.Rules[0].Limits[0] = policy.PerMinute(1)
	c.Rules[0].Name = "changed"
	c.Rules[0].Key = nil
	c.Style.Fields[0] = nil
	c.Style.Header["X-Docs"][0] = "after"
	tiers["basic"][0] = policy.PerHour(1)
	delete(tiers, "basic")
	overrides["vip"][0] = policy.PerHour(1)

	h := l.Handler(http.HandlerFunc(ok))
	assert.Equal(t, "2", get(h, "/", "a").Header().Get("X-RateLimit-Limit"))
	assert.Equal(t, map[int]int{200: 1, 429: 1}, statuses(h, "a", 2))
	assert.Equal(t, "before", get(h, "/", "a").Header().Get("X-Docs"))
	h = chosen.Handler(http.HandlerFunc(ok))
	assert.Equal(t, "3", get(h, "/", "a").Header().Get("X-RateLimit-Limit"))
	assert.Equal(t, "4", get(h, "/", "vip").Header().Get("X-RateLimit-Limit"))
}

func TestCloseEndsOwnStoresOnly(t *testing.T) {
	t.Parallel()
	rule := ratelimit.Rule{Name: "orders", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(2)}, Fail: ratelimit.FailClosed}

	own := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{rule}}))
	wider, err := own.With(ratelimit.Rule{Name: "more", Key: apiKey, Limits: []policy.Limit{policy.PerHour(2)}})
	require.NoError(t, err)
	require.NoError(t, wider.Close())
	assert.Equal(t, 200, get(own.Handler(http.HandlerFunc(ok)), "/", "a").Code, "With's Limiter does not own the store")
	require.NoError(t, own.Close())
	require.NoError(t, own.Close())
	assert.Equal(t, 503, get(own.Handler(http.HandlerFunc(ok)), "/", "a").Code)
	_, err = own.Check(request("/", "a"))
	require.ErrorIs(t, err, policy.ErrClosed)

	store := memstore.New(memstore.Options{})
	given := ratelimit.Must(ratelimit.New(ratelimit.Config{Store: store, Rules: []ratelimit.Rule{rule}}))
	require.NoError(t, given.Close())
	assert.Equal(t, 200, get(given.Handler(http.HandlerFunc(ok)), "/", "a").Code, "a given store is the caller's")
}

func TestWith(t *testing.T) {
	t.Parallel()
	store := newSpy()
	base := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{
		{Name: "all", Key: apiKey, Limits: []policy.Limit{policy.PerHour(10)}},
	}})
	_, err := base.With(ratelimit.Rule{Name: "all", Key: apiKey, Limits: []policy.Limit{policy.PerHour(1)}})
	require.EqualError(t, err, `ratelimit: rule 2 ("all"): rule 1 has this name: write another, since counts are kept under it`)
	_, err = base.With(ratelimit.Rule{Name: "b"})
	require.ErrorContains(t, err, `ratelimit: rule 2 ("b"): no Key`)

	exports, err := base.With(ratelimit.Rule{Name: "exports", Key: apiKey, Limits: []policy.Limit{policy.PerHour(2)}})
	require.NoError(t, err)
	other, err := base.With(ratelimit.Rule{Name: "imports", Key: apiKey, Limits: []policy.Limit{policy.PerHour(5)}})
	require.NoError(t, err)

	assert.Equal(t, map[int]int{200: 2, 429: 2}, statuses(exports.Handler(http.HandlerFunc(ok)), "a", 4))
	assert.Equal(t, 4, store.takes, "one round trip for each request")
	assert.Equal(t, 8, store.charges)
	assert.Equal(t, map[int]int{200: 5, 429: 1}, statuses(other.Handler(http.HandlerFunc(ok)), "a", 6))
	assert.EqualValues(t, 7, used(t, store, "api", "all", hashed("a"), policy.PerHour(10)), "they share the base's counts")

	// Behind the base it charges what is new.
	store.takes, store.charges = 0, 0
	assert.Equal(t, 200, get(base.Handler(exports.Handler(http.HandlerFunc(ok))), "/", "b").Code)
	assert.Equal(t, 2, store.takes)
	assert.Equal(t, 2, store.charges)
	assert.EqualValues(t, 1, used(t, store, "api", "all", hashed("b"), policy.PerHour(10)))
}

func TestStrings(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "open", ratelimit.FailOpen.String())
	assert.Equal(t, "closed", ratelimit.FailClosed.String())
	seen := map[string]bool{}
	for k := ratelimit.Allowed; k <= ratelimit.SettleFailed; k++ {
		assert.NotContains(t, k.String(), "Kind(")
		seen[k.String()] = true
	}
	assert.Len(t, seen, int(ratelimit.SettleFailed))
	assert.Equal(t, "Kind(0)", ratelimit.Kind(0).String())
}
