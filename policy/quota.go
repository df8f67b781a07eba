package policy

import (
	"strconv"
	"unique"
)

// Unlimited is the number of a [Quota] that counts and never refuses. It is the
// limit's N, and the Limit of its results.
const Unlimited int64 = 1 << 52

// Quota allows n units in each billing period. n may be [Unlimited].
//
//	admitted at t  <=>  count + units <= n    count of the period that holds t
//
// A number that changes in mid-period, as when a customer changes plans, keeps
// what was used; a changed period starts afresh. The count of a period is kept
// until the next one ends, so that it can be read ([Meter]) and corrected
// ([Store.Settle]) after it is over.
func Quota(n int64, period Period) Limit {
	l := Limit{algorithm: AlgorithmQuota, n: n, burst: n, details: unique.Make(details{period: period})}
	switch {
	case period.unit == 0:
		l.fail("zero Period: write Daily, Weekly, Monthly or Yearly")
	case period.problem != nil:
		l.fail("%s", *period.problem)
	case n != Unlimited && (n < 1 || n > MaxUnits):
		l.fail("number %d: write one from 1 to %d, or Unlimited", n, int64(MaxUnits))
	}
	l.name("quota-" + period.name())
	return l
}

// Period returns the billing period of a [Quota], and the zero Period for other
// limits.
func (l Limit) Period() Period { return l.also().period }

// A is the count of the period that holds At, B the end of that period, and C
// the count of the period before. Until is the end of the period after B if A
// counts, so that the calendar is asked only where a period turns that something
// was taken in.

func (l *Limit) advanceQuota(s *State, now int64) {
	if now >= s.B {
		s.A, s.B, s.C = 0, s.Until, s.A
	}
}

func (l *Limit) settleQuota(s *State, receipt Receipt, delta int64) bool {
	switch {
	case receipt.B >= s.B:
		s.A = min(max(0, s.A+delta), maxUsed)
	case receipt.A >= s.B:
		s.C = min(max(0, s.C+delta), maxUsed)
	default:
		return false // its period is long over
	}
	s.Until = l.drainedAtQuota(s)
	return true
}

func (l *Limit) drainedAtQuota(s *State) int64 {
	switch {
	case s.A > 0:
		return l.nextEnd(s)
	case s.C > 0:
		return s.B
	}
	return s.At
}

// nextEnd returns the end of the period after the state's.
func (l *Limit) nextEnd(s *State) int64 {
	if s.Until > s.B {
		return s.Until
	}
	return l.periodAfter(s.B)
}

func (l *Limit) describeQuota() string {
	n := "unlimited"
	if l.n != Unlimited {
		n = strconv.FormatInt(l.n, 10)
	}
	return n + " per " + l.Period().String()
}

// periodAfter returns when the next period begins.
func (l *Limit) periodAfter(at int64) int64 {
	p := l.Period()
	return p.after(at)
}
