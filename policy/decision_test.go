package policy_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
)

func TestDecisionBinding(t *testing.T) {
	t.Parallel()
	allowed := func(remaining, capacity int64) policy.Result {
		return policy.Result{Verdict: policy.Allowed, Remaining: remaining, Capacity: capacity}
	}
	refused := func(wait time.Duration) policy.Result {
		return policy.Result{Verdict: policy.Refused, RetryAfter: wait, Capacity: 1}
	}
	never := policy.Result{Verdict: policy.Never, Capacity: 1, Remaining: 1}
	for _, tc := range []struct {
		name    string
		results []policy.Result
		want    int
		wait    time.Duration
	}{
		{"none", nil, -1, 0},
		{"the smaller share, not the smaller number", []policy.Result{allowed(5, 10), allowed(10, 1000)}, 1, 0},
		{"the first of equal shares", []policy.Result{allowed(5, 10), allowed(500, 1000)}, 0, 0},
		{"shares of the largest numbers", []policy.Result{allowed(policy.MaxUnits-1, policy.MaxUnits), allowed(policy.MaxUnits-2, policy.MaxUnits)}, 1, 0},
		{"a refusal before an admission", []policy.Result{allowed(0, 10), refused(time.Second)}, 1, time.Second},
		{"the longer wait", []policy.Result{refused(time.Second), refused(time.Hour), refused(time.Minute)}, 1, time.Hour},
		{"the first of equal waits", []policy.Result{refused(time.Second), refused(time.Second)}, 0, time.Second},
		{"never before any wait", []policy.Result{refused(time.Hour), never}, 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := policy.Decision{Results: tc.results}
			require.Equal(t, tc.want, d.Binding())
			require.Equal(t, tc.wait, d.RetryAfter())
		})
	}
}

func TestDecisionResetReuses(t *testing.T) {
	t.Parallel()
	var d policy.Decision
	d.Reset(3)
	require.Equal(t, make([]policy.Result, 3), d.Results)
	first := &d.Results[0]
	d.Results[0].Used, d.Verdict, d.Now = 7, policy.Allowed, time.Unix(1, 0)
	d.Reset(2)
	require.Same(t, first, &d.Results[0])
	require.Equal(t, make([]policy.Result, 2), d.Results)
	require.Equal(t, policy.Unknown, d.Verdict)
	require.Zero(t, d.Now)
}

func TestVerdictString(t *testing.T) {
	t.Parallel()
	for v, want := range map[policy.Verdict]string{
		policy.Unknown: "unknown", policy.Allowed: "allowed", policy.Refused: "refused", policy.Never: "never", 9: "Verdict(9)",
	} {
		require.Equal(t, want, v.String())
	}
}
