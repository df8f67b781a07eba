package policy

import (
	"slices"
	"time"
)

// SlidingLog allows exactly n units in any window, wherever it begins: it keeps
// the instant of every admission, and n is at most [MaxLog].
//
//	admitted at t  <=>  used(t) + units <= n
//	used(t)         =   sum of the units admitted in (t - window, t]
//
// Its error is none: it is the exact log that the other algorithms' errors are
// measured against. It costs an entry for every admission that still counts.
func SlidingLog(n int64, window time.Duration) Limit {
	return newLimit(AlgorithmSlidingLog, n, window)
}

// A is the sum of the log's units. A state that a store reports by its numbers
// alone has no Log: then B is the instant at which Remaining grows, and C the
// one at which the units asked for are admitted.

func (l *Limit) advanceSlidingLog(s *State, now int64) {
	gone := 0
	for gone < len(s.Log) && s.Log[gone].At <= now-l.window {
		s.A -= s.Log[gone].Units
		gone++
	}
	s.Log = s.Log[gone:]
}

// addSlidingLog never touches an entry that is there: a joint decision may yet
// drop the new state and keep the old one.
func (l *Limit) addSlidingLog(s *State, units int64) {
	s.A += units
	s.Log = append(s.Log, Entry{At: s.At, Units: units})
	s.Until = s.At + l.window
}

func (l *Limit) freeAtSlidingLog(s *State, room int64) int64 {
	if len(s.Log) == 0 {
		if room < min(s.A, l.burst)-1 {
			return s.C
		}
		return s.B
	}
	used := s.A
	for _, e := range s.Log {
		used -= e.Units
		if used <= room {
			return e.At + l.window
		}
	}
	return s.Until
}

// settleSlidingLog corrects the entry of the receipt. Units that it did not
// have go to the next later entry, or to a new one: a log stays in order, and
// nothing leaves it early.
func (l *Limit) settleSlidingLog(s *State, receipt Receipt, delta int64) bool {
	if receipt.At <= s.At-l.window {
		return false // it has left the window
	}
	i := len(s.Log)
	for i > 0 && s.Log[i-1].At >= receipt.At {
		i--
	}
	if delta > 0 {
		delta = min(delta, maxUsed-s.A)
		if i == len(s.Log) {
			s.Log = append(s.Log, Entry{At: receipt.At})
			s.Until = receipt.At + l.window
		}
		s.Log[i].Units += delta
		s.A += delta
		return true
	}
	end := i
	for ; end < len(s.Log) && s.Log[end].At == receipt.At && delta < 0; end++ {
		back := min(-delta, s.Log[end].Units)
		s.Log[end].Units -= back
		s.A -= back
		delta += back
		if s.Log[end].Units > 0 {
			break
		}
	}
	s.Log = slices.Delete(s.Log, i, end)
	return true
}
