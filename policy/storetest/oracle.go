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
	s.Log, s.Leases = slices.Clone(s.Log), slices.Clone(s.Leases)
	return s
}

func (o *oracle) peek(now int64, charges []policy.Charge) policy.Decision {
	d := policy.Decision{Verdict: policy.Allowed, Now: time.UnixMicro(now)}
	for i := range charges {
		c := &charges[i]
		r := c.Limit.Peek(o.state(c), now, sum(charges, c))
		d.Verdict = joint(d.Verdict, r.Verdict)
		d.Results = append(d.Results, r)
	}
	return d
}

// joint returns the verdict of a request after that of one more result.
func joint(request, result policy.Verdict) policy.Verdict {
	switch {
	case result == policy.Refused || result == policy.Never:
		return policy.Refused
	case result == policy.Queued && request == policy.Allowed:
		return policy.Queued
	}
	return request
}

func (o *oracle) take(now int64, ticket policy.Ticket, charges []policy.Charge) policy.Decision {
	d := o.peek(now, charges)
	done := map[place]policy.Result{}
	for i := range charges {
		c := &charges[i]
		own := d.Results[i].Verdict == policy.Refused && c.Limit.CountsRefused()
		if d.Verdict == policy.Refused && !own {
			continue
		}
		r, ok := done[placeOf(c)]
		if !ok {
			var s policy.State
			if units := sum(charges, c); slotted(c) && units > 0 {
				s, r = c.Limit.Enter(o.state(c), now, ticket)
			} else {
				s, r = c.Limit.Take(o.state(c), now, units)
			}
			o.states[placeOf(c)], done[placeOf(c)] = s, r
		}
		d.Results[i] = r
	}
	return d
}

func (o *oracle) settle(now int64, ticket policy.Ticket, settlements []policy.Settlement) {
	counted := o.settled[ticket]
	for i := range settlements {
		s, c := &settlements[i], &settlements[i].Charge
		switch {
		case !slotted(c):
			if o.settled[ticket] = true; !counted {
				o.states[placeOf(c)], _ = c.Limit.Settle(o.state(c), now, s.Receipt, c.Units, s.Total)
			}
		case s.Total == 0:
			o.states[placeOf(c)], _ = c.Limit.Leave(o.state(c), now, ticket)
		}
	}
}

func (o *oracle) renew(now int64, renewals []policy.Renewal) {
	for i := range renewals {
		r := &renewals[i]
		o.states[placeOf(&r.Charge)], r.Result = r.Charge.Limit.Renew(o.state(&r.Charge), now, r.Ticket)
	}
}

// leases returns the instants at which leases end.
func (o *oracle) leases(now int64) (ends []int64) {
	for _, s := range o.states {
		for _, l := range s.Leases {
			if l.Until > now {
				ends = append(ends, l.Until)
			}
		}
	}
	slices.Sort(ends) // a map has no order
	return ends
}

// slotted tells whether a charge is for a slot, which somebody has.
func slotted(c *policy.Charge) bool { return c.Limit.Algorithm() == policy.AlgorithmConcurrency }

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
