package respond_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

func TestQuotaDenial(t *testing.T) {
	t.Parallel()
	month := refused(policy.Quota(25_000, policy.Monthly.From(15)), 1)
	r := report(refused(policy.PerMinute(60), 1), month)
	d := respond.Deny("", r)
	assert.Equal(t, respond.QuotaExceeded, d.Reason)
	assert.Equal(t, "Over the limit of 25000 per month from the 15th.", d.Detail)
	assert.Equal(t, time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC), d.RetryAt())
	never := refused(policy.Quota(25_000, policy.Monthly), 25_001)
	assert.Equal(t, respond.CostTooHigh, never.Reason())
	allowed := taken(policy.Quota(25_000, policy.Monthly), 1)
	assert.Empty(t, allowed.Reason())
}

// Beyond what Retry-After can say, the body still tells the instant.
func TestQuotaProblem(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		limit   policy.Limit
		after   string
		retryAt any
	}{
		{"soon", policy.Quota(10, policy.Monthly.From(15)), "221353", nil},
		{"in three months", policy.Quota(10, policy.Yearly.FromDate(time.April, 1)), "2147483", "2026-04-01T00:00:00Z"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			r := report(refused(tc.limit, 1))
			r.Denial = respond.Deny("", r)
			(&respond.Style{}).Refuse(w, nil, r)
			var problem map[string]any
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &problem))
			assert.Equal(t, "quota_exceeded", problem["code"])
			assert.Equal(t, tc.after, w.Header().Get("Retry-After"))
			assert.Equal(t, tc.retryAt, problem["retry_at"])
		})
	}
}

func TestQuotaFields(t *testing.T) {
	t.Parallel()
	var (
		unlimited = named(taken(policy.Quota(policy.Unlimited, policy.Monthly), 7), "api", "metered")
		minute    = taken(policy.FixedWindow(60, time.Minute), 0)
		month     = taken(policy.Quota(25_000, policy.Monthly), 100)
		tight     = taken(policy.Quota(100, policy.Monthly.From(15)), 99)
		week      = taken(policy.Quota(5, policy.Weekly), 1)
		year      = taken(policy.Quota(5, policy.Yearly), 1)
		day       = taken(policy.Quota(50, policy.Daily), 1)
		window    = taken(policy.PerDay(50), 49)
		slots     = respond.Standing{Rule: "slots", Limit: policy.Concurrency(5), Result: policy.Result{Verdict: policy.Allowed, Limit: 5, Capacity: 5, Remaining: 4}}
		perWindow = respond.Fields{Limit: "L", Remaining: "M", PerWindow: true}
	)
	for _, tc := range []struct {
		name      string
		fields    respond.FieldWriter
		standings []respond.Standing
		want      map[string]string
	}{
		{"the period's end", respond.XRateLimit, []respond.Standing{month}, map[string]string{"X-Ratelimit-Limit": "25000", "X-Ratelimit-Remaining": "24900", "X-Ratelimit-Reset": "1769904000"}},
		{"unlimited binds nobody", respond.Fields{Limit: "L"}, []respond.Standing{unlimited, minute}, map[string]string{"L": "60"}},
		{"nothing but unlimited", respond.XRateLimit, []respond.Standing{unlimited, unlimited}, map[string]string{}},
		{
			"per period, the tightest of each", perWindow, []respond.Standing{unlimited, month, week, year, tight, slots},
			map[string]string{"L-Month": "100", "M-Month": "1", "L-Week": "5", "M-Week": "4", "L-Year": "5", "M-Year": "4"},
		},
		{"a day is a day", perWindow, []respond.Standing{day, window}, map[string]string{"L-Day": "50", "M-Day": "1"}},
		{"an unlimited month", perWindow, []respond.Standing{unlimited}, map[string]string{}},
		{"slots have no window", perWindow, []respond.Standing{slots}, map[string]string{}},
		{
			"draft 11", respond.RateLimit, []respond.Standing{unlimited, named(month, "api", "billing")},
			map[string]string{"Ratelimit-Policy": `"billing";q=25000`, "Ratelimit": `"billing";r=24900;t=1690153`},
		},
		{"draft 11, nothing but unlimited", respond.RateLimit, []respond.Standing{unlimited}, map[string]string{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := make(http.Header)
			tc.fields.WriteFields(h, report(tc.standings...))
			assert.Equal(t, tc.want, flat(t, h))
		})
	}
}
