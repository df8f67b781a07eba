package policy

import "time"

// Take asks for units under the limit at the instant now. If they are
// admitted it returns the state after, otherwise the state it was given (but
// for [Limit.CountRefused]), and what to tell the client.
//
// Zero units are always admitted, but by a [Lockout] that blocks, and change
// nothing. Take panics on negative
// units; stores refuse those, and invalid limits, at their door. Of a
// concurrency limit Take takes nothing and answers as Peek: its slots are
// somebody's, so that [Limit.Enter] takes them.
//
//	l := PerMinute(60)
//	s, r := l.Take(State{}, now, 45)
//	r.Remaining  // 15
func (l Limit) Take(s State, now, units int64) (State, Result) {
	after := s
	e, used, verdict := l.judge(&s, now, units)
	if l.algorithm == AlgorithmConcurrency {
		return after, l.report(&s, e, used, now, units, verdict, false)
	}
	add := int64(0)
	switch {
	case verdict == Allowed:
		add = min(units, maxUsed)
	case l.refused && verdict == Refused:
		add = min(units, 2*l.burst-used)
	}
	if add > 0 {
		l.add(&s, e, add)
		after, used = s, min(used+add, max(used, maxUsed))
	}
	return after, l.report(&s, e, used, now, units, verdict, verdict == Allowed)
}

// Peek tells what Take would answer, and takes nothing: Used, Remaining and
// the waits are those before the charge, and there is no receipt.
func (l Limit) Peek(s State, now, units int64) Result {
	e, used, verdict := l.judge(&s, now, units)
	return l.report(&s, e, used, now, units, verdict, false)
}

// DrainedAt returns the Until of a state that was just changed, from its other
// numbers. It is for stores that run the transition elsewhere, such as in a
// script.
func (l Limit) DrainedAt(s State) int64 { return l.drainedAt(&s, l.elapsed(s.At)) }

// Report tells what Take answered, given its verdict, the state it left and
// whether that has the units in it. It is for stores that run the transition
// elsewhere. A sliding log may be reported by its numbers alone: [State] says
// which.
func (l Limit) Report(s State, now, units int64, verdict Verdict, taken bool) Result {
	e := int64(0)
	listed := l.algorithm == AlgorithmSlidingLog || l.algorithm == AlgorithmConcurrency
	if !listed || len(s.Log)+len(s.Leases) > 0 {
		e = l.advance(&s, now)
	}
	return l.report(&s, e, l.used(&s, e), now, units, verdict, taken)
}

// judge advances the state to now, tells what is used, and decides whether units
// fit. The e that it and others hand on is how much of the clock's window has
// passed at s.At: a division that is not made twice.
func (l *Limit) judge(s *State, now, units int64) (e, used int64, v Verdict) {
	if units < 0 {
		panic("policy: negative units")
	}
	e = l.advance(s, now)
	used = l.used(s, e)
	switch {
	case l.algorithm == AlgorithmConcurrency:
		return e, used, l.judgeConcurrency(s, units)
	case l.n == Unlimited:
		return e, used, Allowed
	case units > l.burst && units > l.largest():
		return e, used, Never
	case l.blocked(s):
		return e, used, Refused
	case units > 0 && used+min(units, l.burst) > l.burst:
		return e, used, Refused
	}
	return e, used, Allowed
}

// report describes an advanced state.
func (l *Limit) report(s *State, e, used, now, units int64, verdict Verdict, taken bool) Result {
	if l.algorithm == AlgorithmConcurrency {
		r := l.reportConcurrency(s, verdict)
		if taken {
			r.Receipt.At = s.At
		}
		return r
	}
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
		if l.algorithm == AlgorithmQuota {
			r.Receipt.A, r.Receipt.B = l.nextEnd(s), s.B
		}
	}
	if used > 0 {
		r.NextAfter = wait(now, l.freeAt(s, e, l.burst-r.Remaining-1))
		r.ResetAfter = wait(now, l.resetAt(s, e, used))
	}
	if verdict == Refused {
		if r.Blocked = l.blocked(s); l.algorithm == AlgorithmLockout && !r.Blocked {
			return r // nobody knows when a try is given back
		}
		r.RetryAfter = wait(now, l.freeAt(s, e, max(0, l.burst-units)))
		r.ResetAfter = r.RetryAfter
		r.Reduced = l.reduced && used+units <= l.largest()
	}
	return r
}

// Settle corrects a charge that was taken with the receipt: it had taken units
// and should have taken total. It never refuses: the state may end beyond the
// limit, or be given units back. The correction goes where the charge went, to
// the window of the receipt if that still counts, and never frees more than
// the charge still occupies. The slots of a concurrency limit it leaves alone:
// [Limit.Leave] frees them.
//
// It returns the state after, and the result as of now.
func (l Limit) Settle(s State, now int64, receipt Receipt, taken, total int64) (State, Result) {
	if taken < 0 || total < 0 {
		panic("policy: negative units")
	}
	before, settled := s, false
	e := l.advance(&s, max(now, receipt.At)) // the store's clock has been there
	taken, total = min(taken, maxUsed), min(total, maxUsed)
	switch {
	case l.algorithm == AlgorithmLockout:
		settled = l.settleLockout(&s, receipt, taken, total)
	case taken == total:
	case l.algorithm == AlgorithmConcurrency:
	case l.algorithm == AlgorithmTokenBucket:
		settled = l.settleTokenBucket(&s, receipt, taken, total)
	case l.algorithm == AlgorithmSlidingWindow:
		settled = l.settleSlidingWindow(&s, e, receipt, total-taken)
	case l.algorithm == AlgorithmSlidingLog:
		settled = l.settleSlidingLog(&s, receipt, total-taken)
	case l.algorithm == AlgorithmFixedWindow:
		settled = l.settleFixedWindow(&s, e, receipt, total-taken)
	case l.algorithm == AlgorithmQuota:
		settled = l.settleQuota(&s, receipt, total-taken)
	}
	if !settled {
		s = before
	}
	return s, l.Peek(s, now, 0)
}

// elapsed returns how much of the clock's window has passed at an instant. It is
// 0 for algorithms that do not know the clock's windows.
func (l *Limit) elapsed(at int64) int64 {
	if l.algorithm == AlgorithmSlidingWindow || l.algorithm == AlgorithmFixedWindow {
		return at % l.window
	}
	return 0
}

// advance brings the state to the instant now, or to its own if that is later,
// and returns how much of the clock's window has passed then.
func (l *Limit) advance(s *State, now int64) int64 {
	now = max(now, s.At)
	e := l.elapsed(now)
	if now >= s.Until {
		*s = State{At: now, Until: now}
		if l.algorithm == AlgorithmQuota {
			s.B = l.periodAfter(now)
		}
		return e
	}
	switch l.algorithm {
	case AlgorithmConcurrency:
		l.advanceConcurrency(s, now)
	case AlgorithmTokenBucket:
		l.advanceTokenBucket(s, now)
	case AlgorithmSlidingWindow:
		l.advanceSlidingWindow(s, now-e)
	case AlgorithmSlidingLog:
		l.advanceSlidingLog(s, now)
	case AlgorithmFixedWindow:
		l.advanceFixedWindow(s, now-e)
	case AlgorithmQuota:
		l.advanceQuota(s, now)
	case AlgorithmLockout:
		l.advanceLockout(s, now)
	}
	s.At = now
	return e
}

// used returns what counts against the capacity of an advanced state, in whole
// units, rounded up.
func (l *Limit) used(s *State, e int64) int64 {
	switch l.algorithm {
	case AlgorithmTokenBucket:
		return l.usedTokenBucket(s)
	case AlgorithmSlidingWindow:
		return l.usedSlidingWindow(s, e)
	case AlgorithmLockout:
		return l.usedLockout(s)
	default:
		return s.A
	}
}

// add charges units to an advanced state.
func (l *Limit) add(s *State, e, units int64) {
	switch l.algorithm {
	case AlgorithmSlidingLog:
		l.addSlidingLog(s, units)
		return
	case AlgorithmLockout:
		l.addLockout(s, units)
		return
	}
	s.A = min(s.A+units, maxUsed)
	s.Until = l.drainedAt(s, e)
}

// drainedAt returns the instant from which nothing of an advanced state matters,
// if nothing more is taken.
func (l *Limit) drainedAt(s *State, e int64) int64 {
	switch l.algorithm {
	case AlgorithmTokenBucket:
		return l.refilledAt(s.At, s.A, s.B)
	case AlgorithmSlidingWindow:
		return l.drainedAtSlidingWindow(s, e)
	case AlgorithmFixedWindow:
		return l.drainedAtFixedWindow(s, e)
	case AlgorithmQuota:
		return l.drainedAtQuota(s)
	case AlgorithmLockout:
		return l.drainedAtLockout(s)
	}
	return s.Until // of a log: that of its last entry
}

// freeAt returns the first instant from which at most room units count against
// the capacity, if nothing more is taken from an advanced state of which more
// are used now.
func (l *Limit) freeAt(s *State, e, room int64) int64 {
	var at int64
	switch l.algorithm {
	case AlgorithmTokenBucket:
		at = l.refilledAt(s.At, s.A-room, s.B)
	case AlgorithmSlidingWindow:
		at = l.freeAtSlidingWindow(s, e, room)
	case AlgorithmSlidingLog:
		at = l.freeAtSlidingLog(s, room)
	case AlgorithmFixedWindow:
		at = s.At - e + l.window
	case AlgorithmQuota, AlgorithmLockout:
		at = s.B
	}
	return min(at, s.Until)
}

// resetAt returns the instant that ends the advanced state's window, or fills
// its bucket.
func (l *Limit) resetAt(s *State, e, used int64) int64 {
	switch l.algorithm {
	case AlgorithmTokenBucket:
		return l.freeAt(s, e, 0)
	case AlgorithmSlidingLog:
		return l.freeAt(s, e, min(used, l.burst)-1)
	case AlgorithmQuota, AlgorithmLockout:
		return s.B
	default:
		return s.At - e + l.window
	}
}

func wait(now, at int64) time.Duration {
	const maxWait = int64(1<<63-1) / int64(time.Microsecond)
	return time.Duration(min(max(at-now, 0), maxWait)) * time.Microsecond
}
