package graphqlcost

import (
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// guessField tells what a field costs where there is no schema. Of which type it
// is, is known at the root and in fragments alone; elsewhere the highest cost
// that any type's field of this name has counts.
func (c *Calculator) guessField(on *typ, f *ast.Field, under *typ) *field {
	own := &field{name: strings.Clone(f.Name), of: under, meta: f.Name == "__schema" || f.Name == "__type"}
	if len(f.SelectionSet) > 0 {
		own.weight = point
	}
	if cost, ok := named(c.options.Costs, c.fieldCosts, on.name, f.Name); ok {
		own.weight = multiply(cost, point)
	}
	own.section = c.options.Sections[on.name+"."+f.Name]
	s := sizing{assumed: -1}
	for _, arg := range f.Arguments {
		if slices.Contains(c.options.Slicing, arg.Name) {
			s.slices = append(s.slices, slice{arg: len(own.args), count: strings.HasSuffix(arg.Name, "s")})
			own.args = append(own.args, &input{name: arg.Name})
		}
	}
	if size, ok := named(c.options.Sizes, c.fieldSizes, on.name, f.Name); ok {
		s.assumed = size
	}
	if len(s.slices) > 0 || s.assumed >= 0 || len(f.SelectionSet) > 0 && c.options.ListSize > 1 {
		own.size = &s
	}
	return own
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
