package graphqlcost

import (
	"errors"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"
)

// A condition is that a variable has a value and another condition holds, of
// those that a plan numbers from 1 on.
type condition struct {
	variable int32
	want     bool
	and      int32
}

const (
	always int32 = 0
	never  int32 = -1
)

// condition returns when something is selected, by its @skip and @include, if it
// stands in what is selected when another condition holds.
func (c *compiler) condition(directives ast.DirectiveList, when int32) (int32, error) {
	if len(directives) > c.limits.Directives {
		return never, tooComplex("A field may have at most %d directives.", int64(c.limits.Directives))
	}
	for _, d := range directives {
		want := d.Name == "include"
		if !want && d.Name != "skip" {
			continue
		}
		arg := d.Arguments.ForName("if")
		switch {
		case arg == nil || arg.Value.Kind != ast.BooleanValue && arg.Value.Kind != ast.Variable:
			return never, invalidf("@%s needs a boolean", d.Name)
		case arg.Value.Kind == ast.BooleanValue:
			if (arg.Value.Raw == "true") != want {
				return never, nil
			}
			continue
		}
		n := c.plan.variable(arg.Value.Raw)
		if n < 0 {
			return never, invalidf("there is no variable $%s", arg.Value.Raw)
		}
		c.plan.variables[n].boolean = true
		when = c.and(when, int32(n), want)
		if when == never {
			return never, nil
		}
	}
	return when, nil
}

// and returns the number of a condition that a variable is added to.
func (c *compiler) and(when, variable int32, want bool) int32 {
	for up := when; up > 0; up = c.plan.conditions[up-1].and {
		if at := c.plan.conditions[up-1]; at.variable == variable {
			if at.want != want {
				return never
			}
			return when
		}
	}
	one := condition{variable, want, when}
	at := slices.Index(c.plan.conditions, one)
	c.steps += len(c.plan.conditions)
	if at < 0 {
		at = len(c.plan.conditions)
		c.plan.conditions = append(c.plan.conditions, one)
	}
	return int32(at + 1)
}

// orWhen adds a condition to those of which one must hold; none means always.
func orWhen(any []int32, when int32) []int32 {
	switch {
	case any == nil || when == always:
		return nil
	case slices.Contains(any, when):
		return any
	}
	return append(any, when)
}

// holds tells whether one of the conditions holds.
func (e *evaluation) holds(any []int32) bool {
	if any == nil {
		return true
	}
	for _, when := range any {
		ok := true
		for ; ok && when > 0; when = e.plan.conditions[when-1].and {
			c := &e.plan.conditions[when-1]
			ok = (e.values[c.variable] == "true") == c.want
		}
		if ok {
			return true
		}
	}
	return false
}

var errNoBoolean = errors.New("the variable of @skip or @include is no boolean")
