package middleware

import (
	"context"
	"math/bits"
	"sync"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// NewLedger returns a context for a request of its own that is made in the
// course of another: a call of an internal router, one message of a WebSocket,
// one part of a batch. Limiters start afresh under it. What the outer request
// took does not count for it, and is not given back when it is refused.
//
// Under the context of a request that a Limiter has handled, without NewLedger,
// limiters take part in that request: see the package's documentation.
func NewLedger(ctx context.Context) context.Context { return newLedger(ctx) }

// A ledger is what limiters have taken for one request. It is the request's
// context, which saves a second allocation, and so may outlive the request.
type ledger struct {
	context.Context

	mu    sync.Mutex
	owned bool   // a Limiter's handler is running, and settles when it returns
	dirty bool   // a cost was set
	takes []take // in the order of the limiters

	oneTake  [1]take
	oneEntry [1]entry
}

// A take is what one limiter took, by one Take of its store. It has no entries
// if that was nothing.
type take struct {
	limiter *Limiter
	ticket  policy.Ticket
	now     int64 // of the decision, in microseconds since 1970
	settled bool  // a ticket settles once
	entries []entry
}

// An entry is a charge that was taken, and how its limit stood then.
type entry struct {
	rule           *rule
	limit          *policy.Limit
	key, partition string
	units          int64
	total          int64 // what it should have taken, by SetCost
	result         policy.Result
}

var ledgerKey any = new(byte)

func newLedger(ctx context.Context) *ledger { return &ledger{Context: ctx} }

// ledgerOf returns the ledger that a context leads to, or nil.
func ledgerOf(ctx context.Context) *ledger {
	led, _ := ctx.Value(ledgerKey).(*ledger)
	return led
}

// Value makes the ledger a context that leads to itself.
func (led *ledger) Value(key any) any {
	if key == ledgerKey {
		return led
	}
	return led.Context.Value(key)
}

// String keeps the keys out of logs that print contexts.
func (led *ledger) String() string { return "ratelimit.ledger" }

// has tells whether the charge was taken already.
func (led *ledger) has(store policy.Store, c *policy.Charge) bool {
	led.mu.Lock()
	defer led.mu.Unlock()
	for i := range led.takes {
		t := &led.takes[i]
		if t.limiter.store != store {
			continue
		}
		for j := range t.entries {
			if d := t.entries[j].charge(); d.Limit == c.Limit && d.SameState(c) {
				return true
			}
		}
	}
	return false
}

// open returns the ledger of a request that has none yet, with what a pass took,
// owned by the caller. Nobody else knows it, so that nothing is locked.
func open(ctx context.Context, p *pass) *ledger {
	led := newLedger(ctx)
	led.owned = true
	led.takes = append(led.oneTake[:0], p.taken(led.oneEntry[:0]))
	return led
}

// record keeps what a pass took.
func (led *ledger) record(p *pass) {
	t := p.taken(nil)
	led.mu.Lock()
	defer led.mu.Unlock()
	led.takes = append(led.takes, t)
}

// tell reports how the request stands with what was taken.
func (led *ledger) tell(r *respond.Report) {
	led.mu.Lock()
	defer led.mu.Unlock()
	for i := range led.takes {
		led.takes[i].tell(r)
	}
}

func (t *take) tell(r *respond.Report) {
	if len(t.entries) > 0 {
		r.Now = time.UnixMicro(t.now)
	}
	for i := range t.entries {
		e := &t.entries[i]
		r.Standings = append(r.Standings, e.rule.standing(e.limit, &e.result))
	}
}

// giveBack gives back all that was taken, and reports how the request stands
// then. Nothing is left in the ledger, so that a limiter that is met once more
// counts once more.
func (led *ledger) giveBack(r *respond.Report) {
	led.mu.Lock()
	takes := led.takes
	led.takes = nil
	led.mu.Unlock()
	for i := range takes {
		t := &takes[i]
		if !t.settled && t.giveBack(led.Context) {
			for j := range t.entries {
				t.entries[j].giveBack()
			}
		}
		t.tell(r)
	}
}

// own makes the caller the one who settles; it is false if another is.
func (led *ledger) own() bool {
	led.mu.Lock()
	defer led.mu.Unlock()
	owned := led.owned
	led.owned = true
	return !owned
}

// disown settles the costs that were set, when the handler has returned.
func (led *ledger) disown() {
	led.mu.Lock()
	led.owned = false
	dirty := led.dirty
	led.mu.Unlock()
	if dirty {
		led.settle()
	}
}

// settle sends the costs that were set and are not sent yet.
func (led *ledger) settle() {
	for t, ok := led.unsettled(); ok; t, ok = led.unsettled() {
		t.settle(led.Context)
	}
}

// unsettled picks a take with a changed cost and marks it as settled. It
// returns a copy, so that the store is called without the lock.
func (led *ledger) unsettled() (take, bool) {
	led.mu.Lock()
	defer led.mu.Unlock()
	for i := range led.takes {
		t := &led.takes[i]
		if t.settled {
			continue
		}
		for j := range t.entries {
			if t.entries[j].total != t.entries[j].units {
				t.settled = true
				c := *t
				c.entries = append([]entry(nil), t.entries...)
				return c, true
			}
		}
	}
	return take{}, false
}

// giveBack gives back all that was taken, and tells whether the store agreed.
func (t *take) giveBack(ctx context.Context) bool {
	for i := range t.entries {
		t.entries[i].total = 0
	}
	return t.settle(ctx)
}

// settle corrects what was taken to the totals, and tells whether the store
// agreed.
func (t *take) settle(ctx context.Context) bool {
	settlements := make([]policy.Settlement, 0, len(t.entries))
	for i := range t.entries {
		if e := &t.entries[i]; e.total != e.units {
			settlements = append(settlements, policy.Settlement{Charge: e.charge(), Receipt: e.result.Receipt, Total: e.total})
		}
	}
	if len(settlements) == 0 {
		return true
	}
	ctx, cancel := t.limiter.bounded(ctx)
	err := t.limiter.store.Settle(ctx, t.ticket, settlements)
	cancel()
	if err != nil {
		t.limiter.emit(Event{Kind: SettleFailed, Err: err})
	}
	return err == nil
}

func (e *entry) charge() policy.Charge {
	return policy.Charge{Limit: *e.limit, Scope: e.rule.scope, Key: e.key, Partition: e.partition, Units: e.units}
}

// giveBack corrects the result for units that were given back. The store is not
// asked again.
func (e *entry) giveBack() {
	r, units := &e.result, e.units
	r.Used = max(0, r.Used-units)
	r.Remaining = max(0, r.Capacity-r.Used)
	switch {
	case r.Used == 0:
		r.ResetAfter, r.NextAfter = 0, 0
	case e.limit.Algorithm() == policy.AlgorithmTokenBucket:
		r.ResetAfter = max(0, r.ResetAfter-refill(*e.limit, units))
	}
}

// refill returns how long a bucket takes for the units.
func refill(l policy.Limit, units int64) time.Duration {
	hi, lo := bits.Mul64(uint64(units), uint64(l.Window()))
	if hi >= uint64(l.N()) {
		return 1<<63 - 1
	}
	q, _ := bits.Div64(hi, lo, uint64(l.N()))
	return time.Duration(min(q, 1<<63-1))
}
