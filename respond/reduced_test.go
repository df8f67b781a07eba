package respond_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// A denial is Reduced if scales alone made all refusals.
func TestReduced(t *testing.T) {
	t.Parallel()
	half := policy.PerMinute(60).Scaled(policy.Whole / 2)
	reduced := respond.Standing{Limiter: "api", Rule: "reduced", Limit: half, Result: policy.Result{
		Verdict: policy.Refused, Reduced: true, Limit: 30, Capacity: 30, Used: 30, RetryAfter: time.Second,
	}}
	whole := reduced
	whole.Rule, whole.Result.Reduced = "whole", false
	never := reduced
	never.Rule, never.Result.Reduced, never.Result.Verdict = "never", false, policy.Never
	allowed := reduced
	allowed.Rule, allowed.Result.Reduced, allowed.Result.Verdict = "allowed", false, policy.Allowed
	for name, tc := range map[string]struct {
		standings []respond.Standing
		status    int
	}{
		"one":              {[]respond.Standing{reduced}, 503},
		"beside allowed":   {[]respond.Standing{allowed, reduced}, 503},
		"beside a refusal": {[]respond.Standing{reduced, whole}, 409},
		"beside never":     {[]respond.Standing{reduced, never}, 413},
		"none":             {[]respond.Standing{whole}, 409},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			style := respond.Style{Status: 409, ReducedStatus: 503}
			report := &respond.Report{Standings: tc.standings}
			report.Denial = respond.Deny("", report)
			assert.Equal(t, tc.status == 503, report.Denial.Reduced)
			style.Refuse(w, nil, report)
			assert.Equal(t, tc.status, w.Code)
		})
	}
}
