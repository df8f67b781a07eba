package graphqlcost

import (
	"slices"
	"strings"
)

// guessField tells what a field costs where there is no schema. Of which type it
// is, is known at the root and in fragments alone; elsewhere the highest cost
// that any type's field of this name has counts.
func (c *compiler) guessField(e *entry, isRoot bool) *field {
	own := &c.guess
	if isRoot {
		own = new(field)
	}
	f, o := e.first, &c.calculator.options
	*own = field{name: f.Name, of: nameless, meta: f.Name == "__schema" || f.Name == "__type"}
	if len(f.SelectionSet) > 0 {
		own.weight = point
	}
	if cost, ok := named(o.Costs, c.calculator.fieldCosts, e.on.name, f.Name); ok {
		own.weight = multiply(cost, point)
	}
	if isRoot && len(o.Sections) > 0 {
		own.section = o.Sections[e.on.name+"."+f.Name]
	}
	return own
}

// guessTimes sets how often a node counts, by the arguments that say so.
func (c *compiler) guessTimes(n *node, e *entry) {
	f, o := e.first, &c.calculator.options
	how := sizing{assumed: -1}
	if size, ok := named(o.Sizes, c.calculator.fieldSizes, e.on.name, f.Name); ok {
		how.assumed = size
	}
	var roomForSlices [2]slice
	var roomForGiven [2]given
	by, all, isFixed := roomForSlices[:0], roomForGiven[:0], true
	for _, arg := range f.Arguments {
		if slices.Contains(o.Slicing, arg.Name) {
			by = append(by, slice{count: strings.HasSuffix(arg.Name, "s")})
			isFixed = isFixed && !hasVariable(arg.Value)
		}
	}
	if len(by) == 0 && how.assumed < 0 && (len(f.SelectionSet) == 0 || o.ListSize == 1) {
		return
	}
	for _, arg := range f.Arguments {
		if slices.Contains(o.Slicing, arg.Name) {
			all = append(all, given{value: c.given(arg.Value, isFixed)})
		}
	}
	var l length
	if isFixed {
		how.slices = by
		l = c.fixedLength(&how, all)
	} else {
		l = c.openLength(&sizing{assumed: how.assumed, slices: slices.Clone(by)}, all)
	}
	n.size, n.times = l.by, max(1, l.items)
}

// named returns the number of a field: its type's, if that is known, or else the
// highest of any type.
func named(numbers, highest map[string]int64, t, name string) (int64, bool) {
	if len(numbers) == 0 {
		return 0, false
	}
	if t != "" {
		if n, ok := numbers[t+"."+name]; ok {
			return n, true
		}
		n, ok := numbers[name]
		return n, ok
	}
	n, ok := highest[name]
	return n, ok
}

// highest returns the highest number of the fields of each name, of any type.
func highest(numbers map[string]int64) map[string]int64 {
	all := make(map[string]int64, len(numbers))
	for path, n := range numbers {
		name := path[strings.LastIndexByte(path, '.')+1:]
		all[name] = max(all[name], n)
	}
	return all
}
