package graphqlcost

import "strconv"

// bind gives a plan's variables their values, from a JSON object that is known
// to be valid. What the cost does not depend on is not looked at: the server
// does.
func (e *evaluation) bind(variables value) error {
	if len(e.plan.variables) == 0 {
		return nil
	}
	for name, v := range variables.members {
		i := e.plan.variable(name)
		if i < 0 {
			continue
		}
		if e.values[i] != "" {
			return invalidf("the variable $%s is there twice", name)
		}
		e.values[i] = v
	}
	for i := range e.plan.variables {
		v := &e.plan.variables[i]
		if e.values[i] == "" {
			e.values[i] = v.preset
		}
		if v.required && (e.values[i] == "" || e.values[i] == null) {
			return invalidf("the variable $%s needs a value", v.name)
		}
		if v.boolean && e.values[i] != "true" && e.values[i] != "false" {
			return invalid(errNoBoolean)
		}
	}
	return nil
}

// resolve returns the value of a variable for the variable. It is none if the
// variable has none.
func (e *evaluation) resolve(v value) (value, error) {
	if v == "" || v[0] != '$' {
		return v, nil
	}
	n, err := strconv.Atoi(string(v[1:]))
	if err != nil || n < 0 || n >= len(e.values) {
		return "", invalidf("there is no variable %s", v)
	}
	return e.values[n], nil
}

// member returns the value of an object's field, or none.
func (e *evaluation) member(v value, name string) (value, error) {
	if err := e.scan(v); err != nil {
		return "", err
	}
	found := value("")
	for other, member := range v.members {
		if other != name {
			continue
		}
		if found != "" {
			return "", invalidf("an object has the field %q twice", name)
		}
		found = member
	}
	return e.resolve(found)
}
