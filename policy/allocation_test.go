package policy_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
)

// Limits of a fixed size decide without allocating.
func TestTakeAllocatesNothing(t *testing.T) {
	for _, l := range []policy.Limit{policy.TokenBucket(5, time.Second), policy.PerSecond(5), policy.FixedWindow(5, time.Second), policy.Quota(5, policy.Daily)} {
		var s policy.State
		now, verdicts := epoch, [4]int{}
		allocs := testing.AllocsPerRun(1000, func() {
			var r policy.Result
			s, r = l.Take(s, now, 1)
			now += 100_000
			verdicts[r.Verdict]++
			s, _ = l.Settle(s, now, r.Receipt, 1, 1)
		})
		require.Zero(t, allocs, l.String())
		require.NotZero(t, verdicts[policy.Allowed])
		require.NotZero(t, verdicts[policy.Refused])
	}
}

func TestDecisionResetAllocatesNothing(t *testing.T) {
	var d policy.Decision
	d.Reset(3)
	require.Zero(t, testing.AllocsPerRun(100, func() { d.Reset(3) }))
}

func BenchmarkTake(b *testing.B) {
	for _, l := range []policy.Limit{policy.TokenBucket(60, time.Minute), policy.PerMinute(60), policy.SlidingLog(60, time.Minute), policy.FixedWindow(60, time.Minute), policy.Quota(1e9, policy.Monthly)} {
		b.Run(l.Algorithm().String(), func(b *testing.B) {
			b.ReportAllocs()
			var s policy.State
			now := epoch
			for b.Loop() {
				s, _ = l.Take(s, now, 1)
				now += 700_000
			}
		})
	}
}
