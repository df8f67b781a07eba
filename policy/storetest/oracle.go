package storetest

import (
	"math"
	"slices"
	"time"

	"github.com/stint-go/stint/policy"
)

// An oracle decides as a store has to: with the transitions of package policy,
// over a plain map. It forgets nothing.
type oracle struct {
	states  map[place]policy.State
	settled map[policy.Ticket]bool
}

// place is where a charge's state is.
type place struct {
	partition, key string
	id             uint64
}

func newOracle() *oracle {
	return &oracle{states: map[place]policy.State{}, settled: map[policy.Ticket]bool{}}
}

func placeOf(c *policy.Charge) place { return place{c.Place(), c.Key, c.ID()} }

// state returns a copy that a transition may do with as it likes.
func (o *oracle) state(c *policy.Charge) policy.State {
	s := o.states[placeOf(c)]
	s.Log = slices.Clone(s.Log)
	return s
}

func (o *oracle) peek(now int64, charges []policy.Charge) policy.Decision {
	d := policy.Decision{Verdict: policy.Allowed, Now: time.UnixMicro(now)}
	for i := range charges {
		c := &charges[i]
		r := c.Limit.Peek(o.state(c), now, sum(charges, c))
		if r.Verdict != policy.Allowed {
			d.Verdict = policy.Refused
		}
		d.Results = append(d.Results, r)
	}
	return d
}

func (o *oracle) take(now int64, charges []policy.Charge) policy.Decision {
	d := o.peek(now, charges)
	done := map[place]policy.Result{}
	for i := range charges {
		c := &charges[i]
		own := d.Results[i].Verdict == policy.Refused && c.Limit.CountsRefused()
		if d.Verdict != policy.Allowed && !own {
			continue
		}
		r, ok := done[placeOf(c)]
		if !ok {
			var s policy.State
			s, r = c.Limit.Take(o.state(c), now, sum(charges, c))
			o.states[placeOf(c)], done[placeOf(c)] = s, r
		}
		d.Results[i] = r
	}
	return d
}

func (o *oracle) settle(now int64, ticket policy.Ticket, settlements []policy.Settlement) {
	if o.settled[ticket] {
		return
	}
	o.settled[ticket] = true
	for i := range settlements {
		s, c := &settlements[i], &settlements[i].Charge
		o.states[placeOf(c)], _ = c.Limit.Settle(o.state(c), now, s.Receipt, c.Units, s.Total)
	}
}

func (o *oracle) reset(charges []policy.Charge) {
	for i := range charges {
		delete(o.states, placeOf(&charges[i]))
	}
}

// drained returns the latest instant at which a state had drained that has by
// now. A store may have forgotten such a state, so that a clock that is set back
// before that instant would find different things in different stores.
func (o *oracle) drained(now int64) int64 {
	latest := int64(0)
	for _, s := range o.states {
		if s.Until <= now {
			latest = max(latest, s.Until)
		}
	}
	return latest
}

// sum returns the units of all charges on the state of c.
func sum(charges []policy.Charge, c *policy.Charge) int64 {
	units := int64(0)
	for i := range charges {
		if !charges[i].SameState(c) {
			continue
		}
		if units > math.MaxInt64-charges[i].Units {
			return math.MaxInt64
		}
		units += charges[i].Units
	}
	return units
}
