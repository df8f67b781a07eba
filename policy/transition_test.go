package policy_test

import (
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
)

// epoch is an instant in 2026, in microseconds, at a minute's beginning.
const epoch = int64(1_790_000_040_000_000)

var algorithms = map[string]func(n int64, window time.Duration) policy.Limit{
	"token bucket":   policy.TokenBucket,
	"sliding window": policy.SlidingWindow,
	"sliding log":    policy.SlidingLog,
	"fixed window":   policy.FixedWindow,
}

// drawLimit draws a valid limit, small or at the bounds.
func drawLimit(t *rapid.T, algorithm string) policy.Limit {
	number := rapid.OneOf(rapid.Int64Range(1, 12), rapid.Int64Range(1, 1000), rapid.Int64Range(1, policy.MaxLog))
	window := rapid.OneOf(
		rapid.Just(policy.MinWindow), rapid.Just(time.Second), rapid.Just(time.Minute), rapid.Just(policy.MaxWindow),
		rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(1000, 10_000_000).Draw(t, "µs")) * time.Microsecond
		}))
	if algorithm != "sliding log" {
		number = rapid.OneOf(number, rapid.Int64Range(policy.MaxUnits-5, policy.MaxUnits))
	}
	l := algorithms[algorithm](number.Draw(t, "n"), window.Draw(t, "window"))
	if algorithm == "token bucket" && rapid.Bool().Draw(t, "has burst") {
		if b := l.WithBurst(rapid.OneOf(rapid.Int64Range(1, 30), rapid.Int64Range(1, policy.MaxUnits)).Draw(t, "burst")); b.Validate() == nil {
			l = b
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "refusals") == 0 {
		l = l.CountRefused()
	}
	if rapid.IntRange(0, 2).Draw(t, "scaled") == 0 {
		l = l.Scaled(rapid.OneOf(rapid.Just(policy.Whole/2), rapid.Int64Range(1, policy.Whole)).Draw(t, "millionths"))
	}
	return l
}

// drawUnits draws an amount that makes refusals likely.
func drawUnits(t *rapid.T, l policy.Limit) int64 {
	return rapid.OneOf(
		rapid.Int64Range(0, 3), rapid.Int64Range(0, l.Capacity()+1), rapid.Int64Range(l.Capacity()/2, l.Capacity()),
		rapid.Int64Range(l.Capacity(), l.Largest()+1),
	).Draw(t, "units")
}

// drawStep draws how far the clock moves: mostly about as long as a unit takes
// or a window lasts, sometimes backwards.
func drawStep(t *rapid.T, l policy.Limit) int64 {
	window := l.Window().Microseconds()
	unit := max(1, window/l.N())
	return rapid.OneOf(
		rapid.Just(int64(0)), rapid.Just(int64(1)), rapid.Int64Range(0, 3*unit), rapid.Int64Range(0, window),
		rapid.Int64Range(0, 3*window), rapid.Int64Range(-window, 0),
	).Draw(t, "step")
}

func perAlgorithm(t *testing.T, check func(t *rapid.T, algorithm string)) {
	t.Helper()
	for name := range algorithms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) { check(t, name) })
		})
	}
}

// Every answer equals the oracle's, and every wait is exact.
func TestTakeEqualsOracle(t *testing.T) {
	t.Parallel()
	perAlgorithm(t, func(t *rapid.T, algorithm string) {
		l := drawLimit(t, algorithm)
		o := &oracle{limit: l}
		var s policy.State
		now := epoch + rapid.Int64Range(0, l.Window().Microseconds()).Draw(t, "start")
		for range rapid.IntRange(1, 25).Draw(t, "takes") {
			now += drawStep(t, l)
			n := drawUnits(t, l)
			before := l.Peek(s, now, n)
			require.Equal(t, ceil(o.used(now)), before.Used, "used before")

			want := o.take(now, n)
			next, r := l.Take(s, now, n)
			require.Equal(t, want, r.Verdict)
			require.Equal(t, want, before.Verdict, "peek")
			require.Equal(t, ceil(o.used(now)), r.Used, "used after")
			require.Equal(t, max(0, l.Capacity()-r.Used), r.Remaining)
			require.Equal(t, l.N(), r.Limit)
			require.Equal(t, l.Capacity(), r.Capacity)
			if want != policy.Allowed && !l.CountsRefused() || n == 0 {
				require.Equal(t, s, next, "a refusal changes nothing")
			}
			s = next
			checkWaits(t, l, o, s, now, n, r)
			checkUntil(t, l, o, s)
		}
	})
}

func checkWaits(t *rapid.T, l policy.Limit, o *oracle, s policy.State, now, n int64, r policy.Result) {
	if r.Verdict == policy.Refused {
		at := now + micros(r.RetryAfter)
		require.Equal(t, policy.Allowed, o.verdict(at, n), "oracle after RetryAfter")
		require.Equal(t, policy.Refused, o.verdict(at-1, n), "oracle a microsecond before")
		require.Equal(t, policy.Allowed, l.Peek(s, at, n).Verdict, "after RetryAfter")
		require.Equal(t, policy.Refused, l.Peek(s, at-1, n).Verdict, "a microsecond before")
		require.Equal(t, r.RetryAfter, r.ResetAfter)
	} else {
		require.Zero(t, r.RetryAfter)
	}
	if r.Used == 0 {
		require.Zero(t, r.NextAfter)
		require.Zero(t, r.ResetAfter)
		return
	}
	capacity := l.Capacity()
	at := now + micros(r.NextAfter)
	require.Greater(t, max(0, capacity-ceil(o.used(at))), r.Remaining, "more remains after NextAfter")
	require.Equal(t, r.Remaining, max(0, capacity-ceil(o.used(at-1))), "and no sooner")
	if r.Verdict == policy.Refused {
		return
	}
	at = now + micros(r.ResetAfter)
	window := l.Window().Microseconds()
	switch l.Algorithm() {
	case policy.AlgorithmTokenBucket:
		require.Zero(t, o.used(at).Sign(), "full after ResetAfter")
		require.Positive(t, o.used(at-1).Sign(), "and no sooner")
	case policy.AlgorithmSlidingLog:
		require.Equal(t, r.NextAfter, r.ResetAfter)
	default:
		require.Zero(t, at%window, "ResetAfter is a window's end")
		require.Equal(t, max(now, s.At)/window+1, at/window, "and that of the current one")
	}
}

func checkUntil(t *rapid.T, l policy.Limit, o *oracle, s policy.State) {
	require.GreaterOrEqual(t, s.Until, s.At)
	if s.Until == 0 {
		return
	}
	require.Zero(t, o.used(s.Until).Sign(), "nothing matters from Until on")
	require.Positive(t, o.used(s.Until-1).Sign(), "and something does before")
	fresh, _ := l.Take(policy.State{}, s.Until, 1)
	drained, _ := l.Take(s, s.Until, 1)
	require.Equal(t, fresh.A, drained.A)
	require.Equal(t, fresh.B, drained.B)
	require.Equal(t, fresh.Until, drained.Until)
}

// A greedy client never gets more than the documentation says.
func TestAdmitsAtMost(t *testing.T) {
	t.Parallel()
	perAlgorithm(t, func(t *rapid.T, algorithm string) {
		n := rapid.Int64Range(1, 9).Draw(t, "n")
		window := time.Duration(rapid.Int64Range(1000, 5000).Draw(t, "window")) * time.Microsecond
		l := algorithms[algorithm](n, window)
		if algorithm == "token bucket" {
			l = l.WithBurst(rapid.Int64Range(1, 20).Draw(t, "burst"))
		}
		var admitted []policy.Entry
		var s policy.State
		now := epoch
		for range rapid.IntRange(20, 80).Draw(t, "takes") {
			now += rapid.Int64Range(0, l.Window().Microseconds()/2).Draw(t, "step")
			for u := rapid.Int64Range(1, l.Capacity()).Draw(t, "units"); u > 0; u-- {
				next, r := l.Take(s, now, u)
				if s = next; r.Verdict == policy.Allowed {
					admitted = append(admitted, policy.Entry{At: now, Units: u})
				}
			}
		}
		w := l.Window().Microseconds()
		for i := range admitted {
			sum := int64(0)
			for _, e := range admitted[i:] {
				sum += e.Units
				span := e.At - admitted[i].At
				same := e.At/w == admitted[i].At/w
				switch l.Algorithm() {
				case policy.AlgorithmTokenBucket:
					bound := new(big.Rat).Add(units(l.Capacity()), big.NewRat(span*n, w))
					require.LessOrEqual(t, units(sum).Cmp(bound), 0, "%d in %d µs", sum, span)
				case policy.AlgorithmSlidingLog:
					require.True(t, span >= w || sum <= n, "%d in %d µs", sum, span)
				case policy.AlgorithmFixedWindow:
					require.True(t, !same || sum <= n, "%d in one window", sum)
					require.True(t, span >= w || sum <= 2*n, "%d in %d µs", sum, span)
				case policy.AlgorithmSlidingWindow:
					require.True(t, !same || sum <= n, "%d in one window", sum)
					require.True(t, span >= w || sum <= 2*n, "%d in %d µs", sum, span)
				}
			}
		}
	})
}

// A joint decision drops new states: the old one has to say what it said.
func TestTakeLeavesOldStateAlone(t *testing.T) {
	t.Parallel()
	perAlgorithm(t, func(t *rapid.T, algorithm string) {
		l := drawLimit(t, algorithm)
		now := epoch
		var s policy.State
		for range rapid.IntRange(0, 20).Draw(t, "takes") {
			now += drawStep(t, l)
			n := drawUnits(t, l)
			copied := s
			copied.Log = slices.Clone(s.Log)
			answer := l.Peek(s, now, n)

			l.Take(s, now, drawUnits(t, l)) // dropped
			require.Equal(t, copied, s)
			require.Equal(t, answer, l.Peek(s, now, n))

			fromCopy, want := l.Take(copied, now, n)
			var got policy.Result
			s, got = l.Take(s, now, n)
			require.Equal(t, want, got)
			require.Equal(t, fromCopy, s)
		}
	})
}

// Report, given what Take left, says what Take said.
func TestReportEqualsTake(t *testing.T) {
	t.Parallel()
	perAlgorithm(t, func(t *rapid.T, algorithm string) {
		l := drawLimit(t, algorithm)
		now := epoch
		var s policy.State
		for range rapid.IntRange(1, 20).Draw(t, "takes") {
			now += drawStep(t, l)
			n := drawUnits(t, l)
			var want policy.Result
			s, want = l.Take(s, now, n)
			if algorithm != "sliding log" || len(s.Log) > 0 {
				require.Equal(t, want, l.Report(s, now, n, want.Verdict, want.Verdict == policy.Allowed))
			}
			if algorithm != "sliding log" {
				continue
			}
			numbers := policy.State{At: max(s.At, now), Until: s.Until, A: want.Used}
			numbers.B = now + micros(want.NextAfter)
			numbers.C = now + micros(want.RetryAfter)
			if now >= numbers.At {
				require.Equal(t, want, l.Report(numbers, now, n, want.Verdict, want.Verdict == policy.Allowed), "by its numbers alone")
			}
		}
	})
}

// Numbers that change between two takes keep the usage, and the waits stay
// exact under the new numbers.
func TestChangedNumbers(t *testing.T) {
	t.Parallel()
	perAlgorithm(t, func(t *rapid.T, algorithm string) {
		window := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Hour}).Draw(t, "window")
		var s policy.State
		now := epoch
		for range rapid.IntRange(1, 20).Draw(t, "takes") {
			l := algorithms[algorithm](rapid.Int64Range(1, 30).Draw(t, "n"), window)
			step := drawStep(t, l)
			now += step
			n := drawUnits(t, l)
			before := l.Peek(s, now, 0)
			var r policy.Result
			s, r = l.Take(s, now, n)
			if r.Verdict == policy.Allowed {
				require.Equal(t, before.Used+n, r.Used)
			} else {
				require.Equal(t, before.Used, r.Used)
			}
			if r.Verdict == policy.Refused {
				at := now + micros(r.RetryAfter)
				require.Equal(t, policy.Allowed, l.Peek(s, at, n).Verdict)
				require.Equal(t, policy.Refused, l.Peek(s, at-1, n).Verdict)
			}
		}
	})
}

func TestChangedNumbersKeepUsage(t *testing.T) {
	t.Parallel()
	for name, of := range algorithms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			small, large := of(100, time.Minute), of(200, time.Minute)
			s, r := small.Take(policy.State{}, epoch, 80)
			require.Equal(t, int64(20), r.Remaining)

			require.Equal(t, int64(120), large.Peek(s, epoch, 0).Remaining, "raised")
			s, r = large.Take(s, epoch, 120)
			require.Equal(t, policy.Allowed, r.Verdict)

			r = small.Peek(s, epoch, 1)
			require.Equal(t, policy.Refused, r.Verdict, "lowered")
			require.Equal(t, int64(200), r.Used)
			require.Zero(t, r.Remaining)
			at := epoch + micros(r.RetryAfter)
			require.Equal(t, policy.Allowed, small.Peek(s, at, 1).Verdict, "free again when drained")
			require.Equal(t, policy.Refused, small.Peek(s, at-1, 1).Verdict)
			require.Equal(t, int64(100), small.Peek(s, s.Until, 0).Remaining)
		})
	}
}

// A bucket of one a second and a burst of 100 admits 100 and eight more in 8.6
// seconds, however it is asked.
func TestTokenBucketBurstCase(t *testing.T) {
	t.Parallel()
	l := policy.TokenBucket(1, time.Second).WithBurst(100)
	var s policy.State
	admitted := 0
	for at := epoch; at <= epoch+8_600_000; at += 10_000 {
		for range 3 {
			next, r := l.Take(s, at, 1)
			if s = next; r.Verdict == policy.Allowed {
				admitted++
			}
		}
	}
	require.Equal(t, 108, admitted)
}

// In binary floating point the sum comes to less than the limit.
func TestSlidingWindowRoundsAgainstTheClient(t *testing.T) {
	t.Parallel()
	l := policy.PerDay(200_000)
	day := micros(24 * time.Hour)
	midnight := epoch - epoch%day
	s, _ := l.Take(policy.State{}, midnight-day, 121_679)
	// 182,556 today go in without being judged, as a Settle may.
	s, _ = l.Settle(s, midnight+74_014_336_081, policy.Receipt{At: midnight}, 0, 182_556)
	r := l.Peek(s, midnight+74_014_336_081, 1)
	require.Equal(t, policy.Refused, r.Verdict)

	o := &oracle{limit: l, history: []policy.Entry{{At: midnight - day, Units: 121_679}, {At: midnight, Units: 182_556}}}
	require.Equal(t, policy.Refused, o.verdict(midnight+74_014_336_081, 1))
	require.Equal(t, policy.Allowed, l.Peek(s, midnight+74_014_336_081+micros(r.RetryAfter), 1).Verdict)
}

func TestCountRefused(t *testing.T) {
	t.Parallel()
	for name, of := range algorithms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := of(10, time.Minute).CountRefused()
			s, _ := l.Take(policy.State{}, epoch, 10)
			for range 30 {
				s, _ = l.Take(s, epoch, 1)
			}
			r := l.Peek(s, epoch, 1)
			require.Equal(t, int64(20), r.Used, "up to twice the capacity")

			_, r = l.Take(s, epoch, 11)
			require.Equal(t, policy.Never, r.Verdict)
			require.Equal(t, int64(20), r.Used, "never costs nothing")
			require.Zero(t, r.RetryAfter)

			s, _ = l.Take(policy.State{}, epoch, 8)
			s, r = l.Take(s, epoch, 7)
			require.Equal(t, policy.Refused, r.Verdict)
			require.Equal(t, int64(15), r.Used, "a refusal costs its units")
			require.Equal(t, policy.Refused, l.Peek(s, epoch, 1).Verdict)
		})
	}
}

// A clock that was set back refills nothing, refunds nothing, and waits until
// it has caught up.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	for name, of := range algorithms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := of(10, time.Minute)
			s, _ := l.Take(policy.State{}, epoch, 10)
			back := epoch - micros(time.Hour)
			kept, r := l.Take(s, back, 1)
			require.Equal(t, policy.Refused, r.Verdict)
			require.Greater(t, r.RetryAfter, time.Hour)
			require.Equal(t, s, kept)
			at := back + micros(r.RetryAfter)
			require.Equal(t, policy.Allowed, l.Peek(s, at, 1).Verdict)
			require.Equal(t, policy.Refused, l.Peek(s, at-1, 1).Verdict)
			require.Equal(t, l.Peek(s, epoch, 1).Used, r.Used)
		})
	}
}

// At the bounds of validation no number overflows.
func TestBounds(t *testing.T) {
	t.Parallel()
	for name, of := range algorithms {
		for _, window := range []time.Duration{policy.MinWindow, policy.MaxWindow} {
			t.Run(fmt.Sprint(name, " ", window), func(t *testing.T) {
				t.Parallel()
				n := int64(policy.MaxUnits)
				if name == "sliding log" {
					n = policy.MaxLog
				}
				l := of(n, window).CountRefused()
				require.NoError(t, l.Validate())
				o := &oracle{limit: l}
				var s policy.State
				now := epoch
				for _, u := range []int64{n, n, 1, n / 2, n + 1, 1<<63 - 1, n} {
					var r policy.Result
					s, r = l.Take(s, now, u)
					require.Equal(t, o.take(now, u), r.Verdict)
					require.Equal(t, ceil(o.used(now)), r.Used)
					now += l.Window().Microseconds() / 3
				}
				s, r := l.Settle(s, now, policy.Receipt{At: now}, 0, 1<<63-1)
				require.GreaterOrEqual(t, s.A, int64(0))
				require.GreaterOrEqual(t, r.Used, n)
				require.Zero(t, r.Remaining)
				require.GreaterOrEqual(t, s.Until, now)
				again, _ := l.Settle(s, now, policy.Receipt{At: now}, 0, 1<<63-1)
				require.Equal(t, s.A, again.A, "usage is bounded")
			})
		}
	}
	slow := policy.TokenBucket(1, policy.MaxWindow).WithBurst(40)
	require.NoError(t, slow.Validate())
	s, _ := slow.Take(policy.State{}, epoch, 40)
	r := slow.Peek(s, epoch, 40)
	require.Equal(t, 40*policy.MaxWindow, r.RetryAfter)
}

func TestNegativeUnitsPanic(t *testing.T) {
	t.Parallel()
	l := policy.PerMinute(1)
	require.Panics(t, func() { l.Take(policy.State{}, epoch, -1) })
	require.Panics(t, func() { l.Peek(policy.State{}, epoch, -1) })
	require.Panics(t, func() { l.Settle(policy.State{}, epoch, policy.Receipt{}, -1, 0) })
	require.Panics(t, func() { l.Settle(policy.State{}, epoch, policy.Receipt{}, 0, -1) })
}
