package middleware

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// Costs are what a request costs, part by part: for [Rule.Costs] and [SetCosts].
//
//	var c ratelimit.Costs
//	c.Add("session", 10)
//	c.Add("products", 7)
type Costs = respond.Costs

// A Part is a named share of what a request costs, in units.
type Part = respond.Part

// Names of parts that no function named.
const (
	// MinimumPart is what is missing to [Rule.MinCost].
	MinimumPart = "minimum"

	// SettledPart is a cost of which only the sum is known: by [SetCost], or by
	// [Rule.Settle].
	SettledPart = "settled"
)

// A Costing says what requests cost, part by part, for [Rule.Costs]. [CostsBy]
// makes one. It is asked once for a request, however many rules have it, also of
// stacked Limiters; only [Limiter.Peek] asks anew. What is a request of its own
// has a ledger of its own, by [NewLedger].
type Costing struct {
	costs func(*http.Request) (Costs, error)
}

// CostsBy returns the Costing that asks a function:
//
//	{Name: "points", Key: account, Limits: limits, Costs: ratelimit.CostsBy(pointsOf), MinCost: 10},
//
// Its errors are what those of [Rule.Cost] are, and a negative part is one: for
// each rule that has it. What it returns must not change afterwards.
func CostsBy(costs func(*http.Request) (Costs, error)) *Costing {
	if costs == nil {
		panic("ratelimit: CostsBy(nil): write a func(*http.Request) (Costs, error)")
	}
	return &Costing{costs}
}

// An asking is what a Costing said of a request.
type asking struct {
	costing *Costing
	costs   Costs
	err     error
}

// costsOf returns what a rule costs the request: units, and the parts that add up
// to them, or nil if the rule knows none. With an error it is what it costs to
// have asked.
func (p *pass) costsOf(r *rule) (units int64, parts Costs, err error) {
	if r.Costs == nil {
		units, err = r.costOf(p.request)
		return max(units, r.MinCost), nil, err
	}
	costs, err := p.askCosts(r.Costs)
	if fault := checkCosts(costs); fault != nil {
		costs, err = Costs{}, cmp.Or(err, fault)
	}
	if err != nil {
		err = fmt.Errorf("ratelimit: rule %q: cost: %w", r.Name, err)
	}
	// More than any limit holds is never admitted, and adds up without overflow.
	units, parts = atMost(costs, policy.MaxUnits+1)
	units, parts = atLeast(units, parts, r.MinCost)
	return units, parts, err
}

// askCosts asks a Costing, once for the request.
func (p *pass) askCosts(c *Costing) (Costs, error) {
	a, ok := p.asked(c)
	if !ok && p.ledger != nil {
		a, ok = p.ledger.asked(c)
	}
	if !ok {
		a.costing = c
		a.costs, a.err = c.costs(p.request)
		if a.costs == nil {
			a.costs = Costs{} // there are parts: none
		}
		p.askings = append(p.askings, a)
	}
	return a.costs, a.err
}

func (p *pass) asked(c *Costing) (asking, bool) {
	for _, a := range p.askings {
		if a.costing == c {
			return a, true
		}
	}
	return asking{}, false
}

// asked returns what a Costing said when a limiter asked it before.
func (led *ledger) asked(c *Costing) (asking, bool) {
	led.mu.Lock()
	defer led.mu.Unlock()
	for p := led.first; p != nil; p = p.next {
		if a, ok := p.asked(c); ok {
			return a, true
		}
	}
	return asking{}, false
}

// setParts sets the parts of the i-th charge.
func (p *pass) setParts(i int, parts Costs) {
	if parts == nil && i >= len(p.parts) {
		return
	}
	for len(p.parts) <= i {
		p.parts = append(p.parts, nil)
	}
	p.parts[i] = parts
}

// partsOf returns the parts of the i-th charge, or nil.
func (p *pass) partsOf(i int) Costs {
	if i >= len(p.parts) {
		return nil
	}
	return p.parts[i]
}

// settledParts returns the parts of the i-th charge once it is settled to the
// parts that add up to the total, if there are any; and otherwise as one part,
// unless nothing has changed or the rule knows none.
func (p *pass) settledParts(i int, total int64, parts Costs) Costs {
	if before := p.partsOf(i); parts == nil && before != nil {
		if total == before.Sum() {
			return before
		}
		parts = Costs{}
		parts.Add(SettledPart, total)
	}
	_, parts = atLeast(total, parts, p.rules[i].MinCost)
	return parts
}

func checkCosts(costs Costs) error {
	for _, part := range costs {
		if part.Points < 0 {
			return fmt.Errorf("part %q is negative: %d", part.Name, part.Points)
		}
	}
	return nil
}

// atMost returns what the parts add up to, and the parts, cut to it.
func atMost(costs Costs, most int64) (int64, Costs) {
	left := most
	for i, part := range costs {
		if part.Points > left {
			costs = slices.Clone(costs[:i+1])
			costs[i].Points = left
			return most, costs
		}
		left -= part.Points
	}
	return most - left, costs
}

// atLeast returns the units, with what is missing to a minimum, as a part.
func atLeast(units int64, parts Costs, least int64) (int64, Costs) {
	if units >= least {
		return units, parts
	}
	if parts != nil {
		parts = append(slices.Clip(parts), Part{Name: MinimumPart, Points: least - units})
	}
	return least, parts
}
