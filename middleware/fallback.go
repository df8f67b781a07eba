package middleware

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/respond"
)

// A fallback is what a Limiter's rules with FailLocal count in while the store is
// away. It is made for the first rule that needs it.
type fallback struct {
	name  string
	given int // Config.Instances

	mu      sync.Mutex
	store   *memstore.Store // nil if no rule needs it
	release func()
	leases  *leases
	count   func() int
	leave   func()
}

// start makes ready to count in memory, in the place of a store.
func (f *fallback) start(instead policy.Store) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.store != nil {
		return nil
	}
	attended, counts := instead.(policy.Instances)
	_, alone := instead.(*memstore.Store)
	switch {
	case f.given > 0:
		f.count = func() int { return f.given }
	case counts:
		f.count, f.leave = attended.Attend(f.name)
	case alone:
		f.count = func() int { return 1 }
	default:
		return fmt.Errorf("FailLocal shares the limits among instances, and the Store %T does not count them: write how many there are in Config.Instances", instead)
	}
	if alone { // it fails once it is closed, at most
		own := memstore.New(memstore.Options{})
		f.store, f.release = own, func() { _ = own.Close() }
	} else {
		f.store, f.release = memoryFor(instead)
	}
	f.leases = &leases{store: f.store}
	return nil
}

// instances returns among how many processes limits are shared, or 0.
func (f *fallback) instances() int {
	f.mu.Lock()
	count := f.count
	f.mu.Unlock()
	if count == nil {
		return 0
	}
	return count()
}

func (f *fallback) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.store == nil {
		return
	}
	if f.leave != nil {
		f.leave()
		f.leave = nil
	}
	f.leases.close()
	f.release()
}

// memories are what Limiters count in while their stores are away. Those over one
// store share one, as they share the store: else each would admit the whole share of a
// limit that they count together.
var memories = struct {
	sync.Mutex
	by map[policy.Store]*memory
}{by: map[policy.Store]*memory{}}

type memory struct {
	store *memstore.Store
	users int
}

// memoryFor returns the memory in the place of a store, until it is released.
func memoryFor(instead policy.Store) (store *memstore.Store, release func()) {
	memories.Lock()
	defer memories.Unlock()
	m, ok := memories.by[instead]
	if !ok {
		m = &memory{store: memstore.New(memstore.Options{})}
		memories.by[instead] = m
	}
	m.users++
	return m.store, sync.OnceFunc(func() {
		memories.Lock()
		defer memories.Unlock()
		if m.users--; m.users == 0 {
			delete(memories.by, instead)
			_ = m.store.Close() // it has nothing to fail
		}
	})
}

// prepare makes the Limiter that counts in memory what the store cannot, if one of
// the rules asks for it: the same rules over another store.
func (l *Limiter) prepare() error {
	i := slices.IndexFunc(l.rules, func(r *rule) bool { return r.Fail == FailLocal })
	if i < 0 {
		return nil
	}
	if err := l.fallback.start(l.store); err != nil {
		return fmt.Errorf("ratelimit: rule %d (%q): %w", i+1, l.rules[i].Name, err)
	}
	local := *l
	local.store, local.leases, local.inMemory, local.local, local.blocks = l.fallback.store, l.fallback.leases, true, nil, nil
	l.local = &local
	return nil
}

// ask asks the store for what the charges need. What nodes decide that are known to
// be away is not asked.
func (p *pass) ask(client context.Context) {
	l := p.limiter
	if l.inMemory {
		p.judge(complete(p.charges, &p.decision, l.store.Take(context.Background(), p.ticket, p.charges, &p.decision), false))
		return
	}
	if l.health.troubled.Load() > 0 {
		p.turnAway()
		switch {
		case len(p.charges) == 0:
			p.judge(nil)
			return
		case p.shut != nil:
			p.askShut(client)
			return
		}
	}
	ctx, cancel := l.bounded(client)
	err := l.health.take(ctx, p.ticket, p.charges, &p.decision)
	cancel()
	p.judge(err)
}

// askShut asks what is left of a request that is refused with 503, unless that refuses
// it by itself: who is blocked is told so. Nothing is taken.
func (p *pass) askShut(client context.Context) {
	err := p.peekByNode(client)
	if p.decision.Verdict != policy.Refused {
		p.decision.Verdict = policy.Unknown
	}
	p.judge(err)
}

// askPeek is ask without taking.
func (p *pass) askPeek() {
	l := p.limiter
	if l.inMemory {
		p.judge(complete(p.charges, &p.decision, l.store.Peek(context.Background(), p.charges, &p.decision), false))
		return
	}
	p.judge(p.peekByNode(p.request.Context()))
}

// peekByNode peeks at each node by itself, since one that fails is nothing that the
// others have to do with. What is not known then is Unknown, and there is an error.
func (p *pass) peekByNode(client context.Context) (err error) {
	h, d := p.limiter.health, &p.decision
	nodes := make([]*breaker, len(p.charges))
	for i := range p.charges {
		nodes[i] = h.breaker(&p.charges[i])
	}
	d.Reset(len(p.charges))
	for i, b := range nodes {
		if slices.Index(nodes, b) < i {
			continue // it was among those of another
		}
		if b.open.Load() {
			err = b.away()
			continue
		}
		var charges []policy.Charge
		for j := i; j < len(nodes); j++ {
			if nodes[j] == b {
				charges = append(charges, p.charges[j])
			}
		}
		var part policy.Decision
		ctx, cancel := p.limiter.bounded(client)
		failure := h.peek(ctx, charges, &part)
		cancel()
		if failure != nil {
			err = failure
			continue
		}
		d.Now, d.Verdict = part.Now, max(d.Verdict, part.Verdict)
		for j, k := i, 0; j < len(nodes); j++ {
			if nodes[j] == b {
				d.Results[j] = part.Results[k]
				k++
			}
		}
	}
	return err
}

var errNoDecision = errors.New("ratelimit: the store answered without a decision")

// complete returns the error of an answer that is not as a store's has to be. A
// decision beside an error is kept only if it may be about some of the charges.
func complete(charges []policy.Charge, d *policy.Decision, err error, partly bool) error {
	if err != nil && !partly {
		d.Verdict = policy.Unknown
	}
	if d.Verdict == policy.Unknown {
		if err == nil {
			err = errNoDecision
		}
		return err
	}
	if len(d.Results) == len(charges) && (d.Verdict != policy.Queued || queuedIn(d) >= 0) {
		return err
	}
	d.Verdict = policy.Unknown
	return errors.Join(errNoDecision, err)
}

// queuedIn returns which charge waits, or -1.
func queuedIn(d *policy.Decision) int {
	for i := range d.Results {
		if d.Results[i].Verdict == policy.Queued {
			return i
		}
	}
	return -1
}

// turnAway lets the charges fail that breakers turn away, and sends the probes that
// are due.
func (p *pass) turnAway() {
	h := p.limiter.health
	now := h.now()
	h.sweep(now)
	var buf [8]*breaker
	breakers := buf[:0]
	var said [policy.MaxCharges]admission
	var away error
	for i := range p.charges {
		b := h.breaker(&p.charges[i])
		j := slices.Index(breakers, b)
		if j < 0 {
			if said[i] = b.admit(now); said[i] == behind {
				p.probe(b)
			}
		} else {
			said[i] = said[j]
		}
		breakers = append(breakers, b)
		if away == nil && (said[i] == turned || said[i] == behind) {
			away = b.away()
		}
	}
	if away != nil {
		p.fail(func(i int) bool { return said[i] == turned || said[i] == behind }, away)
	}
}

// probe asks a node for what a request needs of it, and gives back what that took:
// the request does not wait for it.
func (p *pass) probe(b *breaker) {
	l, h := p.limiter, p.limiter.health
	var charges []policy.Charge
	for i := range p.charges {
		if h.breaker(&p.charges[i]) == b {
			charges = append(charges, p.charges[i])
		}
	}
	h.errand(func() {
		ticket := policy.NewTicket()
		var d policy.Decision
		ctx, cancel := l.bounded(context.Background())
		_ = h.take(ctx, ticket, charges, &d) // it is noted
		cancel()
		if d.Verdict != policy.Allowed && d.Verdict != policy.Queued {
			return
		}
		var settlements []policy.Settlement
		for i := range charges {
			if d.Results[i].Verdict != policy.Unknown {
				settlements = append(settlements, policy.Settlement{Charge: charges[i], Receipt: d.Results[i].Receipt})
			}
		}
		l.settle(context.Background(), ticket, settlements)
	})
}

// fail takes charges out of the pass that the store cannot decide: they fail as
// their rules say.
func (p *pass) fail(failed func(i int) bool, err error) {
	if p.err == nil {
		p.err = err
	}
	n := 0
	for i := range p.charges {
		if failed(i) {
			p.failOne(i)
			continue
		}
		p.charges[n], p.rules[n] = p.charges[i], p.rules[i]
		p.setParts(n, p.partsOf(i))
		if i < len(p.decision.Results) {
			p.decision.Results[n] = p.decision.Results[i]
		}
		n++
	}
	p.charges, p.rules = p.charges[:n], p.rules[:n]
	p.decision.Results = p.decision.Results[:min(n, len(p.decision.Results))]
}

// failOne lets one charge fail.
func (p *pass) failOne(i int) {
	r, c := p.rules[i], &p.charges[i]
	mode := r.Fail
	var share policy.Limit
	if mode == FailLocal {
		ok := false
		if p.limiter.local != nil {
			share, ok = c.Limit.Share(p.limiter.fallback.instances())
			// What the limit holds and its share never does is not the client's fault.
			ok = ok && (share.Lease() > 0 || c.Units <= share.Largest() || c.Units > c.Limit.Largest())
		}
		if !ok {
			mode = FailClosed
		}
	}
	switch {
	case mode == FailOpen && p.open == nil:
		p.open = r
	case mode == FailClosed && p.shut == nil:
		p.shut = r
	case mode == FailLocal:
		if p.local == nil {
			p.local = p.limiter.local.newPass(p.request, p.ledger)
			p.local.serving = p.serving
		}
		q := p.local
		own := *c
		own.Limit = share
		if q.ledger == nil || !q.ledger.has(q.limiter.store, &own) {
			q.charges, q.rules = append(q.charges, own), append(q.rules, r)
			q.setParts(len(q.charges)-1, p.partsOf(i))
			q.slots = q.slots || own.Units > 0 && share.Lease() > 0
			q.lockouts = q.lockouts || r.lockout
		}
	}
}

// fallBack decides in memory what the store could not, once it has allowed the rest.
func (p *pass) fallBack() {
	q := p.local
	if q == nil || p.reason != "" || len(q.charges) == 0 || p.request.Context().Err() != nil {
		return
	}
	// A ticket of its own: passes are used again, and no two may have one.
	q.ticket, q.beside = q.ticket.Next(), p.ticket
	q.ask(p.request.Context())
	if q.decided && q.decision.Verdict == policy.Queued {
		q.queue()
		p.waited += q.waited
		if p.ahead == nil {
			p.ahead = q.ahead
		}
	}
	if q.reason == "" {
		return
	}
	p.reason, p.rule = q.reason, q.rule
	if p.decided && p.giveBack(p.request.Context()) {
		p.giveBackResults()
	}
}

// split makes what was decided in memory a pass of its own in the ledger.
func (p *pass) split() {
	if q := p.local; q != nil {
		q.request, q.ledger, q.header, q.report.Details = nil, nil, p.header, p.report.Details
		p.next, p.local = q, nil
	}
}

// fallBackPeek is fallBack without taking.
func (p *pass) fallBackPeek() {
	if q := p.local; q != nil && p.reason == "" && len(q.charges) > 0 {
		q.askPeek()
		p.reason, p.rule = q.reason, q.rule
	}
}

// bound returns the pass whose decision binds the request: that in memory, if it
// refused or is the only one.
func (p *pass) bound() *pass {
	if q := p.local; q != nil && q.decided && (!p.decided || q.reason != "") {
		return q
	}
	return p
}

// count counts what became of a request of which the store could not decide all.
func (h *health) count(p *pass) {
	switch {
	case p.err == nil || p.gone:
	case p.reason == respond.StoreUnavailable:
		h.unavailable.Add(1)
	case p.open != nil && p.reason == "":
		h.bypassed.Add(1)
	case p.local != nil && p.local.decided:
		h.local.Add(1)
	}
}
