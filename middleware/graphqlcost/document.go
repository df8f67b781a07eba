package graphqlcost

import (
	"errors"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
)

// A document is a parsed request, whose fragments are known to end.
type document struct {
	operations ast.OperationList
	fragments  ast.FragmentDefinitionList
	index      map[string]int // of the fragments by name; nil if they are few
}

// few is how many names are looked up one by one.
const few = 8

// find returns the number of a fragment, or -1.
func (d *document) find(name string) int {
	if d.index != nil {
		if n, ok := d.index[name]; ok {
			return n
		}
		return -1
	}
	return slices.IndexFunc(d.fragments, func(f *ast.FragmentDefinition) bool { return f.Name == name })
}

// fragment returns a fragment that is known to be there.
func (d *document) fragment(name string) *ast.FragmentDefinition { return d.fragments[d.find(name)] }

// parse takes a text through the gates that need no schema, cheapest first.
func (d *document) parse(text string, limits *Limits) error {
	if len(text) > limits.Document {
		return tooComplex("A document may have at most %d bytes.", int64(limits.Document))
	}
	if brackets(text) > limits.Nesting && nesting(text, limits.Nesting) > limits.Nesting {
		return tooComplex("A document may nest at most %d deep.", int64(limits.Nesting))
	}
	parsed, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: text}, limits.Tokens)
	if err != nil {
		if strings.Contains(err.Error(), "exceeded token limit") { // it has no other mark
			return tooComplex("A document may have at most %d tokens.", int64(limits.Tokens))
		}
		return invalid(err)
	}
	d.operations, d.fragments = parsed.Operations, parsed.Fragments
	if len(d.operations) == 0 {
		return invalid(errors.New("the document has no operation"))
	}
	if len(d.fragments) > limits.Fragments {
		return tooComplex("A document may have at most %d fragments.", int64(limits.Fragments))
	}
	if len(d.fragments) > few {
		d.index = make(map[string]int, len(d.fragments))
	}
	for i, f := range d.fragments {
		if at := d.find(f.Name); at < i && at >= 0 {
			return invalidf("there are two fragments %q", f.Name)
		}
		if d.index != nil {
			d.index[f.Name] = i
		}
	}
	return d.checkFragments()
}

// brackets counts what opens. Texts with few of them need no closer look.
func brackets(text string) int {
	return strings.Count(text, "{") + strings.Count(text, "[") + strings.Count(text, "(")
}

// nesting returns how deep brackets nest, or one more than the limit. It is a
// scan of bytes, so that no text can make it recurse; the parser, which does,
// counts again.
func nesting(text string, limit int) int {
	depth, deepest := 0, 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[', '(':
			if depth++; depth > deepest {
				if deepest = depth; deepest > limit {
					return deepest
				}
			}
		case '}', ']', ')':
			depth--
		case '#':
			for i+1 < len(text) && text[i+1] != '\n' && text[i+1] != '\r' {
				i++
			}
		case '"':
			i = quoteEnd(text, i)
		}
	}
	return deepest
}

// quoteEnd returns where the string that begins at a place has its last quote.
func quoteEnd(text string, i int) int {
	if len(text) >= i+3 && text[i+1] == '"' && text[i+2] == '"' {
		for i += 3; i < len(text); i++ {
			switch {
			case text[i] == '\\' && len(text) >= i+4 && text[i+1:i+4] == `"""`:
				i += 3
			case text[i] == '"' && len(text) >= i+3 && text[i:i+3] == `"""`:
				return i + 2
			}
		}
		return i
	}
	for i++; i < len(text) && text[i] != '"' && text[i] != '\n' && text[i] != '\r'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i
}

// operation returns the operation of a name, or the only one.
func (d *document) operation(name string) (*ast.OperationDefinition, error) {
	var found *ast.OperationDefinition
	for _, op := range d.operations {
		if name == "" || op.Name == name {
			if found != nil {
				return nil, invalidf("there are two operations %q: say which", op.Name)
			}
			found = op
		}
		if op.Name == "" && len(d.operations) > 1 {
			return nil, invalid(errors.New("an operation without a name is the only one"))
		}
	}
	if found == nil {
		return nil, invalidf("there is no operation %q", name)
	}
	return found, nil
}

// checkFragments refuses fragments that are not there, that nobody uses, and that
// spread themselves.
func (d *document) checkFragments() error {
	var room [few]progress
	state := room[:min(len(d.fragments), few)]
	if len(d.fragments) > few {
		state = make([]progress, len(d.fragments))
	}
	for _, op := range d.operations {
		if err := d.follow(op.SelectionSet, state); err != nil {
			return err
		}
	}
	for i, f := range d.fragments {
		if state[i] != followed {
			return invalidf("the fragment %q is not used", f.Name)
		}
	}
	return nil
}

// A progress is how far a fragment has been followed.
type progress uint8

const (
	unseen progress = iota
	following
	followed
)

// follow goes through the fragments that a selection set spreads, each once. It
// is as deep as all of them nest, which their number and the nesting bound.
func (d *document) follow(set ast.SelectionSet, state []progress) error {
	for _, selection := range set {
		var err error
		switch s := selection.(type) {
		case *ast.Field:
			err = d.follow(s.SelectionSet, state)
		case *ast.InlineFragment:
			err = d.follow(s.SelectionSet, state)
		case *ast.FragmentSpread:
			switch i := d.find(s.Name); {
			case i < 0:
				err = invalidf("there is no fragment %q", s.Name)
			case state[i] == following:
				err = invalidf("the fragment %q spreads itself", s.Name)
			case state[i] == unseen:
				state[i] = following
				err = d.follow(d.fragments[i].SelectionSet, state)
				state[i] = followed
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
