package middleware

import (
	"errors"
	"net/http"
	"sync"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// A pass is one request's way through a Limiter: from the rules that it meets to
// the decision. It is scratch: what has to last goes to the ledger.
type pass struct {
	limiter *Limiter
	request *http.Request
	ledger  *ledger // nil if the request has none

	charges []policy.Charge // what to ask
	asked   []asked         // where each charge comes from
	ticket  policy.Ticket

	decided  bool // the store answered, and charges were asked
	decision policy.Decision
	gone     bool           // the client is
	reason   respond.Reason // why the request is refused, or ""
	rule     *rule          // whose fault it is, if it is one rule's
	err      error

	report respond.Report // for header fields of allowed requests
}

type asked struct {
	rule  *rule
	limit *policy.Limit
}

var passes = sync.Pool{New: func() any { return new(pass) }}

func (l *Limiter) newPass(r *http.Request, led *ledger) *pass {
	p := passes.Get().(*pass)
	p.limiter, p.request, p.ledger = l, r, led
	return p
}

// free ends the pass. It keeps the memory, and forgets the request.
func (p *pass) free() {
	clear(p.asked)
	clear(p.charges)
	clear(p.report.Standings)
	p.asked, p.charges = p.asked[:0], p.charges[:0]
	p.limiter, p.request, p.ledger = nil, nil, nil
	p.decided, p.gone, p.reason, p.rule, p.err = false, false, "", nil, nil
	p.decision.Verdict = policy.Unknown
	passes.Put(p)
}

// decide asks the store for what the rules charge.
func (p *pass) decide() {
	client := p.request.Context()
	if p.gone = client.Err() != nil; p.gone {
		return
	}
	if p.gather() && len(p.charges) > 0 {
		p.ticket = policy.NewTicket()
		ctx, cancel := p.limiter.bounded(client)
		p.judge(p.limiter.store.Take(ctx, p.ticket, p.charges, &p.decision))
		cancel()
	}
	p.gone = client.Err() != nil
}

// peek asks the store what it would say, and takes nothing.
func (p *pass) peek() {
	if !p.gather() || len(p.charges) == 0 {
		return
	}
	ctx, cancel := p.limiter.bounded(p.request.Context())
	p.judge(p.limiter.store.Peek(ctx, p.charges, &p.decision))
	cancel()
}

// gather collects the charges of all rules, but for those that the request's
// ledger has. It is false if the request is refused for a rule's sake.
func (p *pass) gather() bool {
	for _, r := range p.limiter.rules {
		if !p.charge(r) {
			p.rule = r
			return false
		}
	}
	if len(p.charges) > policy.MaxCharges {
		return p.fault(respond.Misconfigured, policy.CheckCharges(p.charges))
	}
	return true
}

func (p *pass) charge(r *rule) bool {
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
	c := policy.Charge{Scope: r.scope}
	if c.Key, c.Partition, err = r.keyFor(p.request); err != nil {
		return p.fault(respond.NoKey, err)
	}
	if c.Units, err = r.costOf(p.request); err != nil {
		return p.fault(respond.InvalidCost, err)
	}
	for i := range limits {
		c.Limit = limits[i]
		if p.ledger != nil && p.ledger.has(p.limiter.store, &c) {
			continue
		}
		p.charges = append(p.charges, c)
		p.asked = append(p.asked, asked{r, &limits[i]})
	}
	return true
}

func (p *pass) fault(reason respond.Reason, err error) bool {
	p.reason, p.err = reason, err
	return false
}

var errNoDecision = errors.New("ratelimit: the store answered without a decision")

// judge takes the store's answer.
func (p *pass) judge(err error) {
	if err == nil && (p.decision.Verdict == policy.Unknown || len(p.decision.Results) != len(p.charges)) {
		err = errNoDecision
	}
	if err != nil {
		p.err = err
		for _, a := range p.asked {
			if a.rule.Fail == FailClosed {
				p.reason, p.rule = respond.StoreUnavailable, a.rule
				return
			}
		}
		return
	}
	p.decided = true
	if p.decision.Verdict == policy.Allowed {
		return
	}
	p.reason = respond.RateLimitExceeded
	b := p.decision.Binding()
	p.rule = p.asked[b].rule
	if p.decision.Results[b].Verdict == policy.Never {
		p.reason = respond.CostTooHigh
	}
}

// refuse gives back what outer limiters took and returns the report to send.
func (p *pass) refuse() *respond.Report {
	report := new(respond.Report)
	if p.ledger != nil {
		p.ledger.giveBack(report)
	}
	p.tellOwn(report)
	report.Denial = respond.Deny(p.reason, report)
	p.announce()
	return report
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
	if p.decided && p.decision.Verdict == policy.Allowed {
		t := p.taken(nil)
		t.giveBack(p.request.Context())
	}
}

// tell reports how the request stands with the limits of all limiters.
func (p *pass) tell(r *respond.Report) {
	if p.ledger != nil {
		p.ledger.tell(r)
	}
	p.tellOwn(r)
}

func (p *pass) tellOwn(r *respond.Report) {
	if !p.decided {
		return
	}
	r.Now = p.decision.Now
	for i, a := range p.asked {
		r.Standings = append(r.Standings, a.rule.standing(a.limit, &p.decision.Results[i]))
	}
}

// taken returns what the pass took, with its entries in the given memory if
// there is room.
func (p *pass) taken(entries []entry) take {
	t := take{limiter: p.limiter, ticket: p.ticket}
	if !p.decided {
		return t
	}
	if cap(entries) < len(p.charges) {
		entries = make([]entry, 0, len(p.charges))
	}
	for i, a := range p.asked {
		c := &p.charges[i]
		entries = append(entries, entry{rule: a.rule, limit: a.limit, key: c.Key, partition: c.Partition,
			units: c.Units, total: c.Units, result: p.decision.Results[i]})
	}
	t.now, t.entries = p.decision.Now.UnixMicro(), entries
	return t
}

// announce emits the events of the decision.
func (p *pass) announce() {
	l := p.limiter
	e := Event{Reason: p.reason, Err: p.err}
	switch {
	case p.gone:
		e.Kind, e.Reason = Abandoned, ""
	case p.reason != "":
		e.Kind = Refused
	case p.err != nil:
		e.Kind = Bypassed
	case p.decided:
		e.Kind = Allowed
	default:
		return
	}
	if p.decided {
		p.announceOverflow()
	}
	if l.observe == nil && !alarming(&e) {
		return
	}
	if p.rule != nil {
		e.Rule = p.rule.Name
	}
	if p.decided {
		b := p.decision.Binding()
		e.Rule, e.Limit = p.asked[b].rule.Name, *p.asked[b].limit
	}
	l.emit(e)
}

func (p *pass) announceOverflow() {
	for i := range p.decision.Results {
		if p.decision.Results[i].Overflow {
			p.limiter.emit(Event{Kind: Overflowed, Rule: p.asked[i].rule.Name, Limit: *p.asked[i].limit})
			return
		}
	}
}
