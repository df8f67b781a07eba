package memstore

import (
	"strings"
	"sync"

	"github.com/stint-go/stint/policy"
)

// A shard holds the states of the names that hash to it. Its states lie side by
// side in one slice, so that looking through all of them is quick, and those whose
// hashes end alike are chained.
type shard struct {
	mu     sync.Mutex
	heads  []int32 // first slots by the ends of their hashes, plus one; as many as a power of two
	slots  []slot
	free   int32 // first free slot, chained by next; none if negative
	states int   // slots in use
	limit  int   // most slots
	fresh  int   // new states that the request under way asks for
	hand   int   // where sweep goes on

	full int64 // instant before which not to look for room

	limits  map[policy.Limit]*policy.Limit
	settled tickets
	calls   calls[int32] // by slot

	_ [64]byte // keeps neighbours' locks off this shard's cache line
}

// A slot is one limit's state under one name. It is free if limit is nil.
type slot struct {
	state  policy.State
	limit  *policy.Limit // as the state was last asked for
	id     uint64
	hash   uint64
	name   name
	next   int32 // next slot of the chain, or next free one
	pinned bool  // not to be evicted: the request under way holds it
}

// none is the slot that is not there.
const none int32 = -1

func (sh *shard) init(limit int) {
	*sh = shard{
		limits: map[policy.Limit]*policy.Limit{},
		free:   none,
		limit:  limit,
	}
}

// head returns the first slot of a hash's chain.
func (sh *shard) head(hash uint64) int32 {
	if len(sh.heads) == 0 {
		return none
	}
	return *sh.first(hash) - 1
}

func (sh *shard) first(hash uint64) *int32 { return &sh.heads[hash&uint64(len(sh.heads)-1)] }

// spread makes room for twice as many chains, so that they stay short.
func (sh *shard) spread() {
	sh.heads = make([]int32, max(2*len(sh.heads), 8))
	for i := range sh.slots {
		if s := &sh.slots[i]; s.limit != nil {
			first := sh.first(s.hash)
			s.next, *first = *first-1, int32(i)+1
		}
	}
}

// find returns the slot of a name's state in the chain that begins at i.
func (sh *shard) find(i int32, n *name, id uint64) int32 {
	for ; i != none; i = sh.slots[i].next {
		if s := &sh.slots[i]; s.id == id && s.name == *n {
			break
		}
	}
	return i
}

// insert adds a state, for which there has to be room, and frees what it passes
// that has drained: twice as many slots are looked at as come.
func (sh *shard) insert(hash uint64, n name, id uint64, l *policy.Limit, state policy.State, now int64) {
	if sh.states >= len(sh.heads) {
		sh.spread()
	}
	i, first := sh.free, sh.head(hash)
	if i == none {
		i = sh.grow()
	} else {
		sh.free = sh.slots[i].next
	}
	sh.slots[i] = slot{
		state: state,
		limit: sh.intern(l),
		id:    id,
		hash:  hash,
		name:  sh.own(first, n),
		next:  first,
	}
	*sh.first(hash) = i + 1
	sh.states++
	sh.roomier(now)
	sh.sweep(now, 2)
}

// grow returns a new slot.
func (sh *shard) grow() int32 {
	n := len(sh.slots)
	if n == cap(sh.slots) {
		grown := make([]slot, n, min(max(2*n, 8), sh.limit))
		copy(grown, sh.slots)
		sh.slots = grown
	}
	sh.slots = sh.slots[:n+1]
	return int32(n)
}

// own returns the name in memory of its own: a key may be a piece of something
// much larger. States of one name share it.
func (sh *shard) own(first int32, n name) name {
	for i := first; i != none; i = sh.slots[i].next {
		if sh.slots[i].name == n {
			return sh.slots[i].name
		}
	}
	n.key, n.part = strings.Clone(n.key), strings.Clone(n.part)
	return n
}

// intern returns a limit that the shard's states share.
func (sh *shard) intern(l *policy.Limit) *policy.Limit {
	const most = 1024
	p := sh.limits[*l]
	if p == nil {
		if len(sh.limits) >= most {
			clear(sh.limits)
		}
		p = new(*l)
		sh.limits[*l] = p
	}
	return p
}

// relimit notes the limit that a slot's state was asked for.
func (sh *shard) relimit(i int32, l *policy.Limit, now int64) {
	if s := &sh.slots[i]; *s.limit != *l {
		s.limit = sh.intern(l)
		sh.roomier(now)
	}
}

// put replaces a slot's state, and calls whom that concerns.
func (sh *shard) put(i int32, after *policy.State) {
	state := &sh.slots[i].state
	if len(sh.calls) > 0 {
		sh.calls.changed(i, state, after)
	}
	*state = *after
}

// remove frees a slot.
func (sh *shard) remove(i int32) {
	sh.calls.all(i)
	s := &sh.slots[i]
	if first := sh.first(s.hash); *first == i+1 {
		*first = s.next + 1
	} else {
		before := *first - 1
		for sh.slots[before].next != i {
			before = sh.slots[before].next
		}
		sh.slots[before].next = s.next
	}
	*s = slot{next: sh.free}
	sh.free = i
	sh.states--
}

// grace is how long a drained state is kept while there is room, in microseconds:
// a clock that is set back a little finds it as it was.
const grace = 1_000_000

// sweep looks at the next n slots and frees those that have drained.
func (sh *shard) sweep(now int64, n int) {
	for range min(n, len(sh.slots)) {
		if sh.hand >= len(sh.slots) {
			sh.hand = 0
		}
		if s := &sh.slots[sh.hand]; s.limit != nil && now >= s.state.Until+grace {
			sh.remove(int32(sh.hand))
		}
		sh.hand++
	}
}
