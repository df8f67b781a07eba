package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/stint-go/stint/policy"
)

// Renew implements [policy.Store]. Renewals go together, some hundred in a script
// call, and let requests go first. One that fails is sent again while the context
// lasts, ten seconds at most.
func (s *Store) Renew(ctx context.Context, renewals []policy.Renewal) error {
	for i := range renewals {
		renewals[i].Result = policy.Result{}
	}
	for i := range renewals {
		if err := policy.CheckSlot(&renewals[i].Charge); err != nil {
			return fmt.Errorf("redisstore: renewal %d: %w", i, err)
		}
	}
	return s.renew(ctx, renewals, true, nil)
}

// maxRenewals bounds the renewals of one call.
const maxRenewals = 128

// A renewing is a call and the indexes of the renewals in it.
type renewing struct {
	call *call
	of   []int
}

// renew carries out renewals of which some may turn out to be planned for what
// has changed: these start over. It tells when the next lease of the last one's
// limit may end, if next is not nil.
func (s *Store) renew(ctx context.Context, renewals []policy.Renewal, yields bool, next *time.Duration) error {
	todo := make([]int, len(renewals))
	for i := range todo {
		todo[i] = i
	}
	for tries := 0; ; tries++ {
		if s.closed.Load() {
			return policy.ErrClosed
		}
		if err := ctx.Err(); err != nil || len(todo) == 0 {
			return err
		}
		rs := s.divide(renewals, todo, yields)
		for _, r := range rs { // when its context ends the caller leaves them
			r.call.deadline = time.Now().Add(patience)
			r.call.route.send(r.call)
		}
		todo = todo[:0]
		var fault error
		for _, r := range rs {
			if !r.call.wait(ctx) {
				fault = ctx.Err()
				continue // its flight's from now on
			}
			switch err := r.call.err; {
			case err == nil:
				if err := s.tell(r, renewals, next); err != nil {
					fault = err
				}
			case errors.Is(err, errReplan) && tries < maxReplans:
				todo = append(todo, r.of...)
			default:
				fault = err
			}
			r.call.free()
		}
		if fault != nil || len(todo) == 0 {
			return fault
		}
	}
}

// divide puts the renewals with these indexes into calls, by parts of Redis.
func (s *Store) divide(renewals []policy.Renewal, indexes []int, yields bool) []*renewing {
	route := s.route.Load()
	var all []*renewing
	open := map[int]*renewing{}
	for _, i := range indexes {
		charge := &renewals[i].Charge
		tag := escape(charge.Place())
		part := route.part(tag)
		r := open[part]
		if r == nil || len(r.of) == maxRenewals {
			r = &renewing{call: newCall()}
			r.call.kind, r.call.route, r.call.part, r.call.yields = kindRenew, route, part, yields
			open[part], all = r, append(all, r)
		}
		r.call.add(s, tag, charge).ticket = renewals[i].Ticket
		r.of = append(r.of, i)
	}
	return all
}

// tell writes what a call was told to its renewals.
func (s *Store) tell(r *renewing, renewals []policy.Renewal, next *time.Duration) (err error) {
	c := r.call
	for j, i := range r.of {
		a := &c.answers[j]
		if a.verdict == statusForeign {
			err = s.foreign(c.items[j].tag)
			continue
		}
		v := policy.Verdict(a.verdict)
		state := policy.State{At: a.at, A: a.a, C: a.b}
		renewals[i].Result = renewals[i].Charge.Limit.Report(state, c.now, 1, v, v != policy.Refused)
		if next != nil {
			*next = time.Duration(a.left) * time.Microsecond
		}
	}
	return err
}

// Wait implements [policy.Store]. It returns as soon as Redis publishes that the
// slot is the ticket's. Where nothing published arrives, it still learns so
// when it renews its place, about every third of the lease. An outage it
// outlives for ten seconds.
func (s *Store) Wait(ctx context.Context, ticket policy.Ticket, charge policy.Charge) (policy.Result, error) {
	if err := policy.CheckSlot(&charge); err != nil {
		return policy.Result{}, err
	}
	if s.closed.Load() {
		return policy.Result{}, policy.ErrClosed
	}
	tag := escape(charge.Place())
	listener := s.route.Load().listener(tag)
	w := listener.join(slotsKey(s.valueKey(tag, &charge), charge.ID()), ticket)
	defer listener.leave(w)

	// Once it listens it looks, since the grant may have come before.
	const soon = 200 * time.Millisecond
	poll := charge.Limit.Lease() / 3
	timer := time.NewTimer(min(poll, soon))
	defer timer.Stop()
	renewal := [1]policy.Renewal{{Ticket: ticket, Charge: charge}}
	for {
		select {
		case <-ctx.Done():
			return policy.Result{}, ctx.Err()
		case <-s.life.Done():
			return policy.Result{}, policy.ErrClosed
		case <-w.rung:
		case <-timer.C:
		}
		var next time.Duration
		if err := s.renew(ctx, renewal[:], false, &next); err != nil {
			if s.closed.Load() {
				err = policy.ErrClosed
			}
			return policy.Result{}, err
		}
		r := renewal[0].Result
		if r.Verdict != policy.Queued {
			return r, nil
		}
		timer.Reset(min(jittered(poll), ending(next, r.Queue)))
	}
}

// jittered returns three quarters of a duration, or more.
func jittered(d time.Duration) time.Duration { return d - rand.N(d/4+1) }

// ending returns how long to wait for the end of a lease that comes next: those
// in front of the queue look first, and most others need not look any more.
func ending(next time.Duration, place int64) time.Duration {
	return max(next, 0) + time.Duration(min(place, 100))*time.Millisecond
}
