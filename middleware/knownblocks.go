package middleware

import (
	"sync"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// knownBlocks remembers which keys a store has said to be blocked: for a second, in
// which their requests are refused without asking it again. There is no such memory
// for a store in memory, nor for one that is no [policy.Clock].
type knownBlocks struct {
	clock policy.Clock

	mu     sync.Mutex
	blocks map[blockedKey]knownBlock
}

type blockedKey struct {
	id         uint64
	key, place string
}

type knownBlock struct {
	result policy.Result
	seen   time.Time // by the store's clock
}

const (
	blockKnown     = time.Second
	maxKnownBlocks = 10_000
	maxKnownKey    = 256 // bytes: whoever is blocked has chosen them
)

func newKnownBlocks(store policy.Store, inMemory bool) *knownBlocks {
	clock, ok := store.(policy.Clock)
	if inMemory || !ok {
		return nil
	}
	return &knownBlocks{clock: clock}
}

// get returns how a charge stands if it is known to be blocked, and as of when.
func (b *knownBlocks) get(c *policy.Charge) (r policy.Result, now time.Time, ok bool) {
	k := blockedKey{c.ID(), c.Key, c.Place()}
	b.mu.Lock()
	known, ok := b.blocks[k]
	b.mu.Unlock()
	if !ok || c.Units > c.Limit.Capacity() {
		return policy.Result{}, time.Time{}, false
	}
	now = b.clock.Now()
	passed := now.Sub(known.seen)
	r = known.result
	r.RetryAfter, r.ResetAfter, r.NextAfter = r.RetryAfter-passed, r.ResetAfter-passed, r.NextAfter-passed
	return r, now, passed.Abs() < blockKnown && r.RetryAfter > 0 && r.Limit == c.Limit.N()
}

func (b *knownBlocks) put(c *policy.Charge, r policy.Result, now time.Time) {
	if len(c.Key)+len(c.Partition) > maxKnownKey {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.blocks == nil || len(b.blocks) >= maxKnownBlocks {
		b.blocks = map[blockedKey]knownBlock{}
	}
	b.blocks[blockedKey{c.ID(), c.Key, c.Place()}] = knownBlock{r, now}
}

func (b *knownBlocks) forget(charges []policy.Charge) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range charges {
		c := &charges[i]
		delete(b.blocks, blockedKey{c.ID(), c.Key, c.Place()})
	}
}

// knownBlocked refuses a request of which a key is known to be blocked. It tells of
// such blocks alone.
func (p *pass) knownBlocked() bool {
	if !p.lockouts || p.limiter.blocks == nil {
		return false
	}
	n, d := 0, &p.decision
	d.Reset(0)
	for i, r := range p.rules {
		if !r.lockout {
			continue
		}
		result, now, ok := p.limiter.blocks.get(&p.charges[i])
		if !ok {
			continue
		}
		p.charges[n], p.rules[n] = p.charges[i], r
		p.setParts(n, p.partsOf(i))
		d.Verdict, d.Now, d.Results = policy.Refused, now, append(d.Results, result)
		n++
	}
	if n == 0 {
		return false
	}
	p.charges, p.rules = p.charges[:n], p.rules[:n]
	p.decided, p.reason, p.rule = true, respond.Blocked, p.rules[d.Binding()]
	return true
}

// learnBlocks remembers the blocks that a decision tells of.
func (p *pass) learnBlocks() {
	if !p.lockouts || p.limiter.blocks == nil {
		return
	}
	for i := range p.decision.Results {
		if r := &p.decision.Results[i]; r.Blocked && r.Verdict == policy.Refused {
			p.limiter.blocks.put(&p.charges[i], *r, p.decision.Now)
		}
	}
}
