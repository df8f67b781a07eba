package policy

import (
	"time"
	"unique"
)

// TokenBucket allows n units per duration, refilled continuously, and as many
// as its burst at once: n, unless [Limit.WithBurst] says otherwise.
//
//	admitted at t  <=>  used(t) + units <= burst
//	used(t)         =   max(0, used(t0) - (t - t0) · n / per)
//
// In any span d it admits at most burst + d·n/per units, and that is its whole
// error against an exact log of n per duration: up to one burst more. What is
// used is kept to the last microsecond's share of a unit, so no rounding ever
// adds up. It is the leaky bucket as a meter of ITU-T I.371, whose other
// form is GCRA.
func TokenBucket(n int64, per time.Duration) Limit {
	return newLimit(AlgorithmTokenBucket, n, per)
}

// WithBurst returns the token bucket with room for b units at once. A burst
// below the number is legal: TokenBucket(60, time.Minute).WithBurst(1) is one a
// second, strictly spaced. Other algorithms have no burst.
func (l Limit) WithBurst(b int64) Limit {
	switch {
	case l.algorithm != AlgorithmTokenBucket:
		l.fail("it has no burst: write TokenBucket(n, per).WithBurst(b)")
	case b < 1 || b > MaxUnits:
		l.fail("burst %d: write one from 1 to %d", b, int64(MaxUnits))
	}
	d := l.also()
	d.burst = b
	l.burst, l.details = b, unique.Make(d)
	return l.checkDrain()
}

// A is the whole units used. B is the fraction beyond, in 1/window units: with
// a window of w microseconds, a bucket refills exactly n/w units in each, so
// B/w loses nothing.

func (l *Limit) advanceTokenBucket(s *State, now int64) {
	units, frac := mulDiv(now-s.At, l.n, l.window)
	s.A, s.B = l.subtract(s.A, s.B, units, frac)
}

func (l *Limit) usedTokenBucket(s *State) int64 {
	if s.B > 0 {
		return s.A + 1
	}
	return s.A
}

// settleTokenBucket gives back only what has not refilled since the take. A
// charge of d units on a bucket that had used u before it is refilled only
// after those u: of what r has refilled since, max(0, r - u) was the charge's.
func (l *Limit) settleTokenBucket(s *State, receipt Receipt, taken, total int64) bool {
	if total >= taken {
		l.add(s, 0, total-taken)
		return true
	}
	units, frac := mulDiv(max(0, s.At-receipt.At), l.n, l.window)
	units, frac = l.subtract(units, frac, receipt.A, receipt.B) // the charge's own refill
	backUnits, backFrac := l.subtract(taken, 0, units, frac)    // what it still occupies
	if backUnits >= taken-total {
		backUnits, backFrac = taken-total, 0
	}
	s.A, s.B = l.subtract(s.A, s.B, backUnits, backFrac)
	s.Until = l.refilledAt(s.At, s.A, s.B)
	return true
}

// refilledAt returns when units and frac will have refilled, counted from at.
func (l *Limit) refilledAt(at, units, frac int64) int64 {
	if units < 0 {
		return at
	}
	q, r := mulDiv(units, l.window, l.n)
	if q >= maxInstant-at {
		return maxInstant
	}
	// r < n and frac < window, so that the sum cannot overflow.
	return min(at+q+(r+frac+l.n-1)/l.n, maxInstant)
}

// subtract returns a + b/window - (c + d/window), or zero if that is negative.
func (l *Limit) subtract(a, b, c, d int64) (units, frac int64) {
	a, b = a-c, b-d
	if b < 0 {
		a, b = a-1, b+l.window
	}
	if a < 0 {
		return 0, 0
	}
	return a, b
}
