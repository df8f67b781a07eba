package middleware

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// A pass is one request's way through a Limiter: from the rules that it meets to
// the decision, and to what is settled in the end. Once the decision has fallen
// it belongs to the request's ledger, until the handler has returned.
type pass struct {
	limiter *Limiter
	request *http.Request // until the decision has fallen
	ledger  *ledger       // nil if the request has none yet
	next    *pass         // of the ledger

	charges []policy.Charge // what to ask
	rules   []*rule         // whose each charge is
	totals  []int64         // what the charges should have taken, by SetCost; nil if that is what they took
	parts   []Costs         // what each cost is made of, as far as there are such rules
	askings []asking        // of the rules' Costings
	ticket  policy.Ticket
	settled bool // a ticket settles units once
	judged  bool // tries were settled
	given   bool // back: what was taken
	slots   bool // some of the charges are for slots

	lockouts bool // some of them are tries
	success  bool // the request has succeeded

	leases   []*lease      // slots that it holds
	waited   time.Duration // in a queue
	ahead    *ahead        // the body, if it was read meanwhile
	serving  bool          // a handler comes next: Check has none, and leaves the body alone
	outcome  bool          // a rule settles by the response
	decided  bool          // the store answered, and charges were asked
	decision policy.Decision
	gone     bool           // the client is
	costErr  *CostError     // of a rule whose cost refuses the request; others are charged
	byCost   bool           // and that is the reason
	reason   respond.Reason // why the request is refused, or ""
	rule     *rule          // whose fault it is, if it is one rule's
	err      error

	open  *rule // a rule that the request was served without, since the store failed
	shut  *rule // a rule that refuses for that
	local *pass // what is decided in memory for that, in the place of the store

	beside policy.Ticket // of what is decided in memory: that of the rest

	matching matching       // of the rules
	report   respond.Report // for header fields of allowed requests
	header   http.Header    // of the response, with such fields in it
	style    *respond.Style // that it is answered in
}

var passes = sync.Pool{New: func() any { return &pass{ticket: policy.NewTicket()} }}

func (l *Limiter) newPass(r *http.Request, led *ledger) *pass {
	p := passes.Get().(*pass)
	p.request = r
	if p.limiter != l {
		p.limiter = l
	}
	if style := l.styleOf(r); p.style != style {
		p.style = style
	}
	if led != nil {
		p.ledger = led
	}
	return p
}

// free ends the pass. It keeps the memory, and forgets the request. Pointers are
// written only where they change, since the garbage collector attends to each that is.
func (p *pass) free() {
	p.report.Reset()
	p.matching.free()
	p.rules, p.charges, p.decision.Results = p.rules[:0], p.charges[:0], p.decision.Results[:0]
	p.decision.Verdict = policy.Unknown
	p.waited, p.outcome, p.slots, p.serving = 0, false, false, false
	p.lockouts, p.success, p.judged, p.given = false, false, false, false
	p.decided, p.settled, p.gone, p.byCost = false, false, false, false
	if p.request != nil || p.ledger != nil {
		p.request, p.ledger = nil, nil
	}
	if p.header != nil {
		p.header = nil
	}
	if len(p.parts)+len(p.askings)+len(p.leases) > 0 || p.totals != nil {
		clear(p.parts)
		clear(p.askings)
		clear(p.leases)
		p.parts, p.askings, p.leases, p.totals = p.parts[:0], p.askings[:0], p.leases[:0], nil
	}
	if p.local != nil {
		p.local.free()
	}
	if p.next != nil || p.local != nil || p.ahead != nil || p.open != nil || p.shut != nil {
		p.next, p.local, p.ahead, p.open, p.shut = nil, nil, nil, nil, nil
	}
	if p.reason != "" || p.rule != nil || p.err != nil || p.costErr != nil {
		p.reason, p.rule, p.err, p.costErr = "", nil, nil, nil
	}
	passes.Put(p)
}

// decide asks the store for what the rules charge, and waits if it has to.
func (p *pass) decide() {
	client := p.request.Context()
	if p.gone = client.Err() != nil; p.gone {
		return
	}
	if p.gather() && len(p.charges) > 0 && !p.knownBlocked() {
		p.ticket = p.ticket.Next()
		p.ask(client)
		if p.decided && p.decision.Verdict == policy.Queued {
			p.queue()
		}
		p.fallBack()
	}
	p.refuseCost()
	p.gone = client.Err() != nil
}

// peek asks the store what it would say, and takes nothing.
func (p *pass) peek() {
	if p.gather() && len(p.charges) > 0 {
		p.askPeek()
		p.fallBackPeek()
	}
	p.refuseCost()
}

// gather collects the charges of all rules, but for those that the request's
// ledger has. It is false if the request is refused for a rule's sake.
func (p *pass) gather() bool {
	for _, r := range p.met(p.limiter) {
		if !p.charge(r, false) {
			p.rule = r
			return false
		}
	}
	if p.costErr != nil { // a request that is not served needs no slot
		p.retain(func(l *policy.Limit) bool { return l.Lease() == 0 })
		p.onlyLook()
	}
	if len(p.charges) > policy.MaxCharges {
		return p.fault(respond.Misconfigured, policy.CheckCharges(p.charges))
	}
	return true
}

// charge collects the charges of a rule: of no units, if it is only to look.
func (p *pass) charge(r *rule, look bool) bool {
	if r.Skip != nil && r.Skip(p.request) {
		return true
	}
	limits, err := r.limitsFor(p.request)
	if err != nil {
		return p.fault(respond.Misconfigured, err)
	}
	if len(limits) == 0 {
		return true
	}
	key, partition, err := r.keyFor(p.request)
	if r.optional && errors.Is(err, ErrNoKey) {
		return true
	}
	if err != nil {
		return p.fault(respond.NoKey, err)
	}
	units, parts := int64(0), Costs(nil)
	if !look {
		if units, parts, err = p.costsOf(r); err != nil {
			if !p.costFault(r, err) {
				return false
			}
			if units == 0 {
				return true
			}
		}
		if r.lockout && p.ledger == nil && !p.serving {
			units = 0 // nobody will say how the try ended
		}
	}
	scale := p.limiter.scaleOf(r)
	for i := range limits {
		// In place, since a charge is large.
		n := len(p.charges)
		p.charges = extend(p.charges)
		c := &p.charges[n]
		c.Limit, c.Scope, c.Key, c.Partition, c.Units = limits[i], r.scope, key, partition, units
		if scale < policy.Whole {
			c.Limit = c.Limit.Scaled(scale)
		}
		if p.ledger != nil {
			if p.ledger.has(p.limiter.store, c) {
				p.charges = p.charges[:n]
				continue
			}
			if length, _ := c.Limit.Queue(); length > 0 && p.ledger.queues() {
				return p.fault(respond.Misconfigured, fmt.Errorf("ratelimit: rule %q: the request has waited in another queue: it waits in one at most", r.Name))
			}
		}
		p.rules = append(p.rules, r)
		p.setParts(n, parts)
		p.outcome = p.outcome || r.Settle != nil
		p.slots = p.slots || units > 0 && c.Limit.Lease() > 0
		p.lockouts = p.lockouts || r.lockout
	}
	return true
}

// costFault takes the error of a rule's cost. A CostError lets the other rules be
// charged, and this one its minimum, before the request is refused.
func (p *pass) costFault(r *rule, err error) bool {
	refused, ok := errors.AsType[*CostError](err)
	if !ok {
		return p.fault(respond.InvalidCost, err)
	}
	if p.costErr == nil {
		p.costErr, p.err, p.rule = refused, err, r
	}
	return true
}

// refuseCost refuses a request for its cost, unless there is another reason by
// now. What the other rules took stays taken.
func (p *pass) refuseCost() {
	if p.costErr != nil && p.reason == "" {
		p.byCost, p.reason = true, cmp.Or(p.costErr.Reason, respond.InvalidCost)
	}
}

// extend returns s with one more element, which is to be written whole: it has what
// the memory had.
func extend[T any](s []T) []T {
	if len(s) < cap(s) {
		return s[:len(s)+1]
	}
	return append(s, *new(T))
}

// retain keeps the charges of a kind of limit.
func (p *pass) retain(kind func(*policy.Limit) bool) {
	n := 0
	for i := range p.charges {
		if kind(&p.charges[i].Limit) {
			p.charges[n], p.rules[n] = p.charges[i], p.rules[i]
			p.setParts(n, p.partsOf(i))
			n++
		}
	}
	p.charges, p.rules = p.charges[:n], p.rules[:n]
}

func (p *pass) fault(reason respond.Reason, err error) bool {
	p.reason, p.err = reason, err
	return false
}

// judge takes the store's answer: what it decided, and what it did not.
func (p *pass) judge(err error) {
	d := &p.decision
	if err != nil {
		p.fail(func(i int) bool { return d.Verdict == policy.Unknown || d.Results[i].Verdict == policy.Unknown }, err)
	}
	p.decided = d.Verdict != policy.Unknown
	if p.shut != nil && d.Verdict != policy.Refused {
		if p.decided {
			p.giveBack(p.request.Context())
			p.decided = false
		}
		p.reason, p.rule = respond.StoreUnavailable, p.shut
		return
	}
	if d.Verdict != policy.Refused {
		return
	}
	p.learnBlocks()
	b := p.decision.Binding()
	st := respond.Standing{Limit: p.charges[b].Limit, Result: p.decision.Results[b]}
	p.reason, p.rule = st.Reason(), p.rules[b]
}

// refuse gives back what outer limiters took and returns the report to send.
func (p *pass) refuse() *respond.Report {
	report := &p.report
	report.Details = asksDetails(p.style, p.request)
	switch {
	case p.ledger == nil:
	case p.byCost:
		p.ledger.tell(report) // it is the answer to a request that counts
	default:
		p.ledger.giveBack(report)
	}
	p.tellOwn(report)
	report.Denial = p.deny(report)
	p.announce()
	return report
}

// deny returns the denial for the pass's reason.
func (p *pass) deny(r *respond.Report) *respond.Denial {
	d := respond.Deny(p.reason, r)
	if p.byCost {
		p.costErr.tell(d)
	}
	return d
}

// abandon gives back all that was taken for a client that has gone.
func (p *pass) abandon() {
	if p.ledger != nil {
		p.ledger.giveBack(new(respond.Report))
	}
	p.undo()
	p.announce()
}

// undo gives back what the pass itself took.
func (p *pass) undo() {
	if p.decided && p.decision.Verdict != policy.Refused {
		p.giveBack(p.request.Context())
	}
	if p.local != nil {
		p.local.undo()
	}
}

// tell reports how the request stands with the limits of all limiters.
func (p *pass) tell(r *respond.Report) {
	r.Details = asksDetails(p.style, p.request)
	if p.ledger != nil {
		p.ledger.tell(r)
	}
	p.tellOwn(r)
}

func (p *pass) tellOwn(r *respond.Report) {
	if p.local != nil {
		p.local.tellOwn(r)
	}
	if !p.decided {
		return
	}
	r.Now = p.decision.Now
	for i, rule := range p.rules {
		if p.decision.Results[i].Verdict == policy.Unknown {
			continue // the store failed while it waited
		}
		if rule.lockout && p.decision.Results[i].Verdict == policy.Allowed {
			continue // nobody needs to know how often he may fail
		}
		// In place, since a standing is large.
		n := len(r.Standings)
		r.Standings = extend(r.Standings)
		st := &r.Standings[n]
		st.Limiter, st.Rule, st.Scope, st.Limit, st.Result = rule.limiter, rule.Name, rule.Scope, p.charges[i].Limit, p.decision.Results[i]
		st.Cost, st.Parts = p.total(i), p.partsOf(i)
		if asked := p.charges[i].Units; asked != st.Cost && st.Limit.Lease() == 0 && !p.given {
			st.Result = settled(st.Limit, st.Result, r.Now, asked, st.Cost)
		}
	}
}

// took tells whether the pass took the charge.
func (p *pass) took(c *policy.Charge) bool {
	for i := range p.charges {
		if d := &p.charges[i]; d.SameState(c) && d.Limit.Whole() == c.Limit.Whole() {
			return true
		}
	}
	return false
}

// setCost sets what the charges of a rule should have taken, at least its
// minimum, and tells whether it has any.
func (p *pass) setCost(rule string, total int64, parts Costs) (any bool) {
	for i, r := range p.rules {
		if r.Name == rule {
			p.setTotal(i, max(total, r.MinCost))
			p.setParts(i, p.settledParts(i, total, parts))
			any = true
		}
	}
	return any
}

// setTotal sets what the i-th charge should have taken.
func (p *pass) setTotal(i int, total int64) {
	if p.totals == nil {
		p.totals = make([]int64, len(p.charges))
		for i := range p.charges {
			if !p.rules[i].lockout { // of those it was a try
				p.totals[i] = p.charges[i].Units
			}
		}
	}
	p.totals[i] = total
}

// total returns what the i-th charge should have taken.
func (p *pass) total(i int) int64 {
	if p.totals == nil {
		return p.charges[i].Units
	}
	return p.totals[i]
}

// settlements returns what to correct: units, tries of lock-outs, and slots, which
// come free.
func (p *pass) settlements(units, tries, slots bool) []policy.Settlement {
	settlements := make([]policy.Settlement, 0, len(p.charges))
	for i := range p.charges {
		c, total := &p.charges[i], int64(0)
		switch {
		case c.Limit.Lease() > 0:
			if !slots || c.Units == 0 {
				continue
			}
		case p.totals == nil, p.rules[i].lockout && !tries, !p.rules[i].lockout && !units:
			continue
		case p.totals[i] == c.Units && (p.totals[i] == 0 || !p.rules[i].lockout):
			continue
		default:
			total = p.totals[i]
		}
		settlements = append(settlements, policy.Settlement{Charge: *c, Receipt: p.decision.Results[i].Receipt, Total: total})
	}
	return settlements
}

// lease has the slots that the pass took renewed while it holds them.
func (p *pass) lease(led *ledger) {
	if !p.slots || !p.decided || len(p.leases) > 0 {
		return
	}
	for i := range p.charges {
		c := &p.charges[i]
		if c.Limit.Lease() == 0 || c.Units == 0 || p.decision.Results[i].Verdict != policy.Allowed {
			continue
		}
		now := time.Now()
		l := &lease{ticket: p.ticket, charge: *c, limiter: p.limiter, rule: p.rules[i], ledger: led, taken: now, renewed: now}
		p.leases = append(p.leases, l)
		p.limiter.leases.add(l)
	}
}

// unlease ends the renewals of the slots.
func (p *pass) unlease() {
	for _, l := range p.leases {
		p.limiter.leases.remove(l)
	}
}

// settle settles what is to be settled when all is over.
func (p *pass) settle(ctx context.Context) {
	p.unlease()
	for _, l := range p.leases {
		l.rule.hold.add(time.Since(l.taken))
	}
	if p.decided && (p.totals != nil || p.slots) {
		p.send(ctx)
	}
	p.limiter.forgive(ctx, p.forgiven())
	p.watchQuotas()
}

// send sends what is not settled yet, and tells whether the store agreed. Tries have
// another ticket where costs were settled before them: each settles once.
func (p *pass) send(ctx context.Context) bool {
	tries, ok := !p.judged, true
	if p.settled && p.lockouts && tries {
		tries, ok = false, p.limiter.settle(ctx, policy.NewTicket(), p.settlements(false, true, false))
	}
	return p.limiter.settle(ctx, p.ticket, p.settlements(!p.settled, tries, true)) && ok
}

// giveBack gives back all that was taken, and tells whether the store agreed.
func (p *pass) giveBack(ctx context.Context) bool {
	if !p.decided {
		return true
	}
	costs := p.totals
	p.totals = make([]int64, len(p.charges))
	ok := p.send(ctx)
	p.totals, p.given = costs, true // what it would have cost is told
	return ok
}

// giveBackResults corrects the results for units that were given back. The store
// is not asked again.
func (p *pass) giveBackResults() {
	if !p.decided {
		return
	}
	for i := range p.decision.Results {
		r, c := &p.decision.Results[i], &p.charges[i]
		if c.Limit.Lease() > 0 {
			if r.Verdict == policy.Allowed {
				r.Used, r.Remaining = max(0, r.Used-1), min(r.Capacity, r.Remaining+1)
			}
			continue
		}
		*r = settled(c.Limit, *r, p.decision.Now, c.Units, 0)
	}
}

// announce emits the events of the decision.
func (p *pass) announce() {
	l := p.limiter
	kind, reason := p.became()
	if kind == 0 {
		return
	}
	l.health.count(p)
	by := p.bound()
	if by.decided {
		by.announceOverflow()
	}
	if l.observe == nil && !alarming(kind, reason) {
		return
	}
	e := Event{Kind: kind, Reason: reason, Err: p.err, Waited: p.waited}
	if p.rule != nil {
		e.Rule = p.rule.Name
	}
	switch {
	case e.Kind == Bypassed:
		if p.decided || p.local != nil { // else it was all of them
			e.Rule = p.open.Name
		}
	case by.decided && !p.byCost:
		b := by.decision.Binding()
		e.Rule, e.Limit, e.Reduced = by.rules[b].Name, by.charges[b].Limit, by.decision.Results[b].Reduced
	}
	l.emit(e)
}

// became tells what became of the request, and why. The kind is 0 if it met no limit.
func (p *pass) became() (Kind, respond.Reason) {
	switch {
	case p.gone:
		return Abandoned, ""
	case p.reason != "":
		return Refused, p.reason
	case p.open != nil:
		return Bypassed, ""
	case p.local != nil:
		return Localized, ""
	case p.decided:
		return Allowed, ""
	}
	return 0, ""
}

func (p *pass) announceOverflow() {
	for i := range p.decision.Results {
		if p.decision.Results[i].Overflow {
			p.limiter.emit(Event{Kind: Overflowed, Rule: p.rules[i].Name, Limit: p.charges[i].Limit})
			return
		}
	}
}
