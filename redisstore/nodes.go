package redisstore

import (
	"context"
	"errors"

	"github.com/stint-go/stint/policy"
)

var _ policy.Nodes = (*Store)(nil)

// Node implements [policy.Nodes]: the address of the cluster's node or the ring's
// shard that a charge's partition is on, and nothing on a single server, whatever
// Sentinel says of its address.
func (s *Store) Node(c *policy.Charge) string {
	r := s.route.Load()
	if r.single != nil {
		return ""
	}
	tag := escape(c.Place())
	if r.ring != nil {
		if shard, err := r.ring.GetShardClientForKey(tag); err == nil {
			return shard.Options().Addr
		}
		return ""
	}
	if l := r.slots[slot(tag)].Load(); l != nil {
		return l.origin.Options().Addr
	}
	if !r.known.Load() { // the client would ask the cluster
		return ""
	}
	if client, err := r.cluster.MasterForKey(context.Background(), "{"+tag+"}"); err == nil {
		return client.Options().Addr
	}
	return ""
}

// TakeKnown implements [policy.Nodes].
func (s *Store) TakeKnown(ctx context.Context, ticket policy.Ticket, charges []policy.Charge, d *policy.Decision) error {
	if err := policy.CheckCharges(charges); err != nil {
		return err
	}
	d.Reset(len(charges))
	return s.attempt(ctx, func(p *plan) error {
		for i := range charges {
			p.addOnce(s, kindTake, ticket, charges, i)
		}
		known, err := s.runKnown(ctx, p)
		if known {
			s.conclude(ctx, p, kindTake, charges, d)
		}
		return err
	})
}

// runKnown sends the plan's calls as run does, but what fails of them leaves the
// others as they are. It tells whether anything is known, and the first error. If the
// plan is to be made anew nothing is known, and what some calls took is given back.
func (s *Store) runKnown(ctx context.Context, p *plan) (known bool, err error) {
	p.send(ctx)
	known = len(p.calls) == 0
	for i, c := range p.calls {
		var fault error
		if c.wait(ctx) {
			known, fault = known || c.err == nil, c.err
		} else {
			fault = ctx.Err()
			p.calls[i] = nil // its flight's from now on
		}
		if fault != nil && (err == nil || errors.Is(fault, errReplan)) {
			err = fault
		}
	}
	if !errors.Is(err, errReplan) {
		return known, err
	}
	for _, c := range p.calls {
		if c.known() {
			s.giveBack(c)
		}
	}
	return false, err
}

// known reports whether the call was answered: a call that was left is nil.
func (c *call) known() bool { return c != nil && c.err == nil }
