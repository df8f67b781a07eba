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
	kindRenew  = 5

	kindUsage    = 6
	kindSetUsage = 7

	statusAllowed = 1
	statusQueued  = 2
	statusRefused = 3
	statusForeign = 5
	statusPeriods = 6
	statusLeases  = 7
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
	yields   bool      // nobody's request waits for it: others go first
	attempts int
	turns    int  // how often it was sent again with other periods
	keyed    bool // it was asked for the keys of leases

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
	tag     string // hash tag of its keys
	key     string // of the charge
	value   string // the key of its state
	list    string // the key of a log's entries or of slots' leases, if the call needs one
	first   int    // the charge whose numbers apply
	limit   limit
	units   int64
	total   int64 // of a settle
	receipt policy.Receipt
	period  policy.Period // of a quota
	ticket  policy.Ticket // of a renewal: others have their call's

	valueIndex, listIndex, limitIndex int64
}

// fewLeases is how many leases of a limit its value holds itself, as the script has it.
const fewLeases = 16

// needsList reports whether an item needs the key of its list. Takes and peeks of few
// slots without a queue are spared it, unless the script asks for it: as where the limit
// was larger, and has still more leases than the value holds.
func (c *call) needsList(it *item) bool {
	few := it.limit.n <= fewLeases && it.limit.capacity == 0 && c.kind <= kindPeek
	return it.log() || it.slots() && (c.keyed || !few)
}

func (it *item) log() bool   { return it.limit.algorithm == int64(policy.AlgorithmSlidingLog) }
func (it *item) slots() bool { return it.limit.algorithm == int64(policy.AlgorithmConcurrency) }

// A limit is a policy.Limit in the script's terms: those of slots have their lease
// for a window, and the length of their queue for a capacity.
type limit struct {
	id, algorithm, counts, n, window, capacity int64

	most int64 // the capacity of the whole limit, if it is reduced

	periods *periods // of a quota
	blocks  *blocks  // of a lock-out
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

// took reports whether the call is a take that went through: what it asked for is
// held, be it behind a place in a queue.
func (c *call) took() bool {
	return c.kind == kindTake && (c.status == statusAllowed || c.status == statusQueued)
}

// corrects reports whether a settle is about units, which it corrects once a
// ticket, and not of slots alone.
func (c *call) corrects() bool {
	for i := range c.items {
		if !c.items[i].slots() {
			return true
		}
	}
	return false
}

// refund returns the call that gives back all that this one took.
func (c *call) refund() *call {
	r := newCall()
	r.kind, r.route, r.part, r.ticket, r.yields = kindSettle, c.route, c.part, c.ticket, true
	r.items = append(r.items, c.items...)
	for i := range r.items {
		r.items[i].total, r.items[i].receipt = 0, c.receipt(i)
	}
	return r
}

// vacate returns the call that frees the slots of a take of which nothing is
// known, or nil if it asked for none. A ticket leaves a slot as often as you like,
// and one that it does not have: of units nothing like that is true.
func (c *call) vacate() *call {
	if c.kind != kindTake {
		return nil
	}
	var r *call
	for i := range c.items {
		if it := &c.items[i]; it.slots() && it.units > 0 {
			if r == nil {
				r = newCall()
				r.kind, r.route, r.part, r.ticket, r.yields = kindSettle, c.route, c.part, c.ticket, true
			}
			r.items = append(r.items, *it)
		}
	}
	return r
}

// result tells what the call's i-th answer says to a charge, given the verdict
// on its whole request.
func (c *call) result(i int, charge *policy.Charge, verdict policy.Verdict, take bool) policy.Result {
	a, it := c.answers[i], &c.items[i]
	units, taken := it.units, take && c.took()
	if it.slots() {
		return c.slotResult(i, charge, taken && units > 0, verdict)
	}
	s := policy.State{At: a.at, Until: a.at + a.left, A: a.a, B: a.b}
	switch {
	case it.log(): // it comes by its numbers
		s.Until, s.B, s.C = math.MaxInt64, c.now+a.b, c.now+a.left
	case c.brief(i):
		s.Until = charge.Limit.DrainedAt(s)
	}
	if !taken || verdict != policy.Refused {
		return charge.Limit.Report(s, c.now, units, policy.Verdict(a.verdict), taken)
	}
	// Another partition refused, and what this one took is about to be undone.
	if it.log() {
		s.A -= units
		return charge.Limit.Report(s, c.now, 0, policy.Allowed, false)
	}
	_, r := charge.Limit.Settle(s, c.now, c.receipt(i), units, 0)
	return r
}

// slotResult is result for slots.
func (c *call) slotResult(i int, charge *policy.Charge, taken bool, verdict policy.Verdict) policy.Result {
	a := &c.answers[i]
	s := policy.State{At: a.at, A: a.a, C: a.b}
	if taken && verdict == policy.Refused { // elsewhere, and it is about to be undone
		if policy.Verdict(a.verdict) == policy.Queued {
			s.C--
		} else {
			s.A--
		}
		taken = false
	}
	return charge.Limit.Report(s, c.now, c.items[i].units, policy.Verdict(a.verdict), taken)
}

// brief reports whether the script says of the i-th item no more than its state:
// that it was taken goes without saying.
func (c *call) brief(i int) bool {
	return c.took() && (c.items[i].units > 0 || c.items[i].log() || c.items[i].slots())
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
	if clear(c.items); cap(c.items) > policy.MaxCharges { // many renewals
		c.items = nil
	}
	*c = call{items: c.items[:0], answers: c.answers[:0], done: c.done}
	callPool.Put(c)
}
