package policy

import "time"

// FixedWindow allows n units in each window of the clock: windows begin at
// whole multiples of the window since 1970-01-01T00:00:00Z, days at midnight
// UTC.
//
//	admitted at t  <=>  count + units <= n    count of the window that holds t
//
// Against an exact log it can admit twice the number: n at a window's end and
// n more as the next one begins. It is the right limit where a page promises
// calendar windows, and the cheapest.
func FixedWindow(n int64, window time.Duration) Limit {
	return newLimit(AlgorithmFixedWindow, n, window)
}

// A is the count of the window that holds At.

func (l *Limit) advanceFixedWindow(s *State, start int64) {
	if start > s.At {
		s.A = 0
	}
}

func (l *Limit) settleFixedWindow(s *State, e int64, receipt Receipt, delta int64) bool {
	if receipt.At < s.At-e {
		return false // its window is over
	}
	s.A = min(max(0, s.A+delta), maxUsed)
	s.Until = l.drainedAt(s, e)
	return true
}

func (l *Limit) drainedAtFixedWindow(s *State, e int64) int64 {
	if s.A == 0 {
		return s.At
	}
	return s.At - e + l.window
}
