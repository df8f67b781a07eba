package middleware_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/respond"
)

func account(r *http.Request) (string, error) { return r.Header.Get("X-API-Key"), nil }

// metered limits accounts by rates, slots and two quotas.
func metered(t *testing.T, store policy.Store) *ratelimit.Limiter {
	t.Helper()
	return limiter(t, ratelimit.Config{Name: "exports", Store: store, Rules: []ratelimit.Rule{
		{Name: "per_account", Key: account, Limits: []policy.Limit{policy.PerMinute(60), policy.PerDay(1000)}},
		{Name: "open", Key: account, Limits: []policy.Limit{policy.Concurrency(5)}},
		{Name: "rows", Key: account, Limits: []policy.Limit{policy.Quota(100, policy.Monthly)}, Cost: func(*http.Request) (int64, error) { return 30, nil }},
		{Name: "bytes", Key: account, Limits: []policy.Limit{policy.Quota(policy.Unlimited, policy.Monthly)}},
		{Name: "days", Key: account, Limits: []policy.Limit{policy.Quota(3, policy.Daily)}},
	}})
}

func TestUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // from 2000-01-01
		l := metered(t, memstore.New(memstore.Options{}))
		h := l.Handler(&served{})
		get(h, "/", "a")
		get(h, "/", "a")
		usage, err := l.Usage(t.Context(), "a")
		require.NoError(t, err)
		require.Len(t, usage, 3)
		require.Equal(t, "rows", usage[0].Rule)
		require.EqualValues(t, 60, usage[0].Used)
		require.EqualValues(t, 2, usage[1].Used)
		require.Equal(t, time.Date(2000, 2, 1, 0, 0, 0, 0, time.UTC), usage[0].End)

		require.NoError(t, l.SetUsage(t.Context(), "rows", "a", 95))
		w := get(h, "/", "a")
		require.Equal(t, 429, w.Code)
		require.Contains(t, w.Body.String(), string(respond.QuotaExceeded))
		time.Sleep(31 * 24 * time.Hour)
		usage, err = l.Usage(t.Context(), "a")
		require.NoError(t, err)
		require.EqualValues(t, 0, usage[0].Used)
		require.EqualValues(t, 95, usage[0].Previous)

		require.ErrorContains(t, l.SetUsage(t.Context(), "per_account", "a", 1), `"per_account"`)
		require.ErrorContains(t, l.SetUsage(t.Context(), "no", "a", 1), `"no"`)
		plain := limiter(t, ratelimit.Config{Store: newSpy(), Rules: []ratelimit.Rule{{Name: "r", Key: account, Limits: []policy.Limit{policy.PerMinute(1)}}}})
		_, err = plain.Usage(t.Context(), "a")
		require.ErrorContains(t, err, "policy.Meter")
	})
}

func TestShownLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		l := metered(t, store)
		h := l.Handler(&served{})
		get(h, "/", "a")
		for range 3 { // looking takes nothing
			w := get(l.Limits(), "/v1/limits", "a")
			require.Equal(t, 200, w.Code)
			require.Equal(t, "application/json", w.Header().Get("Content-Type"))
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			require.JSONEq(t, `{"exports":{
				"per_account/window-1m":{"limit":60,"remaining":59},
				"per_account/window-1d":{"limit":1000,"remaining":999},
				"open":{"limit":5,"remaining":5}}}`, w.Body.String())
			require.JSONEq(t, `{"period_start":"2000-01-01T00:00:00Z","period_end":"2000-02-01T00:00:00Z",
				"rows":30,"rows_limit":100,"bytes":1,"bytes_limit":null,
				"days":1,"days_limit":3,"days_period_start":"2000-01-01T00:00:00Z","days_period_end":"2000-01-02T00:00:00Z"}`,
				get(l.Quota(), "/v1/quota", "a").Body.String())
		}
		for range 5 {
			get(h, "/", "a")
		}
		require.Equal(t, 429, get(h, "/", "a").Code)
		require.Equal(t, 200, get(l.Limits(), "/v1/limits", "a").Code, "who is refused may look")

		other := rated(t, store, "other", policy.PerHour(7))
		both := ratelimit.ShowLimits(func(r *respond.Report) any { return len(r.Standings) }, l, other)
		var n int
		require.NoError(t, json.Unmarshal(get(both, "/", "a").Body.Bytes(), &n))
		require.Equal(t, 4, n)
		require.Equal(t, 400, get(both, "/", "").Code, "nobody has no limits")
	})
}

// A handler that shows limits says so when it cannot, however the rules fail.
func TestShownLimitsWithoutAStore(t *testing.T) {
	t.Parallel()
	store := newSpy()
	require.NoError(t, store.Close())
	l := rated(t, store, "api", policy.PerHour(7))
	require.Equal(t, 503, get(l.Limits(), "/", "a").Code)
	require.Panics(t, func() { ratelimit.ShowLimits(nil) })
	require.Panics(t, func() { ratelimit.ShowQuota(nil, nil) })
}

// However many Limiters are shown, each store is asked once, unless there are
// more limits than it takes at once.
func TestShownInOneRoundTrip(t *testing.T) {
	t.Parallel()
	store, other := newSpy(), newSpy()
	var limiters []*ratelimit.Limiter
	many := make([]policy.Limit, policy.MaxCharges-1)
	for i := range many {
		many[i] = policy.PerHour(1).Named("l" + strconv.Itoa(i))
	}
	for i, s := range []policy.Store{store, store, store, other, store} {
		limits := []policy.Limit{policy.PerHour(10), policy.PerDay(20)}
		if i == 2 {
			limits = many
		}
		limiters = append(limiters, rated(t, s, "l"+strconv.Itoa(i), limits...))
	}
	var shown map[string]map[string]any
	require.NoError(t, json.Unmarshal(get(ratelimit.ShowLimits(nil, limiters...), "/", "a").Body.Bytes(), &shown))
	require.Len(t, shown, 5)
	require.Len(t, shown["l2"], len(many))
	require.Len(t, shown["l4"], 2)
	require.Equal(t, 3, store.peeks, "the first two, the one of many, and the last one")
	require.Equal(t, 1, other.peeks)
}
