package middleware

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-go/stint/policy"
)

// A breaker decides whether a node of the store is asked. It is stint's own, since
// breakers in general know neither of the things that matter here: whether somebody
// else had an answer while a call failed, which tells a lost node from a slow moment,
// and whether other requests will come, so that nobody need wait for a probe. While
// it is closed it has no lock, and answers cost it one atomic store.
//
// It opens when a call fails that took long, if no answer of the node came since that
// call began; a few calls that fail at once are as good. Then requests are turned
// away, but for a probe now and then: a Take as any other. The first answer closes it.
type breaker struct {
	node string

	heard   atomic.Int64 // when the last answer came
	strikes atomic.Int32 // failures since
	open    atomic.Bool

	mu     sync.Mutex
	opened time.Duration // when it did last
	next   time.Duration // when the next probe is due
	wait   time.Duration // between probes
	asked  time.Duration // when it was asked last
	since  time.Time
	err    error
	of     policy.Charge // one that the node decided about when it failed
}

const (
	// maxStrikes opens the breaker. A call that took long is as many at once.
	maxStrikes = 5

	// firstProbe is how long the first probe waits, and so how long a single hiccup
	// is felt. Each waits twice as long as the one before. The longest wait leaves
	// room for two probes within a second of the fault's end: one may be unlucky.
	firstProbe = 25 * time.Millisecond
	lastProbe  = 400 * time.Millisecond

	// busy is how recent the last request must be for others to be expected soon.
	busy = time.Second
)

// An admission is what a breaker says to a request.
type admission uint8

const (
	asks    admission = iota // as any other
	turned                   // away
	probes                   // it is a probe, and waits for the answer
	behind                   // a probe is due, and nobody need wait for it
	unasked                  // it has not been decided yet
)

// admit decides whether a request may ask the node. A breaker that is open lets a
// probe through when one is due. Where requests are frequent nobody waits for it.
func (b *breaker) admit(now time.Duration) admission {
	if !b.open.Load() {
		return asks
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	frequent := now-b.asked < busy
	b.asked = now
	switch {
	case !b.open.Load():
		return asks
	case now < b.next:
		return turned
	}
	// Another one is due if nothing is heard of this one.
	b.next = now + lastProbe
	if frequent {
		return behind
	}
	return probes
}

// answered takes note of an answer. It is true if that closed the breaker.
func (b *breaker) answered(now time.Duration) (closed bool) {
	b.heard.Store(int64(now))
	if b.strikes.Load() == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.strikes.Store(0)
	closed = b.open.Load()
	b.open.Store(false)
	b.err, b.of = nil, policy.Charge{}
	return closed
}

// failed takes note of a call that failed. It is true if that opened the breaker.
func (b *breaker) failed(began, now time.Duration, slow bool, err error, of *policy.Charge) (opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.open.Load():
		// What was under way when it opened fails of the same fault, and is no probe.
		if began >= b.opened {
			b.err = err
			b.wait = min(2*b.wait, lastProbe)
			b.next = began + jittered(b.wait)
		}
		return false
	case b.heard.Load() > int64(began):
		return false // others had answers meanwhile
	}
	n := int32(1)
	if slow {
		n = maxStrikes
	}
	if b.strikes.Add(n) < maxStrikes {
		return false
	}
	b.since, b.err, b.of = time.Now(), err, *of
	b.opened, b.asked = now, now
	b.wait, b.next = firstProbe, now+jittered(firstProbe)
	b.open.Store(true)
	return true
}

// replaced tells whether the node of an open breaker has lost to another one what it
// had when it failed.
func (b *breaker) replaced(nodes policy.Nodes) bool {
	if b.node == "" || !b.open.Load() {
		return false
	}
	b.mu.Lock()
	of := b.of
	b.mu.Unlock()
	heir := nodes.Node(&of)
	return heir != "" && heir != b.node
}

// forgotten closes the breaker. It is true if that closed it.
func (b *breaker) forgotten() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open.Load() {
		return false
	}
	b.strikes.Store(0)
	b.open.Store(false)
	b.err, b.of = nil, policy.Charge{}
	return true
}

// failure tells since when the breaker is open, and why; zeros if it is not.
func (b *breaker) failure() (since time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open.Load() {
		return time.Time{}, nil
	}
	return b.since, b.err
}

// jittered returns three quarters of a duration, or up to a quarter more.
func jittered(d time.Duration) time.Duration { return d - rand.N(d/4+1) }
