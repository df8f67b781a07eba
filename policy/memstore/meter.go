package memstore

import (
	"context"
	"errors"

	"github.com/stint-go/stint/policy"
)

var _ policy.Meter = (*Store)(nil)

// Usage implements [policy.Meter]. What a key was counted in a shared state,
// since the store had no room for it, is not its usage.
func (s *Store) Usage(ctx context.Context, charges []policy.Charge) ([]policy.Usage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := policy.CheckUsage(charges, 0); err != nil {
		return nil, err
	}
	usage := make([]policy.Usage, len(charges))
	for i := range charges {
		err := s.meter(&charges[i], func(sh *shard, slot int32, now int64) error {
			var state policy.State
			if slot != none {
				state = sh.slots[slot].state
			}
			usage[i] = charges[i].Limit.Usage(state, now)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return usage, nil
}

// SetUsage implements [policy.Meter]. It is an error if the store has no room.
func (s *Store) SetUsage(ctx context.Context, charge policy.Charge, used int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := policy.CheckUsage([]policy.Charge{charge}, used); err != nil {
		return err
	}
	return s.meter(&charge, func(sh *shard, slot int32, now int64) error {
		if slot != none {
			sh.relimit(slot, &charge.Limit, now)
			state := &sh.slots[slot].state
			*state = charge.Limit.SetUsage(*state, now, used)
			sh.roomier(now)
			return nil
		}
		after := charge.Limit.SetUsage(policy.State{}, now, used)
		switch {
		case now >= after.Until:
		case sh.room(now, 1, true) > 0:
			n := nameOf(&charge)
			sh.insert(n.hash(s.seed), n, charge.ID(), &charge.Limit, after, now)
		default:
			return errFull
		}
		return nil
	})
}

var errFull = errors.New("memstore: no room for another key's usage: raise MaxStates")

// meter calls f with the slot of a charge's state, under its lock.
func (s *Store) meter(c *policy.Charge, f func(sh *shard, slot int32, now int64) error) error {
	n := nameOf(c)
	hash := n.hash(s.seed)
	sh := &s.shards[s.shardOf(hash)]
	now := s.clock()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.closed.Load() {
		return policy.ErrClosed
	}
	return f(sh, sh.find(sh.head(hash), &n, c.ID()), now)
}
