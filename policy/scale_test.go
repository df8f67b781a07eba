package policy_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
)

func TestScaled(t *testing.T) {
	t.Parallel()
	bucket := policy.TokenBucket(7, time.Second).WithBurst(15)
	for _, tc := range []struct {
		millionths, n, burst int64
	}{
		{policy.Whole, 7, 15},
		{policy.Whole - 1, 6, 14}, // rounded down
		{policy.Whole / 2, 3, 7},
		{policy.Whole / 10, 1, 1}, // never less than 1
		{1, 1, 1},
	} {
		l := bucket.Scaled(tc.millionths)
		require.NoError(t, l.Validate())
		require.Equal(t, tc.n, l.N())
		require.Equal(t, tc.burst, l.Capacity())
		require.EqualValues(t, 15, l.Largest())
		require.Equal(t, bucket, l.Whole())
		require.Equal(t, bucket.ID(), l.ID())
		require.Equal(t, bucket.Name(), l.Name())
		require.Equal(t, tc.millionths != policy.Whole, l.IsReduced())
		require.Equal(t, l.Scaled(policy.Whole/2), bucket.Scaled(policy.Whole/2), "a factor replaces the one before")
		require.Equal(t, bucket, l.Scaled(policy.Whole))
	}
	one := policy.PerSecond(1)
	require.Equal(t, one, one.Scaled(1), "there is nothing to reduce")
	require.Equal(t, policy.PerHour(5).CountRefused().Named("x").Scaled(policy.Whole/2), policy.PerHour(5).Scaled(policy.Whole/2).CountRefused().Named("x"))
	for _, l := range []policy.Limit{policy.Quota(100, policy.Daily), policy.Quota(policy.Unlimited, policy.Daily), policy.Concurrency(9).WithQueue(3, time.Second)} {
		require.Equal(t, l, l.Scaled(policy.Whole/2), "%s stays as it is", l)
	}
	for _, bad := range []int64{0, -1, policy.Whole + 1} {
		require.ErrorContains(t, policy.PerSecond(9).Scaled(bad).Validate(), "write 1 to 1000000")
	}
	require.Equal(t, policy.Limit{}, policy.Limit{}.Scaled(1))
}

func TestScaledAllocatesNothing(t *testing.T) {
	l, factor := policy.TokenBucket(1000, time.Second), int64(1)
	var s policy.State
	require.Zero(t, testing.AllocsPerRun(100, func() {
		factor = factor*7%policy.Whole + 1
		s, _ = l.Scaled(factor).Take(s, epoch, 1001-factor%1000)
	}))
}

// However the scale moves: what a reduced limit admits, the whole one would have
// admitted after the same.
func TestScaledNeverAdmitsMore(t *testing.T) {
	t.Parallel()
	perAlgorithm(t, func(t *rapid.T, algorithm string) {
		whole := drawLimit(t, algorithm).Whole()
		var scaled, plain policy.State
		now := epoch
		for range rapid.IntRange(1, 25).Draw(t, "takes") {
			now += max(0, drawStep(t, whole))
			units := drawUnits(t, whole)
			l := whole.Scaled(rapid.Int64Range(1, policy.Whole).Draw(t, "millionths"))
			before := plain
			var r, w policy.Result
			scaled, r = l.Take(scaled, now, units)
			if r.Verdict != policy.Allowed {
				continue
			}
			plain, w = whole.Take(before, now, units)
			require.Equal(t, policy.Allowed, w.Verdict, "%d of %s: what is admitted reduced is admitted whole", units, l)
		}
	})
}

func TestCheckFactor(t *testing.T) {
	t.Parallel()
	require.NoError(t, policy.CheckFactor("load", policy.Factor{Millionths: 1, Left: time.Minute}))
	require.NoError(t, policy.CheckFactor("load", policy.Factor{Millionths: policy.Whole}))
	for name, f := range map[string]policy.Factor{
		"load": {Millionths: policy.Whole + 1}, "low": {Left: time.Minute}, "a b": {Millionths: 1, Left: time.Minute},
		"ended": {Millionths: 1}, "long": {Millionths: 1, Left: policy.MaxScale + 1},
	} {
		require.ErrorContains(t, policy.CheckFactor(name, f), "write", name)
	}
}

// However small the factor, a bucket refills within what a state can tell, also from
// all that the whole limit holds, and from twice as much where refusals count.
func TestScaledBucketsRefillInTime(t *testing.T) {
	t.Parallel()
	l := policy.TokenBucket(3, policy.MaxWindow).WithBurst(115).CountRefused().Scaled(469_566)
	require.NoError(t, l.Validate())
	now := epoch
	s, r := l.Take(policy.State{}, now, 2)
	require.Equal(t, policy.Allowed, r.Verdict)
	for range 5 {
		s, _ = l.Take(s, now, 57)
	}
	require.Zero(t, l.Peek(s, s.Until, 0).Used)
	fresh, _ := l.Take(policy.State{}, s.Until, 1)
	drained, _ := l.Take(s, s.Until, 1)
	require.Equal(t, fresh.A, drained.A)
	require.Positive(t, l.Peek(s, s.Until-1, 0).Used)
	require.Less(t, s.Until, int64(1)<<52, "the last instant")
}
