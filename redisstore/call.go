package redisstore

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-go/stint/policy"
)

// The kinds of a call and the statuses of its reply, as the script has them.
const (
	kindTake   = 1
	kindPeek   = 2
	kindSettle = 3
	kindReset  = 4

	kindUsage    = 6
	kindSetUsage = 7

	statusAllowed = 1
	statusQueued  = 2
	statusRefused = 3
	statusForeign = 5
	statusPeriods = 6
)

// A call is what one request asks of one partition: the unit that is decided
// all or none. Its caller fills it in and waits; the flight that carries it
// answers. Whoever changes its state first from pending has it: a caller that
// gives up leaves it to its flight, which gives back what it took.
type call struct {
	kind     int64
	items    []item
	route    *route // that it was planned for
	part     int    // which part of Redis decides it, by that route: a slot, a shard
	ticket   policy.Ticket
	deadline time.Time // when sending it, or sending it again, is pointless
	attempts int
	turns    int // how often it was sent again with other periods

	ticketIndex int64

	status  int64
	now     int64
	answers []answer
	err     error

	state atomic.Int32
	done  chan struct{}
}

// An item is one charge of a call, or several on one state.
type item struct {
	tag        string // hash tag of its keys
	value, log string // keys; log is empty but for a sliding log
	first      int    // the charge whose numbers apply
	limit      limit
	units      int64
	period     policy.Period // of a quota
	total      int64         // of a settle, or the usage to set
	receipt    policy.Receipt

	valueIndex, logIndex, limitIndex int64
}

// A limit is a policy.Limit in the script's terms.
type limit struct {
	id, algorithm, counts, n, window, capacity int64

	periods *periods // of a quota
}

// An answer is what the script says of a charge.
type answer struct{ verdict, at, a, b, left int64 }

const (
	statePending int32 = iota
	stateDone
	stateAbandoned
)

// wait returns when the call is done, or leaves it when the context is. It
// reports whether the call is done, and so the caller's again.
func (c *call) wait(ctx context.Context) bool {
	select {
	case <-c.done:
		return true
	case <-ctx.Done():
		return c.leave()
	}
}

// leave leaves the call to its flight, unless it is done: then leave reports
// true, and the call is the caller's again.
func (c *call) leave() bool {
	if c.state.CompareAndSwap(statePending, stateAbandoned) {
		return false
	}
	<-c.done // sent by now, or about to be
	return true
}

func (c *call) abandoned() bool { return c.state.Load() == stateAbandoned }

// finish hands the call to its caller and reports whether there still is one.
// If so, the call is the flight's no more.
func (c *call) finish(err error) bool {
	c.err = err
	if !c.state.CompareAndSwap(statePending, stateDone) {
		return false
	}
	c.done <- struct{}{}
	return true
}

// tag returns the smallest hash tag of the call's items: the same for the same
// items in any order.
func (c *call) tag() string {
	tag := c.items[0].tag
	for i := range c.items {
		tag = min(tag, c.items[i].tag)
	}
	return tag
}

// refund returns the call that gives back all that this one took.
func (c *call) refund() *call {
	r := newCall()
	r.kind, r.route, r.part, r.ticket = kindSettle, c.route, c.part, c.ticket
	r.items = append(r.items, c.items...)
	for i := range r.items {
		r.items[i].total, r.items[i].receipt = 0, c.receipt(i)
	}
	return r
}

// result tells what the call's i-th answer says to a charge, given the verdict
// on its whole request.
func (c *call) result(i int, charge *policy.Charge, verdict policy.Verdict, take bool) policy.Result {
	a, units := c.answers[i], c.items[i].units
	s := policy.State{At: a.at, Until: a.at + a.left, A: a.a, B: a.b}
	switch {
	case c.items[i].log != "": // it comes by its numbers
		s.Until, s.B, s.C = math.MaxInt64, c.now+a.b, c.now+a.left
	case c.brief(i):
		s.Until = charge.Limit.DrainedAt(s)
	}
	taken := take && c.status == statusAllowed
	if !taken || verdict == policy.Allowed {
		return charge.Limit.Report(s, c.now, units, policy.Verdict(a.verdict), taken)
	}
	// Another partition refused, and what this one took is about to be undone.
	if c.items[i].log != "" {
		s.A -= units
		return charge.Limit.Report(s, c.now, 0, policy.Allowed, false)
	}
	_, r := charge.Limit.Settle(s, c.now, c.receipt(i), units, 0)
	return r
}

// brief reports whether the script says of the i-th item no more than its state:
// that it was taken goes without saying.
func (c *call) brief(i int) bool {
	return c.kind == kindTake && c.status == statusAllowed && (c.items[i].units > 0 || c.items[i].log != "")
}

// receipt tells where the i-th item of a take went.
func (c *call) receipt(i int) policy.Receipt {
	a := &c.answers[i]
	r := policy.Receipt{At: a.at}
	if c.items[i].limit.algorithm == int64(policy.AlgorithmTokenBucket) {
		r.A, r.B = a.a-c.items[i].units, a.b
	}
	if c.items[i].limit.periods != nil {
		_, next := c.items[i].period.Bounds(time.UnixMicro(a.b))
		r.A, r.B = next.UnixMicro(), a.b
	}
	return r
}

var callPool = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

func newCall() *call { return callPool.Get().(*call) }

// free returns the call to the pool. Only who has it may.
func (c *call) free() {
	clear(c.items)
	*c = call{items: c.items[:0], answers: c.answers[:0], done: c.done}
	callPool.Put(c)
}
