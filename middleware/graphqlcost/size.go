package graphqlcost

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"
)

// A sizing says how long a field's list is, or those below it.
type sizing struct {
	assumed int64      // without an argument that says it; -1 if that is not known either
	slices  []slice    // arguments that say it
	sized   [][]string // the fields below whose size it is, as paths; none if it is the field's own
	one     bool       // exactly one of the arguments must be given
}

// A slice is an argument that says how long a list is.
type slice struct {
	arg     int      // which of the field's
	path    []string // what inside of it says so
	presets []value  // the defaults along the path
	count   bool     // it is as long as the argument, which is a list
}

// sizes tells whether a field below has this size.
func (s *sizing) sizes(name string) bool {
	return slices.ContainsFunc(s.sized, func(path []string) bool { return len(path) == 1 && path[0] == name })
}

// A sizer is a sizing with a field's arguments.
type sizer struct {
	how     *sizing
	given   []value // the argument of each slice; none if it is not given
	presets []value // its default
	room    [4]value

	fixed    bool // it depends on no variable
	fixedAt  int64
	fixedErr error
}

// sizer binds a sizing to the arguments of a field.
func (c *compiler) sizer(how *sizing, def *field, args ast.ArgumentList) *sizer {
	s := c.newSizer()
	s.how, s.fixed = how, true
	if len(how.slices) > 0 {
		both := s.room[:]
		if 2*len(how.slices) > len(both) {
			both = make([]value, 2*len(how.slices))
		}
		s.given, s.presets = both[:len(how.slices)], both[len(how.slices):2*len(how.slices)]
	}
	for i := range how.slices {
		in := def.args[how.slices[i].arg]
		s.presets[i] = in.preset
		if arg := args.ForName(in.name); arg != nil {
			s.given[i] = c.literal(arg.Value)
			s.fixed = s.fixed && !hasVariable(arg.Value)
		}
	}
	if s.fixed {
		s.fixedAt, s.fixedErr = s.ask(&c.none)
	}
	return s
}

func hasVariable(v *ast.Value) bool {
	if v.Kind == ast.Variable {
		return true
	}
	for _, child := range v.Children {
		if hasVariable(child.Value) {
			return true
		}
	}
	return false
}

// size returns how long the list is, at least 0.
func (s *sizer) size(e *evaluation) (int64, error) {
	if s.fixed {
		return s.fixedAt, s.fixedErr
	}
	return s.ask(e)
}

func (s *sizer) ask(e *evaluation) (int64, error) {
	most, given := int64(-1), 0
	for i := range s.how.slices {
		by := &s.how.slices[i]
		v, err := e.resolve(s.given[i])
		if err != nil {
			return 0, err
		}
		isGiven := v != ""
		if !isGiven {
			v = s.presets[i]
		}
		for j, name := range by.path {
			inObject := v != "" && v[0] == '{'
			if v, err = e.member(v, name); err != nil {
				return 0, err
			}
			if inObject && v == "" && by.presets[j] != "" {
				v, isGiven = by.presets[j], false
			}
		}
		if v == "" || v == null {
			continue
		}
		if isGiven {
			given++
		}
		n, err := e.length(v, by.count)
		if err != nil {
			return 0, err
		}
		most = max(most, n)
	}
	if s.how.one && (given > 1 || most < 0) {
		return 0, invalid(errors.New("exactly one slicing argument must be given"))
	}
	limits := &e.calculator.options.Limits
	switch {
	case most > limits.Page:
		return 0, tooComplex("A list may have at most %d items.", limits.Page)
	case most < 0 && s.how.assumed >= 0:
		most = s.how.assumed
	case most < 0:
		most = e.calculator.options.ListSize
	}
	if cost := e.calculator.options.SizeCost; cost != nil {
		most = max(0, cost(most))
	}
	return most, nil
}

// length returns the size that a value says.
func (e *evaluation) length(v value, count bool) (int64, error) {
	if err := e.scan(v); err != nil {
		return 0, err
	}
	if v[0] == '[' {
		n := int64(0)
		for range v.items {
			if n++; n > e.calculator.options.Limits.Page {
				break
			}
		}
		return n, nil
	}
	if count {
		return 1, nil // one item stands for a list of one
	}
	n, err := v.integer()
	switch {
	case err != nil:
		return 0, invalid(fmt.Errorf("the size of a list: %w", err))
	case n < 0:
		return 0, invalid(errors.New("the size of a list is negative"))
	}
	return n, nil
}
