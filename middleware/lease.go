package middleware

import (
	"context"
	"sync"
	"time"

	"github.com/stint-go/stint/policy"
)

// Lost returns a channel that is closed when the store says that the request has
// lost a slot that it holds, as after the store was emptied, or was out of reach
// for longer than a lease: others may have the slot since. What to do then is the
// handler's choice; the request goes on. There is an event, too.
//
// The context is that of a request that a Limiter has handled. With any other the
// channel is nil, on which nothing is ever received.
func Lost(ctx context.Context) <-chan struct{} {
	led := ledgerOf(ctx)
	if led == nil {
		return nil
	}
	led.mu.Lock()
	defer led.mu.Unlock()
	return led.losing()
}

// losing returns the channel of Lost. It is called with the lock.
func (led *ledger) losing() chan struct{} {
	if led.lost == nil {
		led.lost = make(chan struct{})
	}
	return led.lost
}

// lose tells who asked for Lost, and who will.
func (led *ledger) lose() {
	led.mu.Lock()
	defer led.mu.Unlock()
	lost := led.losing()
	select {
	case <-lost:
	default:
		close(lost)
	}
}

// A lease is a slot that a request holds.
type lease struct {
	ticket  policy.Ticket
	charge  policy.Charge
	limiter *Limiter
	rule    *rule
	ledger  *ledger
	taken   time.Time
	renewed time.Time
}

// leases renews the slots that the requests of a Limiter hold: those of one length
// together, on one timer, however many there are. There is no timer while nobody
// holds a slot.
type leases struct {
	store policy.Store

	mu      sync.Mutex
	lengths map[time.Duration]*leasesOfLength
	renewal sync.WaitGroup // renewals under way
	closed  bool
}

type leasesOfLength struct {
	of     *leases
	length time.Duration
	held   map[*lease]struct{}
	timer  *time.Timer
	armed  bool
}

// A lease is renewed when half of it is over. Six times in a lease is looked whose
// turn it is: two thirds are over at most then, and a store that is away for a
// moment is asked again.
const (
	renewAt   = 2
	lookEvery = 6
)

func (ls *leases) add(l *lease) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		return
	}
	length := l.charge.Limit.Lease()
	of := ls.lengths[length]
	if of == nil {
		of = &leasesOfLength{of: ls, length: length, held: map[*lease]struct{}{}}
		if ls.lengths == nil {
			ls.lengths = map[time.Duration]*leasesOfLength{}
		}
		ls.lengths[length] = of
	}
	of.held[l] = struct{}{}
	of.arm()
}

// remove forgets a lease that is about to be settled.
func (ls *leases) remove(l *lease) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	of := ls.lengths[l.charge.Limit.Lease()]
	if of == nil {
		return
	}
	delete(of.held, l)
	if len(of.held) == 0 && of.armed && of.timer.Stop() {
		of.armed = false
	}
}

// close ends the renewals: what is still held comes free in a lease.
func (ls *leases) close() {
	ls.mu.Lock()
	ls.closed = true
	for _, of := range ls.lengths {
		if of.armed && of.timer.Stop() {
			of.armed = false
		}
	}
	ls.mu.Unlock()
	ls.renewal.Wait()
}

// arm sets the timer, unless it is set. It is called with the lock.
func (of *leasesOfLength) arm() {
	if of.armed {
		return
	}
	of.armed = true
	if of.timer == nil {
		of.timer = time.AfterFunc(of.length/lookEvery, of.renew)
	} else {
		of.timer.Reset(of.length / lookEvery)
	}
}

// renew renews the leases whose turn it is.
func (of *leasesOfLength) renew() {
	ls := of.of
	ls.mu.Lock()
	of.armed = false
	if ls.closed || len(of.held) == 0 {
		ls.mu.Unlock()
		return
	}
	ls.renewal.Add(1)
	defer ls.renewal.Done()
	of.arm()
	now := time.Now()
	var due []*lease
	for l := range of.held {
		if now.Sub(l.renewed) >= of.length/renewAt {
			due = append(due, l)
		}
	}
	ls.mu.Unlock()
	if len(due) == 0 {
		return
	}

	renewals := make([]policy.Renewal, len(due))
	for i, l := range due {
		renewals[i] = policy.Renewal{Ticket: l.ticket, Charge: l.charge}
	}
	ctx, cancel := context.WithTimeout(context.Background(), of.length/lookEvery)
	err := ls.store.Renew(ctx, renewals)
	cancel()

	var lost []*lease
	ls.mu.Lock()
	for i, l := range due {
		if _, held := of.held[l]; !held {
			continue // it was settled meanwhile
		}
		switch renewals[i].Result.Verdict {
		case policy.Allowed:
			l.renewed = now
		case policy.Refused, policy.Queued: // a waiting place is no slot
			delete(of.held, l)
			lost = append(lost, l)
		}
	}
	ls.mu.Unlock()
	for _, l := range lost {
		l.ledger.lose()
		l.limiter.emit(Event{Kind: SlotLost, Rule: l.rule.Name, Limit: l.charge.Limit})
	}
	if err != nil {
		due[0].limiter.emit(Event{Kind: RenewFailed, Err: err})
	}
}
