package redisstore

import (
	"context"
	"math"

	"github.com/stint-go/stint/policy"
)

var _ policy.Meter = (*Store)(nil)

// Usage implements [policy.Meter]. Charges of one partition are read together.
func (s *Store) Usage(ctx context.Context, charges []policy.Charge) ([]policy.Usage, error) {
	if err := policy.CheckUsage(charges, 0); err != nil {
		return nil, err
	}
	usage := make([]policy.Usage, len(charges))
	err := s.perform(ctx, func(p *plan) {
		for i := range charges {
			p.add(s, kindUsage, policy.Ticket{}, &charges[i])
		}
	}, func(p *plan) {
		for i := range charges {
			c := p.calls[p.where[i].call]
			usage[i] = charges[i].Limit.Usage(c.answers[p.where[i].item].quota(), c.now)
		}
	})
	if err != nil {
		return nil, err
	}
	return usage, nil
}

// SetUsage implements [policy.Meter].
func (s *Store) SetUsage(ctx context.Context, charge policy.Charge, used int64) error {
	if err := policy.CheckUsage([]policy.Charge{charge}, used); err != nil {
		return err
	}
	return s.perform(ctx, func(p *plan) {
		p.add(s, kindSetUsage, policy.Ticket{}, &charge).total = used
	}, nil)
}

// readUsage reads the answer about the usage of quotas.
func (c *call) readUsage(r *reply) {
	c.answers = c.answers[:0]
	for range c.items {
		c.answers = append(c.answers, answer{at: c.now + r.int(), a: r.count(), b: r.int(), left: r.count()})
	}
}

// quota returns the state that the script told of: in place of what is left of
// its time there is the previous period's count.
func (a *answer) quota() policy.State {
	if a.b == 0 {
		return policy.State{At: a.at}
	}
	return policy.State{At: a.at, Until: math.MaxInt64, A: a.a, B: a.b, C: a.left}
}
