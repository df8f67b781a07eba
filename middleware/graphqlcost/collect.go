package graphqlcost

import (
	"slices"

	"github.com/vektah/gqlparser/v2/ast"
)

// An entry is a response key: the alias of the first field under it. There are many,
// so that it is small.
type entry struct {
	first *ast.Field
	def   *field // what the schema says of the first
	on    *typ   // the type that the first is written for
	when  int32  // the first's condition
	more  int32  // the number, from 1 on, of what was merged into it; 0 if nothing was
}

// A merged is what an entry has of several fields.
type merged struct {
	when    []int32 // one of these conditions must hold; none means always
	sources []source
}

// A source is a selection set, one of those that are merged into a set.
type source struct {
	selections ast.SelectionSet
	on         *typ // the type that it is written for
	when       int32
}

// A spread is a fragment that a set has.
type spread struct {
	name string
	when int32
}

// collect gathers the fields of a selection set that an object has, by their
// response keys.
func (c *compiler) collect(from, spreadsFrom int, src source, o *typ) error {
	for _, selection := range src.selections {
		if err := c.step(); err != nil {
			return err
		}
		switch s := selection.(type) {
		case *ast.Field:
			when := src.when
			if len(s.Directives) > 0 {
				var err error
				if when, err = c.condition(s.Directives, when); err != nil {
					return err
				}
				if when == never {
					continue
				}
			}
			if err := c.enter(from, s, src.on, when); err != nil {
				return err
			}
		case *ast.InlineFragment:
			when, err := c.condition(s.Directives, src.when)
			if err != nil {
				return err
			}
			if err := c.fragment(from, spreadsFrom, source{s.SelectionSet, src.on, when}, s.TypeCondition, o); err != nil {
				return err
			}
		case *ast.FragmentSpread:
			when, err := c.condition(s.Directives, src.when)
			if err != nil {
				return err
			}
			if seen, err := c.seen(spreadsFrom, s.Name, when); seen || err != nil {
				if err != nil {
					return err
				}
				continue
			}
			f := c.document.fragment(s.Name)
			if err := c.fragment(from, spreadsFrom, source{f.SelectionSet, src.on, when}, f.TypeCondition, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// seen tells whether a set has a fragment already, and notes that it has.
func (c *compiler) seen(from int, name string, when int32) (bool, error) {
	for _, s := range c.spreads[from:] {
		if s.name == name && (s.when == when || s.when == always) {
			return true, nil
		}
		if err := c.step(); err != nil {
			return true, err
		}
	}
	c.spreads = append(c.spreads, spread{name, when})
	return when == never, nil
}

func (c *compiler) fragment(from, spreadsFrom int, src source, condition string, o *typ) error {
	if src.when == never {
		return nil
	}
	if condition != "" {
		on, err := c.condit(condition, src.on)
		if err != nil {
			return err
		}
		src.on = on
		if c.schema != nil && !on.covers(o) {
			return nil
		}
	}
	return c.collect(from, spreadsFrom, src, o)
}

// condit returns the type that a fragment is for.
func (c *compiler) condit(name string, on *typ) (*typ, error) {
	t := c.typed(name)
	switch {
	case c.schema == nil:
	case t == nil || t.kind != object && t.kind != abstract:
		return nil, invalidf("a fragment is for %q, which has no fields", name)
	case !t.is.meets(on.is):
		return nil, invalidf("a fragment for %q can never be one of %q", name, on.name)
	}
	return t, nil
}

// enter adds a field to the entries of a set.
func (c *compiler) enter(from int, f *ast.Field, on *typ, when int32) error {
	var def *field
	if c.schema != nil && f.Name != typename.name {
		if def = on.table.get(f.Name); def == nil {
			return invalidf("%q has no field %q", on.name, f.Name)
		}
	}
	for i := from; i < len(c.entries); i++ {
		e := &c.entries[i]
		if e.first.Alias != f.Alias {
			if i-from > 16 {
				c.steps++
			}
			continue
		}
		if e.first.Name != f.Name || !sameArguments(e.first.Arguments, f.Arguments) {
			if c.schema != nil {
				return invalidf("%q stands for two different fields", f.Alias)
			}
			continue // of types that exclude one another, maybe: both count
		}
		if (len(e.first.SelectionSet) == 0) != (len(f.SelectionSet) == 0) {
			return invalidf("%q stands for two different fields", f.Alias)
		}
		if e.on != on && c.schema == nil {
			e.on = nameless // of any type, then
		}
		c.merge(e, f, def, on, when)
		return nil
	}
	c.entries = pushed(c.entries)
	e := &c.entries[len(c.entries)-1]
	e.first, e.def, e.on, e.when, e.more = f, def, on, when, 0
	return nil
}

// merge adds another field to those of an entry.
func (c *compiler) merge(e *entry, f *ast.Field, def *field, on *typ, when int32) {
	isLeaf := len(f.SelectionSet) == 0
	if e.more == 0 {
		if isLeaf && (e.when == when || e.when == always) {
			return
		}
		m := merged{when: c.whens(e, never)}
		if !isLeaf {
			m.sources = []source{c.source(e)}
		}
		c.merged = append(c.merged, m)
		e.more = int32(len(c.merged))
	}
	m := &c.merged[e.more-1]
	m.when = orWhen(m.when, when)
	if !isLeaf {
		m.sources = c.mergeSource(m.sources, source{f.SelectionSet, c.under(on, def), when})
	}
}

// whens returns the conditions of an entry, of which one must hold where another
// condition does; none means always.
func (c *compiler) whens(e *entry, known int32) []int32 {
	switch {
	case e.more > 0 && slices.Contains(c.merged[e.more-1].when, known):
		return nil
	case e.more > 0:
		return c.merged[e.more-1].when
	case e.when == always || e.when == known:
		return nil
	}
	return []int32{e.when}
}

// source returns the selection set of an entry's first field.
func (c *compiler) source(e *entry) source {
	return source{e.first.SelectionSet, c.under(e.on, e.def), e.when}
}

// under returns the type that the selections of a field are written for.
func (c *compiler) under(on *typ, def *field) *typ {
	switch {
	case c.schema == nil:
		return nameless
	case def == nil:
		return on
	}
	return def.of
}

// mergeSource adds a selection set to those of an entry, unless it is there.
func (c *compiler) mergeSource(all []source, s source) []source {
	for _, other := range all {
		c.steps++
		if &other.selections[0] == &s.selections[0] && other.on == s.on && (other.when == s.when || other.when == always) {
			return all
		}
	}
	return append(all, s)
}
