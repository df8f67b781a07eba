package respond_test

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// The body is what encoding/json makes of its members, whatever texts are in it.
func TestProblemIsAsEncodingJSONWritesIt(t *testing.T) {
	t.Parallel()
	type document struct {
		Type       string         `json:"type"`
		Title      string         `json:"title,omitempty"`
		Status     int            `json:"status"`
		Detail     string         `json:"detail,omitempty"`
		Code       respond.Reason `json:"code"`
		RetryAfter int64          `json:"retry_after,omitempty"`
		RetryAt    string         `json:"retry_at,omitempty"`
		Violated   []string       `json:"violated-policies,omitempty"`
	}
	reasons := []respond.Reason{
		"", respond.RateLimitExceeded, respond.QuotaExceeded, respond.Blocked, respond.CostTooHigh, respond.NoKey, "a\"<reason>",
	}
	rapid.Check(t, func(t *rapid.T) {
		var standings []respond.Standing
		for range rapid.IntRange(0, 4).Draw(t, "standings") {
			st := refused(policy.PerMinute(60), 1)
			if rapid.Bool().Draw(t, "allowed") {
				st = taken(policy.PerMinute(60), 1)
			}
			standings = append(standings, named(st, rapid.String().Draw(t, "limiter"), rapid.String().Draw(t, "rule")))
		}
		r := report(standings...)
		r.Denial = respond.Deny(rapid.SampledFrom(reasons).Draw(t, "reason"), r)
		r.Denial.Detail = rapid.OneOf(rapid.Just(r.Denial.Detail), rapid.String()).Draw(t, "detail")
		r.Denial.RetryAfter = time.Duration(rapid.Int64Range(0, 1<<62).Draw(t, "wait"))
		w := httptest.NewRecorder()
		new(respond.Style).Refuse(w, nil, r)

		var d document
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &d))
		want, err := json.Marshal(d)
		require.NoError(t, err)
		require.Equal(t, string(want), w.Body.String())
		require.Equal(t, r.Denial.Seconds(), d.RetryAfter)
		require.Equal(t, w.Code, d.Status)
	})
}
