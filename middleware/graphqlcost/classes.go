package graphqlcost

import "github.com/vektah/gqlparser/v2/ast"

// classesOf returns one object for each class of those that an abstract type can be: objects
// of one class meet the same fragments, and their fields cost the same. However
// many objects implement an interface, there are no more classes than fragments
// and costs tell apart.
func (c *compiler) classesOf(sources []source, t *typ) ([]*typ, error) {
	var conditions []*typ
	var names []string
	for _, src := range sources {
		from := len(c.spreads)
		err := c.told(src.selections, src.on, &conditions, &names, from)
		c.spreads = c.spreads[:from]
		if err != nil {
			return nil, err
		}
	}
	var classes []*typ
	seen := make(map[string]bool)
	var signature []byte
	for _, o := range t.objects {
		signature = signature[:0]
		for _, condition := range conditions {
			c.steps++
			if condition.covers(o) {
				signature = append(signature, 1)
			} else {
				signature = append(signature, 0)
			}
		}
		for _, name := range names {
			c.steps++
			shape := -1
			if f := o.table.get(name); f != nil {
				shape = f.shape
			}
			signature = append(signature, byte(shape), byte(shape>>8), byte(shape>>16), byte(shape>>24))
		}
		if err := c.step(); err != nil {
			return nil, err
		}
		if !seen[string(signature)] {
			seen[string(signature)] = true
			classes = append(classes, o)
		}
	}
	return classes, nil
}

// told collects the fragments' types that tell objects apart, and the fields that
// are selected of those that no fragment names.
func (c *compiler) told(set ast.SelectionSet, on *typ, conditions *[]*typ, names *[]string, from int) error {
	for _, selection := range set {
		if err := c.step(); err != nil {
			return err
		}
		inner, condition := ast.SelectionSet(nil), ""
		switch s := selection.(type) {
		case *ast.Field:
			if on.kind == object { // one object, which its fragment has told apart
				continue
			}
			if !c.contains(*names, s.Name) {
				*names = append(*names, s.Name)
			}
			continue
		case *ast.InlineFragment:
			inner, condition = s.SelectionSet, s.TypeCondition
		case *ast.FragmentSpread:
			if seen, err := c.seen(from, s.Name, always); seen || err != nil {
				if err != nil {
					return err
				}
				continue
			}
			f := c.document.fragment(s.Name)
			inner, condition = f.SelectionSet, f.TypeCondition
		}
		under := on
		if condition != "" {
			var err error
			if under, err = c.condit(condition, on); err != nil {
				return err
			}
			if !c.containsType(*conditions, under) {
				*conditions = append(*conditions, under)
			}
		}
		if err := c.told(inner, under, conditions, names, from); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) contains(names []string, name string) bool {
	for _, other := range names {
		c.steps++
		if other == name {
			return true
		}
	}
	return false
}

func (c *compiler) containsType(types []*typ, t *typ) bool {
	for _, other := range types {
		c.steps++
		if other == t {
			return true
		}
	}
	return false
}
