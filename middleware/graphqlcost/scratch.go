package graphqlcost

import "sync"

// compilers are compilers that are not in use. They keep the room of their stacks,
// and nothing else of what they made or saw.
var compilers = sync.Pool{New: func() any {
	c := &compiler{
		entries: make([]entry, 0, 64), spreads: make([]spread, 0, 8), inherited: make([]inherited, 0, 4),
		kept: make([]node, 0, 32), classes: make([]class, 0, 8),
	}
	c.start()
	return c
}}

// maxScratch is how large a stack may be to be worth keeping.
const maxScratch = 1000

// release empties a compiler and puts it back.
func (c *compiler) release() {
	*c = compiler{
		entries: emptied(c.entries, max(c.usedEntries, len(c.entries))), kept: emptied(c.kept, max(c.usedKept, len(c.kept))),
		untyped: emptied(c.untyped, cap(c.untyped)), merged: emptied(c.merged, cap(c.merged)), spreads: emptied(c.spreads, cap(c.spreads)),
		inherited: emptied(c.inherited, cap(c.inherited)), classes: emptied(c.classes, cap(c.classes)),
	}
	c.start()
	compilers.Put(c)
}

// start says how many parts a plan mostly has.
func (c *compiler) start() {
	c.nodes.least, c.sets.least, c.rares.least, c.sizers.least, c.several.least = 8, 4, 2, 1, 4
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

// A chunk gives out values that are made several at once.
type chunk[T any] struct {
	least int // how many are made at first
	left  []T
	made  int
}

// one returns a value.
func (c *chunk[T]) one() *T { return &c.list(1)[0] }

// copy returns a list of the same values.
func (c *chunk[T]) copy(values []T) []T {
	if len(values) == 0 {
		return nil
	}
	list := c.list(len(values))
	copy(list, values)
	return list
}

// list returns so many values, without room for more.
func (c *chunk[T]) list(n int) []T {
	if n > len(c.left) {
		size := max(n, min(max(c.made, c.least), 64))
		c.left = make([]T, size)
		c.made += size
	}
	list := c.left[:n:n]
	c.left = c.left[n:]
	return list
}

// bytes returns about how large the parts of the plan are.
func (c *compiler) bytes() int {
	return 256 + 64*c.nodes.made + 80*c.sets.made + 64*c.rares.made + 120*c.sizers.made + 32*c.several.made +
		64*len(c.plan.variables) + 16*len(c.plan.conditions)
}
