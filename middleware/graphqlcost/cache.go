package graphqlcost

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

// A cache keeps the plans of documents that have been met, and the errors of
// those that have none, up to about a number of bytes. It keeps their texts too,
// and compares them, so that nobody can make two documents share a plan. What was
// met again since the clock's hand last passed it stays: documents that are sent
// once, however many, do not drive out those that are in use.
type cache struct {
	most int
	seed maphash.Seed

	mu      sync.RWMutex
	bytes   int
	texts   map[uint64]*planEntry // by the hash of the text and the name
	digests map[uint64]*planEntry // by the hash of the digest and the name
	ring    []*planEntry
	hand    int
}

// A digest is the SHA-256 of a document.
type digest [sha256.Size]byte

// A planEntry is what came of one operation of a document. The hashes are only
// where it is found: what it is of is compared.
type planEntry struct {
	text, name     string
	digest         digest
	byText, byHash uint64
	plan           *plan
	err            error
	bytes          int
	met            atomic.Bool
}

// digestOf returns the SHA-256 of a text.
func digestOf(text string) digest {
	room := copies.Get().(*[]byte)
	*room = append((*room)[:0], text...)
	sum := sha256.Sum256(*room)
	copies.Put(room)
	return sum
}

// copies are buffers for digests.
var copies = sync.Pool{New: func() any { return new([]byte) }}

// digestIn reads a digest in hexadecimal.
func digestIn(text string) (sum digest, ok bool) {
	if len(text) != hex.EncodedLen(len(sum)) {
		return sum, false
	}
	_, err := hex.Decode(sum[:], []byte(text))
	return sum, err == nil
}

func newCache(bytes int) *cache {
	return &cache{
		most: bytes, seed: maphash.MakeSeed(),
		texts: make(map[uint64]*planEntry), digests: make(map[uint64]*planEntry),
	}
}

// hashOfText returns where the entry of a text is. The seed is the cache's own, so
// that nobody can choose it.
func (c *cache) hashOfText(text, name string) uint64 {
	return maphash.String(c.seed, text) ^ 3*maphash.String(c.seed, name)
}

// hashOfDigest returns where the entry of a digest is.
func (c *cache) hashOfDigest(sum *digest, name string) uint64 {
	return maphash.Bytes(c.seed, sum[:]) ^ 3*maphash.String(c.seed, name)
}

// get returns the entry of a text, or nil.
func (c *cache) get(text, name string) *planEntry {
	if c.most == 0 {
		return nil
	}
	hash := c.hashOfText(text, name)
	c.mu.RLock()
	e := c.texts[hash]
	c.mu.RUnlock()
	if e == nil || e.name != name || e.text != text {
		return nil
	}
	return e.meet()
}

// getByDigest returns the entry of the text with a digest, or nil.
func (c *cache) getByDigest(sum *digest, name string) *planEntry {
	hash := c.hashOfDigest(sum, name)
	c.mu.RLock()
	e := c.digests[hash]
	c.mu.RUnlock()
	if e == nil || e.name != name || e.digest != *sum {
		return nil
	}
	return e.meet()
}

func (e *planEntry) meet() *planEntry {
	if !e.met.Load() {
		e.met.Store(true)
	}
	return e
}

// put keeps an entry, unless it alone would take much of the room there is. It
// keeps the text as it is, of which the plan holds parts.
func (c *cache) put(text, name string, p *plan, err error) {
	e := &planEntry{text: text, plan: p, err: err, bytes: 512 + len(name) + len(text)}
	if p != nil {
		e.bytes += p.bytes
	} else {
		e.bytes += 2 * len(err.Error())
	}
	if e.bytes > c.most/8 {
		return
	}
	e.name, e.digest = strings.Clone(name), digestOf(text) // the name may be a part of the request
	e.byText, e.byHash = c.hashOfText(text, name), c.hashOfDigest(&e.digest, name)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.texts[e.byText] != nil || c.digests[e.byHash] != nil {
		return // it came meanwhile
	}
	c.makeRoom(e.bytes)
	c.texts[e.byText], c.digests[e.byHash] = e, e
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
		delete(c.texts, e.byText)
		delete(c.digests, e.byHash)
		c.bytes -= e.bytes
		last := len(c.ring) - 1
		c.ring[c.hand], c.ring[last] = c.ring[last], nil
		c.ring = c.ring[:last]
	}
}
