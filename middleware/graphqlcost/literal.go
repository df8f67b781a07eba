package graphqlcost

import (
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"
)

// literal returns a value of a document as JSON, with $n for its variables: with
// the number that index has for each. It holds nothing of the document.
func literal(v *ast.Value, index func(string) int) value {
	var room [64]byte
	return value(appendLiteral(room[:0], v, index))
}

func appendLiteral(out []byte, v *ast.Value, index func(string) int) []byte {
	switch v.Kind {
	case ast.Variable:
		return strconv.AppendInt(append(out, '$'), int64(index(v.Raw)), 10)
	case ast.IntValue, ast.FloatValue, ast.BooleanValue:
		return append(out, v.Raw...)
	case ast.NullValue:
		return append(out, null...)
	case ast.ListValue:
		out = append(out, '[')
		for i, child := range v.Children {
			if i > 0 {
				out = append(out, ',')
			}
			out = appendLiteral(out, child.Value, index)
		}
		return append(out, ']')
	case ast.ObjectValue:
		out = append(out, '{')
		for i, child := range v.Children {
			if i > 0 {
				out = append(out, ',')
			}
			out = appendJSONString(out, child.Name)
			out = appendLiteral(append(out, ':'), child.Value, index)
		}
		return append(out, '}')
	}
	return appendJSONString(out, v.Raw) // strings, and names of enums
}

func appendJSONString(out []byte, s string) []byte {
	out = append(out, '"')
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' {
			out = append(out, '\\')
		}
		out = append(out, s[i])
	}
	return append(out, '"')
}

// sameValue tells whether two values of a document are the same.
func sameValue(a, b *ast.Value) bool {
	if a == b {
		return true
	}
	if a.Kind != b.Kind || a.Raw != b.Raw || len(a.Children) != len(b.Children) {
		return false
	}
	for i := range a.Children {
		if a.Children[i].Name != b.Children[i].Name || !sameValue(a.Children[i].Value, b.Children[i].Value) {
			return false
		}
	}
	return true
}

// sameArguments tells whether two fields have the same arguments, in any order.
func sameArguments(a, b ast.ArgumentList) bool {
	if len(a) != len(b) {
		return false
	}
	for i, arg := range a {
		other := b[i]
		if other.Name != arg.Name {
			other = b.ForName(arg.Name)
		}
		if other == nil || !sameValue(arg.Value, other.Value) {
			return false
		}
	}
	return true
}
