package graphqlcost

import (
	"context"

	ratelimit "github.com/stint-go/stint/middleware"
)

// A Part is a named part of what a request costs.
type Part = ratelimit.Part

// maxParts bounds the parts of a request. The last takes what does not fit.
const maxParts = 50

func (c *Calculator) breakdown(ctx context.Context, ops []Operation) (ratelimit.Costs, error) {
	var parts ratelimit.Costs
	var room [few]value
	sum := int64(0)
	for i := range ops {
		e, err := c.begin(ctx, &ops[i], &room)
		if err != nil {
			return nil, err
		}
		own, err := e.parts()
		if err != nil {
			return nil, err
		}
		thousandths, err := e.total()
		if err != nil {
			return nil, err
		}
		whole := points(thousandths)
		parts = c.round(parts, own, whole)
		if whole < c.options.MinCost {
			parts = addPart(parts, ratelimit.MinimumPart, c.options.MinCost-whole)
		}
		sum = add(sum, max(whole, c.options.MinCost))
	}
	if len(ops) == 0 {
		parts = addPart(parts, ratelimit.MinimumPart, c.options.MinCost)
	}
	return parts, c.affordable(ops, sum)
}

// round adds parts in thousandths to those in points, so that together they are
// as many points as the whole.
func (c *Calculator) round(parts, thousandths []Part, whole int64) []Part {
	before, sum := int64(0), int64(0)
	for i, p := range thousandths {
		sum = add(sum, p.Points)
		upTo := min(whole, points(sum))
		if i == len(thousandths)-1 {
			upTo = whole
		}
		parts = addPart(parts, p.Name, upTo-before)
		before = upTo
	}
	return parts
}

// addPart adds to the part of a name. Nothing makes no part.
func addPart(parts []Part, name string, n int64) []Part {
	if n == 0 {
		return parts
	}
	for i := range parts {
		if parts[i].Name == name {
			parts[i].Points = add(parts[i].Points, n)
			return parts
		}
	}
	switch {
	case len(parts) == maxParts-1:
		name = "other"
	case len(parts) == maxParts:
		parts[maxParts-1].Points = add(parts[maxParts-1].Points, n)
		return parts
	}
	return append(parts, Part{Name: name, Points: n})
}

// parts tells what the fields of the root cost, in thousandths.
func (e *evaluation) parts() ([]Part, error) {
	var parts []Part
	memo := make(map[*set][]Part)
	for i := range e.plan.root.classes[0].nodes {
		n := &e.plan.root.classes[0].nodes[i]
		total, err := e.node(n)
		if err != nil {
			return nil, err
		}
		if e.mutates(n) {
			total = add(total, multiply(e.calculator.options.MutationCost, point))
		}
		below, err := e.sectionsBelow(n, memo)
		if err != nil {
			return nil, err
		}
		name := n.def.section
		if name == "" {
			name = n.def.name
		}
		parts = addPart(parts, name, max(0, total-sum(below)))
		for _, p := range below {
			parts = addPart(parts, p.Name, p.Points)
		}
	}
	return parts, nil
}

func sum(parts []Part) int64 {
	n := int64(0)
	for _, p := range parts {
		n = add(n, p.Points)
	}
	return n
}

// sectionsBelow tells what the sections below a node cost, as often as it counts.
func (e *evaluation) sectionsBelow(n *node, memo map[*set][]Part) ([]Part, error) {
	if n.below == nil || e.calculator.schema == nil || !e.calculator.schema.nested || !e.present(n) {
		return nil, nil
	}
	below, ok := memo[n.below]
	if !ok {
		var err error
		if below, err = e.sections(n.below, memo); err != nil {
			return nil, err
		}
		memo[n.below] = below
	}
	_, times, _, err := e.own(n)
	var parts []Part
	for _, p := range below {
		parts = append(parts, Part{Name: p.Name, Points: multiply(p.Points, times)})
	}
	return parts, err
}

// sections tells what the sections in a set cost, if it is the dearest that it can
// be.
func (e *evaluation) sections(s *set, memo map[*set][]Part) ([]Part, error) {
	var dearest []Part
	most := int64(-1)
	for _, class := range s.classes {
		total := class.fixed
		var parts []Part
		for i := range class.nodes {
			n := &class.nodes[i]
			cost, err := e.node(n)
			if err != nil {
				return nil, err
			}
			below, err := e.sectionsBelow(n, memo)
			if err != nil {
				return nil, err
			}
			total = add(total, cost)
			if n.def.section != "" {
				parts = addPart(parts, n.def.section, max(0, cost-sum(below)))
			}
			for _, p := range below {
				parts = addPart(parts, p.Name, p.Points)
			}
		}
		if total > most {
			most, dearest = total, parts
		}
	}
	return dearest, nil
}
