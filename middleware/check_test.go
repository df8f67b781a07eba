package middleware_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newSpy()
		outer, uploads := rated(t, store, "outer", policy.PerHour(10)), rated(t, store, "uploads", policy.PerHour(2))
		var codes []string
		h := outer.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			before := len(w.Header())
			report, err := uploads.Check(r)
			assert.NoError(t, err)
			assert.Len(t, w.Header(), before, "it writes nothing")
			require.Len(t, report.Standings, 2)
			assert.Equal(t, "outer", report.Standings[0].Limiter)
			assert.Equal(t, "uploads", report.Standings[1].Limiter)
			if report.Denial != nil {
				codes = append(codes, string(report.Denial.Reason))
				return
			}
			codes = append(codes, "ok")
			again, err := uploads.Check(r)
			assert.NoError(t, err)
			assert.Nil(t, again.Denial, "the request was counted already")
			report, err = uploads.Check(r.WithContext(ratelimit.NewLedger(r.Context())))
			assert.NoError(t, err)
			assert.Equal(t, report.Denial != nil, len(codes) > 1, "a new ledger is counted")
		}))
		statuses(h, "a", 3)
		assert.Equal(t, []string{"ok", "rate_limit_exceeded", "rate_limit_exceeded"}, codes)
		assert.EqualValues(t, 3, used(t, store, "outer", "per_key", hashed("a"), policy.PerHour(10)), "a refused Check gives nothing of the outer back")
		assert.EqualValues(t, 2, used(t, store, "uploads", "per_key", hashed("a"), policy.PerHour(2)))
	})
}

// What a Check took can be corrected, and belongs to the request.
func TestCheckTakesPartInTheLedger(t *testing.T) {
	t.Parallel()
	store := newSpy()
	outer, uploads := rated(t, store, "outer", policy.PerHour(10)), limiter(t, ratelimit.Config{Name: "uploads", Store: store, Rules: []ratelimit.Rule{
		{Name: "bytes", Key: apiKey, Limits: []policy.Limit{policy.PerHour(1000)}},
	}})
	h := outer.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := uploads.Check(r)
		assert.NoError(t, err)
		assert.NoError(t, ratelimit.SetCost(r.Context(), "bytes", 300))
	}))
	get(h, "/", "a")
	assert.EqualValues(t, 300, used(t, store, "uploads", "bytes", hashed("a"), policy.PerHour(1000)))
}

func TestCheckWithoutALedger(t *testing.T) {
	t.Parallel()
	l := rated(t, newSpy(), "api", policy.PerHour(1))
	r := request("/", "a")
	report, err := l.Check(r)
	require.NoError(t, err)
	assert.Nil(t, report.Denial)
	report, err = l.Check(r)
	require.NoError(t, err)
	require.NotNil(t, report.Denial)
	assert.Equal(t, 429, report.Denial.Status)
	report, err = l.Check(request("/", ""))
	require.ErrorIs(t, err, ratelimit.ErrNoKey)
	assert.Equal(t, 400, report.Denial.Status)
}

func TestPeek(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newSpy()
		var seen events
		l := limiter(t, ratelimit.Config{Store: store, Observe: seen.observe, Rules: []ratelimit.Rule{
			{Name: "per_key", Key: apiKey, Limits: []policy.Limit{policy.PerHour(2)}}}})
		peek := func() (remaining int64, denied bool) {
			report, err := l.Peek(request("/", "a"))
			require.NoError(t, err)
			require.Len(t, report.Standings, 1)
			return report.Standings[0].Result.Remaining, report.Denial != nil
		}
		remaining, denied := peek()
		assert.EqualValues(t, 2, remaining)
		assert.False(t, denied)
		get(l.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			get(l.Handler(http.HandlerFunc(ok)), "/", "a")
			report, err := l.Peek(r)
			assert.NoError(t, err)
			assert.EqualValues(t, 0, report.Standings[0].Result.Remaining, "as it is now, not as it was when this request was counted")
			assert.NotNil(t, report.Denial)
		})), "/", "a")
		remaining, denied = peek()
		assert.EqualValues(t, 0, remaining)
		assert.True(t, denied)
		assert.Equal(t, 2, store.takes)
		assert.Len(t, seen.all, 2, "Peek has no events")

		report, err := l.Peek(request("/", ""))
		require.ErrorIs(t, err, ratelimit.ErrNoKey)
		assert.Equal(t, 400, report.Denial.Status)
		store.take = func(context.Context) error { return errTest }
		report, err = l.Peek(request("/", "a"))
		require.ErrorIs(t, err, errTest)
		assert.Nil(t, report.Denial, "the rule fails open")
		assert.Empty(t, report.Standings)
	})
}
