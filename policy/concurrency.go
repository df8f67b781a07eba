package policy

import (
	"slices"
	"strconv"
	"time"
	"unique"
)

// Concurrency allows n requests at once. A request takes one slot, whatever its
// units, and holds it until it is settled to zero.
//
//	admitted at t  <=>  held(t) < n
//
// A slot is a lease, so that it comes free when its holder has died: it ends
// [Limit.WithLease] after it was taken or renewed last. [Limit.Enter],
// [Limit.Renew] and [Limit.Leave] are its transitions; Take is not.
func Concurrency(n int64) Limit {
	const defaultLease = 10 * time.Second
	l := Limit{algorithm: AlgorithmConcurrency, n: n, burst: n}
	if n < 1 || n > MaxSlots {
		l.fail("number %d: write one from 1 to %d", n, MaxSlots)
	}
	l.name("slots")
	return l.WithLease(defaultLease)
}

// WithQueue returns the concurrency limit with a queue: when all slots are held,
// up to length requests wait in the order of their arrival, each at most as
// long as wait. A request meets at most one queue.
func (l Limit) WithQueue(length int64, wait time.Duration) Limit {
	switch {
	case l.algorithm != AlgorithmConcurrency:
		l.fail("it has no queue: write Concurrency(n).WithQueue(length, wait)")
	case length < 1 || length > MaxSlots:
		l.fail("queue of %d: write one from 1 to %d", length, MaxSlots)
	case wait < time.Millisecond || wait > MaxLease:
		l.fail("wait %v: write one from %v to %v", wait, time.Millisecond, MaxLease)
	}
	d := l.also()
	d.queue, d.wait = length, int64(wait/time.Microsecond)
	l.details = unique.Make(d)
	return l
}

// WithLease returns the concurrency limit with slots, and places in its queue,
// that come free so long after their holder was last heard of. The default is
// 10 s. A short lease frees the slots of a dead process sooner, and is renewed
// more often.
func (l Limit) WithLease(lease time.Duration) Limit {
	switch {
	case l.algorithm != AlgorithmConcurrency:
		l.fail("it has no lease: write Concurrency(n).WithLease(d)")
	case lease < MinLease || lease > MaxLease:
		l.fail("lease %v: write one from %v to %v", lease, MinLease, MaxLease)
	}
	d := l.also()
	d.lease = int64(lease / time.Microsecond)
	l.details = unique.Make(d)
	return l
}

// Queue returns how many requests may wait, and how long: zeros without a queue.
func (l Limit) Queue() (length int64, wait time.Duration) {
	if l.algorithm != AlgorithmConcurrency {
		return 0, 0
	}
	d := l.also()
	return d.queue, time.Duration(d.wait) * time.Microsecond
}

// Lease returns how long a slot is held without being renewed, and 0 for limits
// that have no slots.
func (l Limit) Lease() time.Duration {
	if l.algorithm != AlgorithmConcurrency {
		return 0
	}
	return time.Duration(l.also().lease) * time.Microsecond
}

// A Lease is a slot that is held or waited for.
type Lease struct {
	Ticket Ticket // whose it is
	Until  int64  // when it ends unless it is renewed
}

// Of a concurrency limit's state, A is the number of slots that are held. Leases
// has their holders, in the order of their grants, and behind them those who
// wait, in the order of their arrival: a grant moves the line between the two. B
// is an instant before which no lease ends. A state that a store reports by its
// numbers alone has no Leases: then C is the number that wait.

// Enter asks for a slot for the ticket's request. The verdict is Allowed if it
// has one now, Queued if it waits for one, and otherwise Refused. A ticket that
// is there already keeps what it has.
//
//	l := Concurrency(1).WithQueue(1, time.Minute)
//	s, r := l.Enter(State{}, now, a)  // Allowed
//	s, r = l.Enter(s, now, b)         // Queued, r.Queue is 1
//	s, r = l.Enter(s, now, c)         // Refused
func (l Limit) Enter(s State, now int64, ticket Ticket) (State, Result) {
	before := s
	now = l.advanceConcurrency(&s, now)
	i := s.find(ticket)
	if i == len(s.Leases) {
		if l.judgeConcurrency(&s, 1) == Refused {
			return before, l.reportConcurrency(&s, Refused)
		}
		s.Leases = append(s.Leases, Lease{Ticket: ticket})
		l.extend(&s, i, now)
		l.grant(&s)
	}
	return s, l.place(&s, i)
}

// Renew renews the ticket's lease. The verdict is Allowed if it holds a slot,
// Queued if it waits for one, and Refused if it has lost its place.
func (l Limit) Renew(s State, now int64, ticket Ticket) (State, Result) {
	now = l.advanceConcurrency(&s, now)
	i := s.find(ticket)
	if i == len(s.Leases) {
		s.emptied()
		return s, l.reportConcurrency(&s, Refused)
	}
	l.extend(&s, i, now)
	return s, l.place(&s, i)
}

// Leave frees the ticket's slot, or its place in the queue. It changes nothing
// if it has none.
func (l Limit) Leave(s State, now int64, ticket Ticket) (State, Result) {
	l.advanceConcurrency(&s, now)
	if i := s.find(ticket); i < len(s.Leases) {
		if int64(i) < s.A {
			s.A--
		}
		s.Leases = slices.Delete(s.Leases, i, i+1)
		l.grant(&s)
	}
	s.emptied()
	return s, l.reportConcurrency(&s, Allowed)
}

// advanceConcurrency drops the leases that have ended, and grants their slots. It
// leaves the leases that it was given as they were, since what is decided on
// them may come to nothing.
func (l *Limit) advanceConcurrency(s *State, now int64) int64 {
	now = max(now, s.At)
	s.At = now
	if now >= s.B && len(s.Leases) > 0 {
		alive, held := make([]Lease, 0, len(s.Leases)), int64(0)
		s.B = maxInstant
		for i, lease := range s.Leases {
			if now >= lease.Until {
				continue
			}
			if int64(i) < s.A {
				held++
			}
			s.B = min(s.B, lease.Until)
			alive = append(alive, lease)
		}
		s.A, s.Leases = held, alive
	}
	l.grant(s)
	return now
}

// grant gives the free slots to those who wait.
func (l *Limit) grant(s *State) { s.A = max(s.A, min(l.n, int64(len(s.Leases)))) }

// extend lets the i-th lease end one lease from now.
func (l *Limit) extend(s *State, i int, now int64) {
	until := now + l.also().lease
	s.Leases[i].Until = until
	if len(s.Leases) == 1 {
		s.B = until
	}
	s.B, s.Until = min(s.B, until), max(s.Until, until)
}

// judgeConcurrency tells what an advanced state would answer.
func (l *Limit) judgeConcurrency(s *State, units int64) Verdict {
	switch {
	case units == 0 || s.A < l.n:
		return Allowed
	case s.waiting() < l.also().queue:
		return Queued
	}
	return Refused
}

// place tells how the i-th lease stands.
func (l *Limit) place(s *State, i int) Result {
	if int64(i) < s.A {
		r := l.reportConcurrency(s, Allowed)
		r.Receipt.At = s.At
		return r
	}
	r := l.reportConcurrency(s, Queued)
	r.Queue = int64(i) - s.A + 1
	r.Receipt.At = s.At
	return r
}

func (l *Limit) reportConcurrency(s *State, v Verdict) Result {
	return Result{Verdict: v, Limit: l.n, Capacity: l.n, Used: s.A, Remaining: max(0, l.n-s.A), Queue: s.waiting()}
}

// emptied notes that nothing matters any more once there is no lease left.
func (s *State) emptied() {
	if len(s.Leases) == 0 {
		s.Until = s.At
	}
}

// find returns the index of the ticket's lease, or that of the next one.
func (s *State) find(ticket Ticket) int {
	for i := range s.Leases {
		if s.Leases[i].Ticket == ticket {
			return i
		}
	}
	return len(s.Leases)
}

// waiting returns how many wait for a slot.
func (s *State) waiting() int64 {
	if s.Leases == nil {
		return s.C
	}
	return int64(len(s.Leases)) - s.A
}

func (l *Limit) describeConcurrency() string {
	s := strconv.FormatInt(l.n, 10) + " at once"
	if d := l.also(); d.queue > 0 {
		s += ", " + strconv.FormatInt(d.queue, 10) + " waiting for " + shortDuration(time.Duration(d.wait)*time.Microsecond)
	}
	return s
}
