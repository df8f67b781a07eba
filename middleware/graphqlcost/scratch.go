package graphqlcost

import "sync"

// A scratch is the stacks of a compiler, which are used again and again. One that
// is not in use holds nothing of what was compiled.
type scratch struct {
	entries   []entry
	merged    []merged
	spreads   []spread
	inherited []inherited
	kept      []node
	classes   []class
	untyped   []*typ // the types that are named; without a schema

	guess field                       // what is guessed of the field that is looked at
	most  struct{ entries, kept int } // how long the long ones were
}

var scratches = sync.Pool{New: func() any { return newScratch() }}

func newScratch() *scratch {
	return &scratch{
		entries: make([]entry, 0, 64), spreads: make([]spread, 0, 8), inherited: make([]inherited, 0, 4),
		kept: make([]node, 0, 32), classes: make([]class, 0, 8),
	}
}

// maxScratch is how long a stack may be to be worth keeping.
const maxScratch = 1000

// empty forgets what was compiled.
func (s *scratch) empty() {
	s.entries = emptied(s.entries, max(s.most.entries, len(s.entries)))
	s.kept = emptied(s.kept, max(s.most.kept, len(s.kept)))
	s.merged = emptied(s.merged, cap(s.merged))
	s.spreads = emptied(s.spreads, cap(s.spreads))
	s.inherited = emptied(s.inherited, cap(s.inherited))
	s.classes = emptied(s.classes, cap(s.classes))
	s.untyped = emptied(s.untyped, cap(s.untyped))
	s.most.entries, s.most.kept, s.guess = 0, 0, field{}
}

// emptied returns a stack without anything in it, not even beyond its end. No more
// of it was used than so much.
func emptied[T any](stack []T, used int) []T {
	if cap(stack) > maxScratch {
		return nil
	}
	clear(stack[:used])
	return stack[:0]
}

// pushed returns a stack with one more on top, to be written in place.
func pushed[T any](stack []T) []T {
	if n := len(stack); n < cap(stack) {
		return stack[:n+1]
	}
	var zero T
	return append(stack, zero)
}
