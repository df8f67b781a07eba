package graphqlcost

import (
	"crypto/sha256"
	"strings"
	"sync"
	"sync/atomic"
)

// A cache keeps the plans of documents that have been met, and the errors of
// those that have none, up to about a number of bytes. Its keys are digests, so
// that nobody can make two documents share a plan. What was met again since the
// clock's hand last passed it stays: documents that are sent once, however many,
// do not drive out those that are in use.
type cache struct {
	most int

	mu    sync.RWMutex
	bytes int
	all   map[planKey]*planEntry
	ring  []*planEntry
	hand  int
}

// A planKey is a document's digest and the name of one of its operations.
type planKey struct {
	digest [sha256.Size]byte
	name   string
}

type planEntry struct {
	key   planKey
	plan  *plan
	err   error
	bytes int
	met   atomic.Bool
}

// digest returns the SHA-256 of a text.
func digest(text string) [sha256.Size]byte {
	room := copies.Get().(*[]byte)
	*room = append((*room)[:0], text...)
	sum := sha256.Sum256(*room)
	copies.Put(room)
	return sum
}

// copies are buffers for digests.
var copies = sync.Pool{New: func() any { return new([]byte) }}

func newCache(bytes int) *cache {
	return &cache{most: bytes, all: make(map[planKey]*planEntry)}
}

// get returns the entry of a key, or nil.
func (c *cache) get(key planKey) *planEntry {
	c.mu.RLock()
	e := c.all[key]
	c.mu.RUnlock()
	if e != nil && !e.met.Load() {
		e.met.Store(true)
	}
	return e
}

// put keeps an entry, unless it alone would take much of the room there is.
func (c *cache) put(key planKey, p *plan, err error) {
	if c.most == 0 {
		return
	}
	key.name = strings.Clone(key.name) // it may be a part of the request
	e := &planEntry{key: key, plan: p, err: err, bytes: 512 + len(key.name)}
	if p != nil {
		e.bytes += p.bytes
	} else {
		e.bytes += 2 * len(err.Error())
	}
	if e.bytes > c.most/8 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[key] != nil {
		return
	}
	c.makeRoom(e.bytes)
	c.all[key] = e
	c.ring = append(c.ring, e)
	c.bytes += e.bytes
}

// makeRoom removes entries that were not met lately. The hand goes round at most
// twice: the first time around may only mark.
func (c *cache) makeRoom(bytes int) {
	for c.bytes+bytes > c.most {
		if c.hand >= len(c.ring) {
			c.hand = 0
		}
		e := c.ring[c.hand]
		if e.met.Swap(false) {
			c.hand++
			continue
		}
		delete(c.all, e.key)
		c.bytes -= e.bytes
		last := len(c.ring) - 1
		c.ring[c.hand], c.ring[last] = c.ring[last], nil
		c.ring = c.ring[:last]
	}
}
