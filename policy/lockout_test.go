package policy_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
)

// A lockoutOracle remembers every try, failure and block, and derives from them
// what holds at an instant. It shares no formula with the package.
type lockoutOracle struct {
	n      int64
	window int64
	blocks []int64

	opened   int64 // when the last window was
	open     bool
	holds    []*try // of that window, those settled too
	failures int64
	past     [][2]int64 // blocks
}

type try struct {
	at, units int64
	settled   bool
}

func (o *lockoutOracle) advance(at int64) {
	if o.open && at >= o.opened+o.window {
		o.close()
	}
}

func (o *lockoutOracle) close() { o.open, o.holds, o.failures = false, nil, 0 }

func (o *lockoutOracle) begin(at int64) {
	if !o.open {
		o.open, o.opened = true, at
	}
}

func (o *lockoutOracle) blockedUntil(at int64) int64 {
	for _, b := range o.past {
		if b[0] <= at && at < b[1] {
			return b[1]
		}
	}
	return 0
}

func (o *lockoutOracle) used(at int64) int64 {
	if o.blockedUntil(at) > 0 {
		return o.n
	}
	used := o.failures
	for _, h := range o.holds {
		if !h.settled {
			used += h.units
		}
	}
	return used
}

func (o *lockoutOracle) verdict(at, units int64) policy.Verdict {
	switch {
	case units > o.n:
		return policy.Never
	case o.blockedUntil(at) > 0, units > 0 && o.used(at)+units > o.n:
		return policy.Refused
	}
	return policy.Allowed
}

// next is the length of the block that would start at an instant.
func (o *lockoutOracle) next(at int64) int64 {
	last := len(o.blocks) - 1
	memory := max(o.window, o.blocks[last])
	level := 0
	for i, b := range o.past {
		level = min(level+1, last)
		until := at
		if i+1 < len(o.past) {
			until = o.past[i+1][0]
		}
		// A block fades from the second after its end.
		for from := (b[1] + 999_999) / 1_000_000 * 1_000_000; from+memory <= until && level > 0; from += memory {
			level--
		}
	}
	return o.blocks[level]
}

// settle tells how many failures the try had, or some that were no try. It
// returns the length of the block that this starts, or 0.
func (o *lockoutOracle) settle(at int64, t *try, failed int64) int64 {
	if o.blockedUntil(at) > 0 {
		return 0
	}
	t.settled = true
	if failed > 0 {
		o.begin(at)
		o.failures += failed
		if o.failures >= o.n {
			o.close()
			return o.next(at)
		}
	}
	if o.used(at) == 0 {
		o.close()
	}
	return 0
}

func drawLockout(t *rapid.T) (policy.Limit, *lockoutOracle) {
	length := rapid.OneOf(
		rapid.SampledFrom([]time.Duration{policy.MinWindow, time.Second, time.Minute, time.Hour, policy.MaxWindow}),
		rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(1000, 10_000_000).Draw(t, "µs")) * time.Microsecond
		}))
	n, window := rapid.Int64Range(1, 6).Draw(t, "n"), length.Draw(t, "window")
	blocks := []time.Duration{length.Draw(t, "block")}
	for range rapid.IntRange(0, policy.MaxBlocks-1).Draw(t, "more blocks") {
		longer := blocks[len(blocks)-1] * time.Duration(rapid.IntRange(1, 4).Draw(t, "times"))
		blocks = append(blocks, min(longer, policy.MaxWindow))
	}
	l := policy.Lockout(n, window, blocks...)
	require.NoError(t, l.Validate())
	require.Equal(t, blocks, l.Blocks())
	o := &lockoutOracle{n: n, window: micros(window)}
	for _, b := range blocks {
		o.blocks = append(o.blocks, micros(b))
	}
	return l, o
}

func TestLockoutEqualsOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l, o := drawLockout(t)
		now, s := epoch, policy.State{}
		type taken struct {
			*try
			receipt policy.Receipt
		}
		var all []taken
		for range rapid.IntRange(1, 60).Draw(t, "operations") {
			step := rapid.OneOf(
				rapid.SampledFrom([]int64{0, 0, 0, 1}), rapid.Int64Range(0, 2*o.window),
				rapid.SampledFrom([]int64{s.B - now, s.B - now - 1, s.Until - now, s.Until - now - 1}),
				rapid.Int64Range(0, 3*o.blocks[len(o.blocks)-1]),
			).Draw(t, "step")
			now = min(now+max(0, step), int64(4e15))
			o.advance(now)
			switch rapid.IntRange(0, 3).Draw(t, "operation") {
			case 0, 1:
				units := rapid.Int64Range(0, o.n+1).Draw(t, "units")
				if rapid.Bool().Draw(t, "one") {
					units = 1
				}
				want := o.verdict(now, units)
				var r policy.Result
				s, r = l.Take(s, now, units)
				require.Equal(t, want, r.Verdict)
				if want == policy.Allowed {
					h := &try{at: now, units: units}
					if units > 0 {
						o.begin(now)
						o.holds = append(o.holds, h)
					}
					all = append(all, taken{h, r.Receipt})
				}
			default:
				var one taken
				if len(all) > 0 {
					one = all[rapid.IntRange(0, len(all)-1).Draw(t, "which")]
				}
				if one.try == nil || one.settled {
					one = taken{&try{at: now}, policy.Receipt{At: now}}
				}
				failed := rapid.OneOf(rapid.Int64Range(0, 1), rapid.Int64Range(0, o.n+1), rapid.Just(int64(math.MaxInt64))).Draw(t, "failed")
				length := o.settle(now, one.try, min(failed, o.n))
				one.settled = true // a ticket counts once
				before := s
				s, _ = l.Settle(s, now, one.receipt, one.units, failed)
				if length > 0 {
					require.GreaterOrEqual(t, s.B-now, length)
					require.LessOrEqual(t, s.B-now, length+length/32)
					o.past = append(o.past, [2]int64{now, s.B})
				} else if o.blockedUntil(now) > 0 {
					require.Equal(t, before, s, "failures while blocked change nothing")
				}
			}
			r := l.Peek(s, now, 0)
			require.Equal(t, o.used(now), r.Used)
			require.Equal(t, max(0, o.n-r.Used), r.Remaining)
			require.Equal(t, o.verdict(now, 0), r.Verdict)
			until := o.blockedUntil(now)
			require.Equal(t, until > 0, r.Blocked)
			if until > 0 {
				require.Equal(t, micros(r.RetryAfter), until-now)
			} else {
				require.Zero(t, r.RetryAfter)
			}
			if r.Used > 0 || len(o.past) > 0 && o.next(now) > o.blocks[0] {
				require.Greater(t, s.Until, now, "it matters still")
			}
			earlier := now - rapid.Int64Range(0, o.window).Draw(t, "earlier")
			require.GreaterOrEqual(t, l.Peek(s, earlier, 0).Used, min(r.Used, o.n), "a clock set back frees nothing")
		}
	})
}

// The story that the limit is for.
func TestLockoutGrowsAndForgets(t *testing.T) {
	t.Parallel()
	l := policy.Lockout(3, time.Minute, time.Hour, 4*time.Hour, 24*time.Hour)
	now, s := epoch, policy.State{}
	fail := func() (r policy.Result) {
		s, r = l.Take(s, now, 1)
		require.Equal(t, policy.Allowed, r.Verdict)
		s, r = l.Settle(s, now, r.Receipt, 1, 1)
		now++
		return r
	}
	lockOut := func() time.Duration {
		require.False(t, fail().Blocked)
		require.False(t, fail().Blocked)
		r := fail()
		require.True(t, r.Blocked)
		require.Equal(t, policy.Refused, r.Verdict)
		require.Zero(t, r.Remaining)
		now += micros(r.RetryAfter) - 1
		require.False(t, l.Peek(s, now, 0).Blocked)
		require.True(t, l.Peek(s, now-1, 0).Blocked)
		return r.RetryAfter
	}
	about := func(want, got time.Duration) {
		t.Helper()
		require.GreaterOrEqual(t, got, want)
		require.LessOrEqual(t, got, want+want/32)
	}
	about(time.Hour, lockOut())
	about(4*time.Hour, lockOut())
	about(24*time.Hour, lockOut())
	about(24*time.Hour, lockOut())
	now += micros(25 * time.Hour)
	about(4*time.Hour, lockOut())
	now += micros(23 * time.Hour) // not long enough
	about(24*time.Hour, lockOut())
	now += micros(49 * time.Hour)
	about(time.Hour, lockOut())
	require.Greater(t, s.Until, now)
	now = s.Until
	about(time.Hour, lockOut())
}

// Blocks of one length that start together end apart.
func TestLockoutBlocksDiffer(t *testing.T) {
	t.Parallel()
	l := policy.Lockout(1, time.Minute, time.Hour)
	ends := map[int64]bool{}
	for i := range int64(100) {
		s, r := l.Settle(policy.State{}, epoch+i, policy.Receipt{}, 0, 1)
		require.True(t, r.Blocked)
		ends[s.B-epoch-i] = true
	}
	require.Greater(t, len(ends), 90)
}

// A try that was forgotten meanwhile gives no failure back.
func TestLockoutForgottenTry(t *testing.T) {
	t.Parallel()
	l := policy.Lockout(3, time.Minute)
	s, _ := l.Settle(policy.State{}, epoch, policy.Receipt{}, 0, 2)
	s, r := l.Settle(s, epoch, policy.Receipt{At: epoch}, 3, 0)
	require.Equal(t, int64(2), r.Used)
	require.Equal(t, int64(2), l.Peek(s, epoch, 0).Used)
}

// Holds that nobody settles fill the window, and start no block.
func TestLockoutUnsettledTries(t *testing.T) {
	t.Parallel()
	l := policy.Lockout(3, time.Minute)
	now, s := epoch, policy.State{}
	for range 3 {
		var r policy.Result
		s, r = l.Take(s, now, 1)
		require.Equal(t, policy.Allowed, r.Verdict)
	}
	_, r := l.Take(s, now, 1)
	require.Equal(t, policy.Refused, r.Verdict)
	require.False(t, r.Blocked)
	require.Zero(t, r.RetryAfter, "somebody's try may turn out well at any time")
	require.Equal(t, time.Minute, r.ResetAfter)
	require.Equal(t, policy.Allowed, l.Peek(s, now, 0).Verdict, "who only looks is let in")
	require.Equal(t, policy.Refused, l.Peek(s, now+micros(time.Minute)-1, 1).Verdict)
	require.Equal(t, policy.Allowed, l.Peek(s, now+micros(time.Minute), 1).Verdict)
}

func TestLockoutNumbers(t *testing.T) {
	t.Parallel()
	require.Equal(t, "10 failures per 15 minutes, then blocked for 1h, 4h, 1d", policy.Lockout(10, 15*time.Minute).String())
	require.Equal(t, "1 failure per hour, then blocked for 2h", policy.Lockout(1, time.Hour, 2*time.Hour).String())
	require.Equal(t, "lockout-15m", policy.Lockout(10, 15*time.Minute).Name())
	require.Equal(t, "lock-out", policy.AlgorithmLockout.String())
	require.Nil(t, policy.PerMinute(1).Blocks())
	require.Equal(t, policy.Lockout(2, time.Hour, time.Hour), policy.Lockout(2, time.Hour, time.Hour), "comparable")
	require.NotEqual(t, policy.Lockout(2, time.Hour, time.Hour), policy.Lockout(2, time.Hour, 2*time.Hour))
	for want, l := range map[string]policy.Limit{
		"number 0":               policy.Lockout(0, time.Hour),
		"10000 failures at most": policy.Lockout(policy.MaxFailures+1, time.Hour),
		"block 1µs":              policy.Lockout(1, time.Hour, time.Microsecond),
		"block 1ms after one":    policy.Lockout(1, time.Hour, time.Second, time.Millisecond),
		"9 blocks: write 8":      policy.Lockout(1, time.Hour, make([]time.Duration, 9)...),
		"window 0s":              policy.Lockout(1, 0),
		"write no CountRefused":  policy.Lockout(1, time.Hour).CountRefused(),
		"it has no burst":        policy.Lockout(1, time.Hour).WithBurst(3),
	} {
		require.ErrorContains(t, l.Validate(), want)
		require.NotEmpty(t, l.String())
		require.Nil(t, l.Blocks())
	}
}

// A block binds before any wait.
func TestBlockBinds(t *testing.T) {
	t.Parallel()
	block := policy.Result{Verdict: policy.Refused, Blocked: true, RetryAfter: time.Second}
	wait := policy.Result{Verdict: policy.Refused, RetryAfter: time.Hour}
	never := policy.Result{Verdict: policy.Never}
	require.True(t, block.Tighter(wait))
	require.False(t, wait.Tighter(block))
	require.True(t, never.Tighter(block))
	d := policy.Decision{Results: []policy.Result{wait, block}}
	require.Equal(t, 1, d.Binding())
	require.Equal(t, time.Hour, d.RetryAfter(), "the whole request waits for the last of them")
	d.Results = append(d.Results, never)
	require.Zero(t, d.RetryAfter())
}
