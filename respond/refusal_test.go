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

func TestProblem(t *testing.T) {
	t.Parallel()
	const base = "https://iana.org/assignments/http-problem-types#"
	tests := []struct {
		reason      respond.Reason
		style       respond.Style
		uri, title  string
		status      int
		hasSeconds  bool
		hasViolated bool
	}{
		{respond.RateLimitExceeded, respond.Style{}, base + "quota-exceeded", "Quota Exceeded", 429, true, true},
		{respond.RateLimitExceeded, respond.Style{Status: 409}, base + "quota-exceeded", "Quota Exceeded", 409, true, true},
		{respond.QuotaExceeded, respond.Style{}, base + "quota-exceeded", "Quota Exceeded", 429, true, true},
		{respond.ConcurrencyExceeded, respond.Style{}, base + "temporary-reduced-capacity", "Temporary Reduced Capacity", 429, true, true},
		{respond.QueueFull, respond.Style{}, base + "temporary-reduced-capacity", "Temporary Reduced Capacity", 429, true, true},
		{respond.QueueTimeout, respond.Style{}, base + "temporary-reduced-capacity", "Temporary Reduced Capacity", 429, true, true},
		{respond.Blocked, respond.Style{}, base + "abnormal-usage-detected", "Abnormal Usage Detected", 429, true, true},
		{respond.StoreUnavailable, respond.Style{Status: 409}, base + "temporary-reduced-capacity", "Temporary Reduced Capacity", 503, true, false},
		{respond.CostTooHigh, respond.Style{}, "about:blank", "Request Entity Too Large", 413, false, true},
		{respond.NoKey, respond.Style{}, "about:blank", "Bad Request", 400, false, false},
		{respond.InvalidCost, respond.Style{}, "about:blank", "Bad Request", 400, false, false},
		{respond.Misconfigured, respond.Style{}, "about:blank", "Internal Server Error", 500, false, false},
		{"of_the_house", respond.Style{}, "about:blank", "Too Many Requests", 429, true, true},
	}
	for _, tt := range tests {
		t.Run(string(tt.reason), func(t *testing.T) {
			t.Parallel()
			r := report()
			if tt.hasViolated {
				r = report(taken(policy.PerHour(600), 1), refused(policy.PerMinute(60), 1))
			}
			r.Denial = respond.Deny(tt.reason, r)
			w := httptest.NewRecorder()
			tt.style.Refuse(w, nil, r)

			var problem map[string]any
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &problem))
			assert.Equal(t, tt.uri, problem["type"])
			assert.Equal(t, tt.title, problem["title"])
			assert.InDelta(t, tt.status, problem["status"], 0)
			assert.Equal(t, tt.status, w.Code)
			assert.Equal(t, string(tt.reason), problem["code"])
			if tt.hasSeconds {
				assert.Equal(t, w.Header().Get("Retry-After"), jsonNumber(problem["retry_after"]))
			} else {
				assert.NotContains(t, problem, "retry_after")
				assert.NotContains(t, w.Header(), "Retry-After")
			}
			if tt.hasViolated {
				assert.Equal(t, []any{"per_key/window-1m"}, problem["violated-policies"], "only those that refused, as RateLimit names them")
			} else {
				assert.NotContains(t, problem, "violated-policies")
			}
		})
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		denial respond.Denial
		want   string
	}{
		{"plural", respond.Denial{Detail: "Slow down.", RetryAfter: 11_300 * time.Millisecond}, "Slow down. Retry in 12 seconds.\n"},
		{"singular", respond.Denial{Detail: "Slow down.", RetryAfter: time.Millisecond}, "Slow down. Retry in 1 second.\n"},
		{"no wait", respond.Denial{Detail: "Never."}, "Never.\n"},
		{"no detail", respond.Denial{Reason: respond.NoKey}, "Bad Request.\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			style := respond.Style{Refusal: respond.Text}
			style.Refuse(w, nil, &respond.Report{Denial: &tt.denial})
			assert.Equal(t, tt.want, w.Body.String())
			assert.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
		})
	}
}

func TestJSONThatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]respond.Refusal{
		"a channel": respond.JSON(func(respond.Denial) any { return make(chan int) }),
		"no shape":  respond.JSON(nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			style := respond.Style{Refusal: refusal, Status: http.StatusConflict}
			style.Refuse(w, nil, nil)
			assert.Equal(t, http.StatusConflict, w.Code)
			assert.Zero(t, w.Body.Len())
			assert.Equal(t, "0", w.Header().Get("Content-Length"))
			assert.NotContains(t, w.Header(), "Content-Type")
		})
	}
}

func jsonNumber(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
