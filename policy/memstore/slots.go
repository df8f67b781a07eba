package memstore

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stint-go/stint/policy"
)

// Wait implements [policy.Store]. It returns as soon as the slot is the
// ticket's. It renews the ticket's place about three times a lease, and looks
// when a lease ends whether that frees a slot.
func (s *Store) Wait(ctx context.Context, ticket policy.Ticket, charge policy.Charge) (policy.Result, error) {
	if err := ctx.Err(); err != nil {
		return policy.Result{}, err
	}
	if err := policy.CheckSlot(&charge); err != nil {
		return policy.Result{}, err
	}
	t := s.seat(&charge, ticket)
	t.waits = true
	r, pause, err := s.look(&t)
	if err != nil || r.Verdict != policy.Queued {
		return r, err
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-t.call.done:
		case <-timer.C:
		case <-ctx.Done():
			s.goAway(&t)
			return policy.Result{}, ctx.Err()
		}
		if r, pause, err = s.look(&t); err != nil || r.Verdict != policy.Queued {
			return r, err
		}
		timer.Reset(pause)
	}
}

// look renews the ticket's place and tells how it stands. If it is Queued still,
// the ticket will be called, and is to look again after a pause.
func (s *Store) look(t *seat) (r policy.Result, pause time.Duration, err error) {
	now := s.clock()
	t.shard.mu.Lock()
	defer t.shard.mu.Unlock()
	if s.closed.Load() {
		return r, 0, policy.ErrClosed
	}
	s.hangUp(t)
	r = s.apply(t, policy.Limit.Renew, now)
	return r, pauseFor(t.charge.Limit.Lease(), time.Duration(t.ends-now)*time.Microsecond), nil
}

// goAway ends a wait. The ticket keeps its place.
func (s *Store) goAway(t *seat) {
	t.shard.mu.Lock()
	defer t.shard.mu.Unlock()
	s.hangUp(t)
}

// pauseFor returns how long a Wait sleeps, unless it is called: no longer than
// until a lease ends, and about a third of its own. A clock that stands still is
// not asked all the time.
func pauseFor(lease, ends time.Duration) time.Duration {
	third := lease / 3
	third -= rand.N(third / 4)
	return max(min(third, ends), time.Millisecond)
}

// Renew implements [policy.Store].
func (s *Store) Renew(ctx context.Context, renewals []policy.Renewal) error {
	for i := range renewals {
		renewals[i].Result = policy.Result{}
	}
	var fault error
	for i := range renewals {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := policy.CheckSlot(&renewals[i].Charge); err != nil {
			fault = err
			continue
		}
		if err := s.renew(&renewals[i]); err != nil {
			return err
		}
	}
	return fault
}

func (s *Store) renew(r *policy.Renewal) error {
	t := s.seat(&r.Charge, r.Ticket)
	now := s.clock()
	t.shard.mu.Lock()
	defer t.shard.mu.Unlock()
	if s.closed.Load() {
		return policy.ErrClosed
	}
	r.Result = s.apply(&t, policy.Limit.Renew, now)
	return nil
}

// A seat is where a ticket may have a lease.
type seat struct {
	charge *policy.Charge
	ticket policy.Ticket
	name   name
	hash   uint64
	id     uint64
	shard  *shard

	waits  bool  // wants to be called while it is Queued
	call   *call // by which it will be
	shared bool  // it waits in the shared state
	ends   int64 // an instant before which no lease ends there
}

func (s *Store) seat(c *policy.Charge, ticket policy.Ticket) seat {
	t := seat{charge: c, ticket: ticket, name: nameOf(c), id: c.ID()}
	t.hash = t.name.hash(s.seed)
	t.shard = &s.shards[s.shardOf(t.hash)]
	return t
}

// A transition is one that a ticket has to itself: Renew or Leave.
type transition func(policy.Limit, policy.State, int64, policy.Ticket) (policy.State, policy.Result)

// apply makes a transition of the seat's state, whose shard is locked. That is the
// key's own, unless the ticket is known to the shared one alone.
func (s *Store) apply(t *seat, do transition, now int64) policy.Result {
	sh := t.shard
	i := sh.find(sh.head(t.hash), &t.name, t.id)
	if i == none || !has(&sh.slots[i].state, t.ticket) {
		if r, ok := s.overflow.apply(t, do, now); ok {
			return r
		}
	}
	if i == none {
		_, r := do(t.charge.Limit, policy.State{}, now, t.ticket)
		return r
	}
	after, r := do(t.charge.Limit, sh.slots[i].state, now, t.ticket)
	sh.put(i, &after)
	sh.calls.reply(i, t, r.Verdict)
	if t.ends = after.B; len(after.Leases) == 0 {
		sh.roomier(now)
	}
	return r
}

// apply does that with the shared state, if the ticket has a lease there.
func (o *overflow) apply(t *seat, do transition, now int64) (policy.Result, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	state, ok := o.states[t.id]
	if !ok || !has(&state, t.ticket) {
		return policy.Result{}, false
	}
	after, r := do(t.charge.Limit, state, now, t.ticket)
	o.put(t.id, after, now)
	o.calls.reply(t.id, t, r.Verdict)
	t.shared, t.ends = true, after.B
	r.Overflow = true
	return r, true
}

func has(s *policy.State, ticket policy.Ticket) bool {
	return slices.ContainsFunc(s.Leases, func(l policy.Lease) bool { return l.Ticket == ticket })
}

// hangUp takes back the seat's wish to be called, under the lock of its shard.
func (s *Store) hangUp(t *seat) {
	switch {
	case t.call == nil:
	case t.shared:
		s.overflow.mu.Lock()
		s.overflow.calls.hangUp(t.id, t)
		s.overflow.mu.Unlock()
	default:
		if i := t.shard.find(t.shard.head(t.hash), &t.name, t.id); i != none {
			t.shard.calls.hangUp(i, t)
		}
	}
	t.call, t.shared = nil, false
}

// calls has, for each state, whom to call of those that wait for a slot of it. Its
// lock is that of the states.
type calls[K comparable] map[K]map[policy.Ticket]*call

// A call is awaited by a Wait, or by several of the same ticket.
type call struct {
	done  chan struct{} // closed when it is made
	waits int
}

// reply is for after a transition of the seat's own, with its verdict: a ticket
// that is not Queued any more is called, and one that is may wait.
func (c *calls[K]) reply(k K, t *seat, v policy.Verdict) {
	switch {
	case v != policy.Queued:
		c.one(k, t.ticket)
	case t.waits:
		if *c == nil {
			*c = calls[K]{}
		}
		if (*c)[k] == nil {
			(*c)[k] = map[policy.Ticket]*call{}
		}
		if t.call = (*c)[k][t.ticket]; t.call == nil {
			t.call = &call{done: make(chan struct{})}
			(*c)[k][t.ticket] = t.call
		}
		t.call.waits++
	}
}

// changed calls whom a transition of the state has granted a slot, and when leases
// have ended everybody: one of them may be theirs.
func (c calls[K]) changed(k K, before, after *policy.State) {
	switch {
	case len(c[k]) == 0:
	case after.At >= before.B:
		c.all(k)
	default:
		// The granted are the last of the holders. They are at most as many as
		// there are holders more, and leases less, but for the one that came.
		most := after.A - before.A + int64(len(before.Leases)-len(after.Leases)) + 1
		for _, l := range after.Leases[max(0, after.A-most):after.A] {
			c.one(k, l.Ticket)
		}
	}
}

func (c calls[K]) one(k K, ticket policy.Ticket) {
	if call := c[k][ticket]; call != nil {
		close(call.done)
		c.remove(k, ticket)
	}
}

func (c calls[K]) all(k K) {
	for _, call := range c[k] {
		close(call.done)
	}
	delete(c, k)
}

func (c calls[K]) everywhere() {
	for k := range c {
		c.all(k)
	}
}

func (c calls[K]) hangUp(k K, t *seat) {
	if c[k][t.ticket] != t.call {
		return // it was called
	}
	if t.call.waits--; t.call.waits == 0 {
		c.remove(k, t.ticket)
	}
}

func (c calls[K]) remove(k K, ticket policy.Ticket) {
	if delete(c[k], ticket); len(c[k]) == 0 {
		delete(c, k)
	}
}
