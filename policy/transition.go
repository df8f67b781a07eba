package policy

import "time"

// Take asks for units under the limit at the instant now. If they are
// admitted it returns the state after, otherwise the state it was given (but
// for [Limit.CountRefused]), and what to tell the client.
//
// Zero units are always admitted and change nothing. Take panics on negative
// units; stores refuse those, and invalid limits, at their door.
//
//	l := PerMinute(60)
//	s, r := l.Take(State{}, now, 45)
//	r.Remaining  // 15
func (l Limit) Take(s State, now, units int64) (State, Result) {
	after := s
	verdict := l.judge(&s, now, units)
	switch {
	case verdict == Allowed:
		if units > 0 {
			l.add(&s, units)
			after = s
		}
		return after, l.report(&s, now, units, verdict, true)
	case l.refused && verdict == Refused:
		if penalty := min(units, 2*l.burst-l.used(&s)); penalty > 0 {
			l.add(&s, penalty)
			after = s
		}
	}
	return after, l.report(&s, now, units, verdict, false)
}

// Peek tells what Take would answer, and takes nothing: Used, Remaining and
// the waits are those before the charge, and there is no receipt.
func (l Limit) Peek(s State, now, units int64) Result {
	verdict := l.judge(&s, now, units)
	return l.report(&s, now, units, verdict, false)
}

// DrainedAt returns the Until of a state that was just changed, from its other
// numbers. It is for stores that run the transition elsewhere, such as in a
// script.
func (l Limit) DrainedAt(s State) int64 { return l.drainedAt(&s) }

// Report tells what Take answered, given its verdict, the state it left and
// whether that has the units in it. It is for stores that run the transition
// elsewhere. A sliding log may be reported by its numbers alone: [State] says
// which.
func (l Limit) Report(s State, now, units int64, verdict Verdict, taken bool) Result {
	if l.algorithm != AlgorithmSlidingLog || len(s.Log) > 0 {
		l.advance(&s, now)
	}
	return l.report(&s, now, units, verdict, taken)
}

// judge advances the state to now and decides whether units fit.
func (l *Limit) judge(s *State, now, units int64) Verdict {
	if units < 0 {
		panic("policy: negative units")
	}
	l.advance(s, now)
	switch {
	case units > l.burst:
		return Never
	case units > 0 && l.used(s)+units > l.burst:
		return Refused
	}
	return Allowed
}

// report describes an advanced state.
func (l *Limit) report(s *State, now, units int64, verdict Verdict, taken bool) Result {
	used := l.used(s)
	r := Result{
		Verdict:   verdict,
		Limit:     l.n,
		Capacity:  l.burst,
		Used:      used,
		Remaining: max(0, l.burst-used),
	}
	if taken {
		r.Receipt.At = s.At
		if l.algorithm == AlgorithmTokenBucket {
			r.Receipt.A, r.Receipt.B = s.A-units, s.B
		}
	}
	if used > 0 {
		r.NextAfter = wait(now, l.freeAt(s, l.burst-r.Remaining-1))
		r.ResetAfter = wait(now, l.resetAt(s))
	}
	if verdict == Refused {
		r.RetryAfter = wait(now, l.freeAt(s, l.burst-units))
		r.ResetAfter = r.RetryAfter
	}
	return r
}

// Settle corrects a charge that was taken with the receipt: it had taken units
// and should have taken total. It never refuses: the state may end beyond the
// limit, or be given units back. The correction goes where the charge went, to
// the window of the receipt if that still counts, and never frees more than
// the charge still occupies.
//
// It returns the state after, and the result as of now.
func (l Limit) Settle(s State, now int64, receipt Receipt, taken, total int64) (State, Result) {
	if taken < 0 || total < 0 {
		panic("policy: negative units")
	}
	before, settled := s, false
	l.advance(&s, max(now, receipt.At)) // the store's clock has been there
	taken, total = min(taken, maxUsed), min(total, maxUsed)
	switch {
	case taken == total:
	case l.algorithm == AlgorithmTokenBucket:
		settled = l.settleTokenBucket(&s, receipt, taken, total)
	case l.algorithm == AlgorithmSlidingWindow:
		settled = l.settleSlidingWindow(&s, receipt, total-taken)
	case l.algorithm == AlgorithmSlidingLog:
		settled = l.settleSlidingLog(&s, receipt, total-taken)
	case l.algorithm == AlgorithmFixedWindow:
		settled = l.settleFixedWindow(&s, receipt, total-taken)
	}
	if !settled {
		s = before
	}
	return s, l.Peek(s, now, 0)
}

// advance brings the state to the instant now, or to its own if that is later.
func (l *Limit) advance(s *State, now int64) {
	now = max(now, s.At)
	if now >= s.Until {
		*s = State{At: now, Until: now}
		return
	}
	switch l.algorithm {
	case AlgorithmTokenBucket:
		l.advanceTokenBucket(s, now)
	case AlgorithmSlidingWindow:
		l.advanceSlidingWindow(s, now)
	case AlgorithmSlidingLog:
		l.advanceSlidingLog(s, now)
	case AlgorithmFixedWindow:
		l.advanceFixedWindow(s, now)
	}
	s.At = now
}

// used returns what counts against the capacity of an advanced state, in whole
// units, rounded up.
func (l *Limit) used(s *State) int64 {
	switch l.algorithm {
	case AlgorithmTokenBucket:
		return l.usedTokenBucket(s)
	case AlgorithmSlidingWindow:
		return l.usedSlidingWindow(s)
	default:
		return s.A
	}
}

// add charges units to an advanced state.
func (l *Limit) add(s *State, units int64) {
	switch l.algorithm {
	case AlgorithmTokenBucket:
		l.addTokenBucket(s, units)
	case AlgorithmSlidingWindow:
		l.addSlidingWindow(s, units)
	case AlgorithmSlidingLog:
		l.addSlidingLog(s, units)
	case AlgorithmFixedWindow:
		l.addFixedWindow(s, units)
	}
}

// drainedAt returns the instant from which nothing of an advanced state matters,
// if nothing more is taken.
func (l *Limit) drainedAt(s *State) int64 {
	switch l.algorithm {
	case AlgorithmTokenBucket:
		return l.refilledAt(s.At, s.A, s.B)
	case AlgorithmSlidingWindow:
		return l.drainedAtSlidingWindow(s)
	case AlgorithmFixedWindow:
		return l.drainedAtFixedWindow(s)
	}
	return s.Until // of a log: that of its last entry
}

// freeAt returns the first instant from which at most room units count against
// the capacity, if nothing more is taken from an advanced state.
func (l *Limit) freeAt(s *State, room int64) int64 {
	var at int64
	switch l.algorithm {
	case AlgorithmTokenBucket:
		at = l.freeAtTokenBucket(s, room)
	case AlgorithmSlidingWindow:
		at = l.freeAtSlidingWindow(s, room)
	case AlgorithmSlidingLog:
		at = l.freeAtSlidingLog(s, room)
	case AlgorithmFixedWindow:
		at = l.freeAtFixedWindow(s, room)
	}
	return min(at, s.Until)
}

// resetAt returns the instant that ends the advanced state's window, or fills
// its bucket.
func (l *Limit) resetAt(s *State) int64 {
	switch l.algorithm {
	case AlgorithmTokenBucket:
		return l.freeAt(s, 0)
	case AlgorithmSlidingLog:
		return l.freeAt(s, min(s.A, l.burst)-1)
	default:
		return s.At - s.At%l.window + l.window
	}
}

func wait(now, at int64) time.Duration {
	const maxWait = int64(1<<63-1) / int64(time.Microsecond)
	return time.Duration(min(max(at-now, 0), maxWait)) * time.Microsecond
}
