package policy_test

import (
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
)

// A charge that is corrected leaves no more room, at any later instant, than
// if it had been right from the start, and never less than if it was not
// corrected. But for a bucket's, whose refill is shared, it leaves the same.
func TestSettleAgainstHistory(t *testing.T) {
	t.Parallel()
	perAlgorithm(t, func(t *rapid.T, algorithm string) {
		l := drawLimit(t, algorithm)
		taken := rapid.Int64Range(1, l.Capacity()).Draw(t, "taken")
		total := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, 2*taken)).Draw(t, "total")
		wrong, right := &oracle{limit: l}, &oracle{limit: l}
		var s policy.State
		var receipt policy.Receipt
		charge := func(at, taken, total int64) {
			wrong.history = append(wrong.history, policy.Entry{At: at, Units: taken})
			right.history = append(right.history, policy.Entry{At: at, Units: total})
		}
		now := epoch
		takes := rapid.IntRange(1, 6).Draw(t, "takes")
		corrected := rapid.IntRange(0, takes-1).Draw(t, "which")
		for i := range takes {
			now += max(0, drawStep(t, l))
			n := taken
			if i != corrected {
				n = drawUnits(t, l)
			}
			next, r := l.CountRefused().Take(s, now, n)
			if r.Verdict != policy.Allowed {
				if i == corrected {
					t.Skip("not admitted")
				}
				continue
			}
			s = next
			if i == corrected {
				receipt = r.Receipt
				charge(now, n, total)
			} else {
				charge(now, n, n)
			}
		}
		now += max(0, drawStep(t, l))
		s, r := l.Settle(s, now, receipt, taken, total)
		require.Equal(t, policy.Allowed, r.Verdict)
		require.Equal(t, r, l.Peek(s, now, 0))

		for range 4 {
			got := new(big.Rat).SetInt64(l.Peek(s, now, 0).Used)
			want := units(ceil(right.used(now)))
			if algorithm == "token bucket" {
				low, high := want, units(ceil(wrong.used(now)))
				if total > taken {
					high = units(ceil(new(big.Rat).Add(wrong.used(now), units(total-taken))))
				}
				require.GreaterOrEqual(t, got.Cmp(low), 0, "frees too much: %v used, %v if right", got, low)
				require.LessOrEqual(t, got.Cmp(high), 0, "frees too little: %v used, %v if wrong", got, high)
			} else {
				require.Equal(t, want, got)
			}
			now += max(0, drawStep(t, l))
		}
	})
}

// Of a charge d, a bucket gives back at most d - max(0, refilled since the take
// - used before it).
func TestSettleTokenBucketFormula(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := drawLimit(t, "token bucket")
		window := l.Window().Microseconds()
		usedBy := func(s policy.State) *big.Rat {
			return new(big.Rat).Add(units(s.A), big.NewRat(s.B, window))
		}
		s, _ := l.Take(policy.State{}, epoch, rapid.Int64Range(0, l.Capacity()).Draw(t, "before"))
		now := epoch + max(0, drawStep(t, l))
		taken := rapid.Int64Range(1, l.Capacity()).Draw(t, "taken")
		o := &oracle{limit: l, history: []policy.Entry{{At: epoch, Units: l.Peek(s, epoch, 0).Used}}}
		before := o.used(now)
		s, r := l.Take(s, now, taken)
		if r.Verdict != policy.Allowed {
			t.Skip("not admitted")
		}
		took := now
		now += rapid.Int64Range(0, s.Until-now).Draw(t, "wait")
		total := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, taken)).Draw(t, "total")

		refilled := new(big.Rat).Mul(big.NewRat(now-took, window), units(l.N()))
		back := new(big.Rat).Sub(units(taken), maxRat(new(big.Rat).Sub(refilled, before)))
		back = maxRat(back)
		if asked := units(taken - total); back.Cmp(asked) > 0 {
			back = asked
		}
		o = &oracle{limit: l, history: []policy.Entry{{At: epoch, Units: o.history[0].Units}, {At: took, Units: taken}}}
		want := maxRat(new(big.Rat).Sub(o.used(now), back))

		s, _ = l.Settle(s, now, r.Receipt, taken, total)
		if now < s.Until {
			// A charge that needed no correction is not brought to now.
			s, _ = l.CountRefused().Settle(s, now, policy.Receipt{At: now, A: s.A}, 0, 1)
			want.Add(want, units(1))
			require.Zero(t, want.Cmp(usedBy(s)), "want %v used, got %v", want, usedBy(s))
		} else {
			require.Zero(t, want.Sign(), "drained at %v used", want)
		}
	})
}

func maxRat(r *big.Rat) *big.Rat {
	if r.Sign() < 0 {
		return new(big.Rat)
	}
	return r
}

// A correction goes where the charge went, and nowhere once that is over.
func TestSettleWindow(t *testing.T) {
	t.Parallel()
	minute := micros(time.Minute)
	for _, tc := range []struct {
		name         string
		limit        policy.Limit
		later        int64 // the settle, after the take at a window's beginning
		total        int64
		used, expect int64 // before and after the settle
	}{
		{"fixed, in its window", policy.FixedWindow(10, time.Minute), minute - 1, 2, 8, 2},
		{"fixed, charged beyond the limit", policy.FixedWindow(10, time.Minute), minute - 1, 50, 8, 50},
		{"fixed, in the next", policy.FixedWindow(10, time.Minute), minute, 0, 0, 0},
		{"fixed, charged in the next", policy.FixedWindow(10, time.Minute), minute, 50, 0, 0},
		{"sliding, in its window", policy.PerMinute(10), minute - 1, 2, 8, 2},
		{"sliding, half into the next", policy.PerMinute(10), minute * 3 / 2, 2, 4, 1},
		{"sliding, charged half into the next", policy.PerMinute(10), minute * 3 / 2, 16, 4, 8},
		{"sliding, two windows on", policy.PerMinute(10), 2 * minute, 50, 0, 0},
		{"log, while it counts", policy.SlidingLog(10, time.Minute), minute - 1, 2, 8, 2},
		{"log, charged while it counts", policy.SlidingLog(10, time.Minute), minute - 1, 30, 8, 30},
		{"log, once it has left", policy.SlidingLog(10, time.Minute), minute, 30, 0, 0},
		{"bucket, at once", policy.TokenBucket(10, time.Minute), 0, 0, 8, 0},
		{"bucket, half refilled", policy.TokenBucket(10, time.Minute), minute / 2, 0, 3, 0},
		{"bucket, half refilled, half right", policy.TokenBucket(10, time.Minute), minute / 2, 4, 3, 0},
		{"bucket, nearly right", policy.TokenBucket(10, time.Minute), minute / 2, 7, 3, 2},
		{"bucket, refilled", policy.TokenBucket(10, time.Minute), minute, 0, 0, 0},
		{"bucket, charged", policy.TokenBucket(10, time.Minute), minute, 30, 0, 22},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, taken := tc.limit.Take(policy.State{}, epoch, 8)
			now := epoch + tc.later
			require.Equal(t, tc.used, tc.limit.Peek(s, now, 0).Used)
			s, r := tc.limit.Settle(s, now, taken.Receipt, 8, tc.total)
			require.Equal(t, tc.expect, r.Used)
			require.Equal(t, tc.expect, tc.limit.Peek(s, now, 0).Used)
		})
	}
}

// What was used before a charge refills before the charge does.
func TestSettleTokenBucketRefillsOldestFirst(t *testing.T) {
	t.Parallel()
	l := policy.TokenBucket(10, 10*time.Second)
	s, _ := l.Take(policy.State{}, epoch, 5)
	s, r := l.Take(s, epoch, 3)
	now := epoch + 4_000_000 // four units have refilled, none of them the charge's
	s, r = l.Settle(s, now, r.Receipt, 3, 0)
	require.Equal(t, int64(1), r.Used)
	require.Equal(t, time.Second, r.ResetAfter)
	require.Equal(t, now+1_000_000, s.Until)
}
