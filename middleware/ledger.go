package middleware

import (
	"context"
	"net/http"
	"sync"

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
func NewLedger(ctx context.Context) context.Context { return &ledger{Context: ctx} }

// Hold keeps what a request took open beyond the return of its handler, until
// release is called: for work that goes on in the background, or on a hijacked
// connection. Costs can be set until then. To call release again does nothing.
//
// Call Hold in the handler, with the context of its request, or with one of
// [NewLedger]. With another context there is nothing to keep.
func Hold(ctx context.Context) (release func()) {
	led := ledgerOf(ctx)
	if led == nil || !led.hold() {
		return func() {}
	}
	return sync.OnceFunc(led.release)
}

// A ledger is what limiters have taken for one request. It is the request's
// context, which saves an allocation, and so may outlive the request.
type ledger struct {
	context.Context

	mu    sync.Mutex
	holds int32 // handlers under way, and Holds: the last one settles
	over  bool  // the last one has
	stale bool  // costs were set since the header fields were written
	apart bool  // there was a Hold: SetCost leaves the fields alone
	word  word  // what the handler has said of the request
	first *pass // what was taken, in the order of the limiters

	lost chan struct{} // closed when a slot was lost; nil if nobody asked
}

var ledgerKey any = new(byte)

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

// open returns the request with a ledger of what a pass took, held for the
// caller, who alone knows it yet. Request and ledger are one allocation.
func open(r *http.Request, p *pass) (*http.Request, *ledger) {
	opened := new(struct {
		request http.Request
		ledger  ledger
	})
	led := &opened.ledger
	led.Context, led.holds, led.first = r.Context(), 1, p
	opened.request = *r.WithContext(led)
	for ; p != nil; p = p.next {
		p.lease(led)
	}
	return &opened.request, led
}

// record keeps what a pass took. From then on the pass is the ledger's.
func (led *ledger) record(p *pass) {
	led.mu.Lock()
	defer led.mu.Unlock()
	last := &led.first
	for *last != nil {
		last = &(*last).next
	}
	*last = p
	for ; p != nil && led.holds > 0; p = p.next {
		p.lease(led)
	}
}

// has tells whether the charge was taken already.
func (led *ledger) has(store policy.Store, c *policy.Charge) bool {
	led.mu.Lock()
	defer led.mu.Unlock()
	for p := led.first; p != nil; p = p.next {
		if p.decided && p.limiter.store == store && p.took(c) {
			return true
		}
	}
	return false
}

// queues tells whether what was taken has a queue.
func (led *ledger) queues() bool {
	led.mu.Lock()
	defer led.mu.Unlock()
	for p := led.first; p != nil; p = p.next {
		for i := range p.charges {
			if length, _ := p.charges[i].Limit.Queue(); length > 0 && p.decided {
				return true
			}
		}
	}
	return false
}

// tell reports how the request stands with what was taken.
func (led *ledger) tell(r *respond.Report) {
	led.mu.Lock()
	defer led.mu.Unlock()
	for p := led.first; p != nil; p = p.next {
		p.tellOwn(r)
	}
}

// giveBack gives back all that was taken, and reports how the request stands
// then. Nothing is left in the ledger, so that a limiter that is met once more
// counts once more.
func (led *ledger) giveBack(r *respond.Report) {
	led.mu.Lock()
	p := led.first
	led.first = nil
	led.mu.Unlock()
	for p != nil {
		next := p.next
		p.unlease()
		if p.giveBack(led.Context) {
			p.giveBackResults()
		}
		p.tellOwn(r)
		p.free()
		p = next
	}
}

// held tells whether somebody will settle.
func (led *ledger) held() bool {
	led.mu.Lock()
	defer led.mu.Unlock()
	return led.holds > 0
}

// hold counts one more who holds the ledger open. It is false if it is over.
func (led *ledger) hold() bool {
	led.mu.Lock()
	defer led.mu.Unlock()
	if led.over {
		return false
	}
	led.keep()
	led.apart = true
	return true
}

// enter is hold for a handler: it opens what nobody holds, and tells whether nobody
// did.
func (led *ledger) enter() (first bool) {
	led.mu.Lock()
	defer led.mu.Unlock()
	led.keep()
	led.over = false
	return led.holds == 1
}

// keep counts one more who will settle, and has the slots renewed that were taken
// while there was nobody. It is called with the lock.
func (led *ledger) keep() {
	led.holds++
	for p := led.first; p != nil && led.holds == 1; p = p.next {
		p.lease(led)
	}
}

// end is release for the handler whose response it is.
func (led *ledger) end(header http.Header) {
	led.mu.Lock()
	if !led.stale {
		led.releaseLocked()
		return
	}
	led.mu.Unlock()
	defer led.release() // whatever a FieldWriter does
	led.writeFields(header)
}

// release settles, after the last handler and the last Hold.
func (led *ledger) release() {
	led.mu.Lock()
	led.releaseLocked()
}

// releaseLocked is release for who has the lock, which it unlocks.
func (led *ledger) releaseLocked() {
	led.holds--
	if led.holds > 0 {
		led.mu.Unlock()
		return
	}
	p, w := led.first, led.word
	led.first, led.over, led.stale, led.apart, led.word = nil, true, false, false, 0
	led.mu.Unlock()
	for p != nil {
		next := p.next
		p.heed(w)
		p.settle(led.Context)
		p.free()
		p = next
	}
}

// settle sends the costs that were set and are not sent yet.
func (led *ledger) settle() {
	for {
		limiter, ticket, settlements := led.unsettled()
		if limiter == nil {
			return
		}
		limiter.settle(led.Context, ticket, settlements)
	}
}

// unsettled picks what to settle of one pass, and marks it as settled: a ticket
// settles once. The store is called without the lock.
func (led *ledger) unsettled() (*Limiter, policy.Ticket, []policy.Settlement) {
	led.mu.Lock()
	defer led.mu.Unlock()
	for p := led.first; p != nil; p = p.next {
		if p.totals != nil && !p.settled {
			p.settled = true
			return p.limiter, p.ticket, p.settlements(true, false, false)
		}
	}
	return nil, policy.Ticket{}, nil
}

// judge settles the tries of lock-outs by the handler's word, where nobody else will.
// Costs may be settled before or after.
func (led *ledger) judge(w word) {
	for {
		limiter, settlements, forgiven := led.unjudged(w)
		if limiter == nil {
			return
		}
		limiter.settle(led.Context, policy.NewTicket(), settlements)
		limiter.forgive(led.Context, forgiven)
	}
}

// unjudged is unsettled for tries, and what a success forgives.
func (led *ledger) unjudged(w word) (*Limiter, []policy.Settlement, []policy.Charge) {
	led.mu.Lock()
	defer led.mu.Unlock()
	for p := led.first; p != nil; p = p.next {
		if p.lockouts && p.decided && !p.judged {
			p.heed(w)
			p.judged = true
			return p.limiter, p.settlements(false, true, false), p.forgiven()
		}
	}
	return nil, nil, nil
}

// settle sends corrections, and tells whether the store agreed.
func (l *Limiter) settle(ctx context.Context, ticket policy.Ticket, settlements []policy.Settlement) bool {
	if len(settlements) == 0 {
		return true
	}
	for i := range settlements {
		if !l.health.mayWait(l, &settlements[i].Charge) {
			l.health.errand(func() { l.settleNow(ctx, ticket, settlements) })
			return false
		}
	}
	return l.settleNow(ctx, ticket, settlements)
}

func (l *Limiter) settleNow(ctx context.Context, ticket policy.Ticket, settlements []policy.Settlement) bool {
	ctx, cancel := l.bounded(ctx)
	err := l.store.Settle(ctx, ticket, settlements)
	cancel()
	if err != nil {
		l.emit(Event{Kind: SettleFailed, Err: err})
	}
	return err == nil
}
