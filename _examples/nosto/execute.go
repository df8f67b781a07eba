package main

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"
)

// An execution answers a query that is known to be valid.
type execution struct {
	schema    *ast.Schema
	variables map[string]any
	out       bytes.Buffer
}

// A selected is the fields of one response key, which are answered as one.
type selected []*ast.Field

// object answers what is selected of an object, in the order of the query.
func (e *execution) object(o object, sets ...ast.SelectionSet) {
	var fields []selected
	met := map[string]bool{}
	for _, set := range sets {
		fields = e.collect(fields, met, o.kind, set)
	}
	e.out.WriteByte('{')
	for i, f := range fields {
		if i > 0 {
			e.out.WriteByte(',')
		}
		e.leaf(f[0].Alias)
		e.out.WriteByte(':')
		if f[0].Name == "__typename" {
			e.leaf(o.kind)
			continue
		}
		e.value(o.field(f[0].Name, f[0].ArgumentMap(e.variables)), f)
	}
	e.out.WriteByte('}')
}

// collect adds what a set selects of an object of a kind, each fragment once: those
// that spread others twice would double at every step.
func (e *execution) collect(fields []selected, met map[string]bool, kind string, set ast.SelectionSet) []selected {
	for _, s := range set {
		switch s := s.(type) {
		case *ast.Field:
			if !e.included(s.Directives) {
				continue
			}
			i := slices.IndexFunc(fields, func(f selected) bool { return f[0].Alias == s.Alias })
			if i < 0 {
				fields = append(fields, nil)
				i = len(fields) - 1
			}
			fields[i] = append(fields[i], s)
		case *ast.InlineFragment:
			if e.included(s.Directives) && e.is(kind, s.TypeCondition) {
				fields = e.collect(fields, met, kind, s.SelectionSet)
			}
		case *ast.FragmentSpread:
			if !met[s.Name] && e.included(s.Directives) && e.is(kind, s.Definition.TypeCondition) {
				met[s.Name] = true
				fields = e.collect(fields, met, kind, s.Definition.SelectionSet)
			}
		}
	}
	return fields
}

// value answers the value of a field.
func (e *execution) value(v any, f selected) {
	switch v := v.(type) {
	case object:
		sets := make([]ast.SelectionSet, len(f))
		for i := range f {
			sets[i] = f[i].SelectionSet
		}
		e.object(v, sets...)
	case []object:
		e.out.WriteByte('[')
		for i := range v {
			if i > 0 {
				e.out.WriteByte(',')
			}
			e.value(v[i], f)
		}
		e.out.WriteByte(']')
	default:
		e.leaf(v)
	}
}

func (e *execution) leaf(v any) {
	text, _ := json.Marshal(v) // a string, a number or null
	e.out.Write(text)
}

// included tells what @skip and @include say.
func (e *execution) included(directives ast.DirectiveList) bool {
	for _, d := range directives {
		if d.Name == "skip" || d.Name == "include" {
			if d.ArgumentMap(e.variables)["if"] == (d.Name == "skip") {
				return false
			}
		}
	}
	return true
}

// is tells whether objects of a kind are of a type.
func (e *execution) is(kind, condition string) bool {
	if condition == "" || condition == kind {
		return true
	}
	return slices.ContainsFunc(e.schema.GetPossibleTypes(e.schema.Types[condition]), func(d *ast.Definition) bool { return d.Name == kind })
}
