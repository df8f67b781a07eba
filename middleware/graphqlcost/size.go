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

// A length is how long a list is: so many items, or as long as a sizer says.
type length struct {
	number int // of the length, from 1 on; 0 if there is none
	items  int64
	by     *sizer
}

// A sizer is a sizing with the arguments of a field, whose variables are open.
type sizer struct {
	how   *sizing
	given []given // the argument of each slice
	room  [2]given
	err   error // what it says in any case
}

// A given is an argument as it is given, if it is, and its default.
type given struct{ value, preset value }

// length binds a sizing to the arguments of a field.
func (c *compiler) length(how *sizing, def *field, args ast.ArgumentList) length {
	isFixed := true
	for i := range how.slices {
		arg := args.ForName(def.args[how.slices[i].arg].name)
		isFixed = isFixed && (arg == nil || !hasVariable(arg.Value))
	}
	var room [2]given
	all := room[:0]
	for i := range how.slices {
		in := def.args[how.slices[i].arg]
		one := given{preset: in.preset}
		if arg := args.ForName(in.name); arg != nil {
			one.value = c.given(arg.Value, isFixed)
		}
		all = append(all, one)
	}
	if isFixed {
		return c.fixedLength(how, all)
	}
	return c.openLength(how, all)
}

// given returns the value of an argument.
func (c *compiler) given(v *ast.Value, isFixed bool) value {
	if isFixed && v.Kind == ast.IntValue {
		return value(v.Raw) // without a copy, since it is looked at and forgotten
	}
	return c.literal(v)
}

// fixedLength returns a length that depends on no variable.
func (c *compiler) fixedLength(how *sizing, all []given) length {
	c.lengths++
	items, err := c.none.ask(how, all)
	if err != nil {
		by := c.sizers.one()
		by.err = err
		return length{number: c.lengths, items: 1, by: by}
	}
	return length{number: c.lengths, items: items}
}

// openLength returns a length that depends on variables. It keeps the sizing.
func (c *compiler) openLength(how *sizing, all []given) length {
	c.lengths++
	by := c.sizers.one()
	by.how, by.given = how, append(by.room[:0], all...)
	return length{number: c.lengths, items: 1, by: by}
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
	if s.err != nil {
		return 0, s.err
	}
	return e.ask(s.how, s.given)
}

func (e *evaluation) ask(how *sizing, all []given) (int64, error) {
	most, given := int64(-1), 0
	for i := range how.slices {
		by := &how.slices[i]
		v, err := e.resolve(all[i].value)
		if err != nil {
			return 0, err
		}
		isGiven := v != ""
		if !isGiven {
			v = all[i].preset
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
	if how.one && (given > 1 || most < 0) {
		return 0, invalid(errors.New("exactly one slicing argument must be given"))
	}
	limits := &e.calculator.options.Limits
	switch {
	case most > limits.Page:
		return 0, tooComplex("A list may have at most %d items.", limits.Page)
	case most < 0 && how.assumed >= 0:
		most = how.assumed
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
