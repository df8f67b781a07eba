package storetest

import (
	"context"
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 12: errors. What dead servers do is for a store's own tests.
var errorCases = []Case{
	{Number: 12, Name: "impossible charges are errors", check: badCharges},
	{Number: 12, Name: "a context that is done is an error", check: doneContext},
	{Number: 12, Name: "what has no slot is not renewed", check: badRenewals},
}

func badCharges(p *probe) {
	good := charge(policy.PerHour(10), "k", 3)
	p.admit(good)
	many := make([]policy.Charge, policy.MaxCharges+1)
	for i := range many {
		many[i] = good
		many[i].Units = 0
	}
	for name, bad := range map[string][]policy.Charge{
		"negative units":   {good, charge(policy.PerDay(10), "k", -1)},
		"the zero Limit":   {good, charge(policy.Limit{}, "k", 1)},
		"an invalid limit": {charge(policy.PerHour(-1), "k", 1), good},
		"a bad name":       {good, charge(policy.PerHour(10).Named("no spaces"), "k", 1)},
		"too many charges": many,
	} {
		if p.err != nil {
			return
		}
		var d policy.Decision
		p.wantError("Take with "+name, p.store().Take(context.Background(), policy.NewTicket(), bad, &d), nil)
		p.wantError("Peek with "+name, p.store().Peek(context.Background(), bad, &d), nil)
		p.used(3, good)
		p.used(0, charge(policy.PerDay(10), "k", 0))
	}
	t := p.admit(good)
	for name, spoil := range map[string]func(*policy.Settlement){
		"a negative total": func(s *policy.Settlement) { s.Total = -1 },
		"negative units":   func(s *policy.Settlement) { s.Charge.Units = -1 },
		"the zero Limit":   func(s *policy.Settlement) { s.Charge.Limit = policy.Limit{} },
	} {
		if p.err != nil {
			return
		}
		bad := t.settlements(0)
		spoil(&bad[0])
		p.wantError("Settle with "+name, p.store().Settle(context.Background(), policy.NewTicket(), bad), nil)
	}
	p.used(6, good)
	p.settle(t, 1)
	p.used(4, good)
}

func doneContext(p *probe) {
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	late, stop := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer stop()
	c := charge(policy.PerHour(10), "k", 3)
	p.admit(c)
	for _, ctx := range []context.Context{canceled, late} {
		var d policy.Decision
		p.wantError("Take, context done", p.store().Take(ctx, policy.NewTicket(), with(1, c), &d), ctx.Err())
		p.wantError("Take, refused and context done", p.store().Take(ctx, policy.NewTicket(), with(9, c), &d), ctx.Err())
		p.wantError("Peek, context done", p.store().Peek(ctx, with(1, c), &d), ctx.Err())
		p.eventually(3, c)
	}
	p.admit(with(7, c)...)

	slot := charge(queued(1, 1), "k", 1)
	p.admit(slot)
	t := p.queue(slot)
	for _, ctx := range []context.Context{canceled, late} {
		if p.err != nil {
			return
		}
		p.advance(time.Second / 2)
		renewals := []policy.Renewal{{Ticket: t.ticket, Charge: slot, Result: policy.Result{Verdict: policy.Allowed}}}
		p.wantError("Renew, context done", p.store().Renew(ctx, renewals), ctx.Err())
		if v := renewals[0].Result.Verdict; v != policy.Unknown {
			p.failf("a renewal that failed says %v, want unknown", v)
		}
		_, err := p.store().Wait(ctx, t.ticket, slot)
		p.wantError("Wait, context done", err, ctx.Err())
	}
	p.occupied(0, 0, slot) // a second later: nothing was renewed
}

// badRenewals has renewals at fault beside good ones.
func badRenewals(p *probe) {
	ctx := context.Background()
	good := p.admit(charge(queued(1, 1), "k", 1))
	for name, bad := range map[string]policy.Charge{
		"of the zero Limit":   charge(policy.Limit{}, "k", 1),
		"of an invalid limit": charge(policy.Concurrency(0), "k", 1),
		"of a rate":           charge(policy.PerHour(10), "k", 1),
		"of negative units":   charge(leased(1), "k", -1),
	} {
		if p.err != nil {
			return
		}
		renewals := []policy.Renewal{{Ticket: good.ticket, Charge: bad, Result: policy.Result{Verdict: policy.Allowed}}}
		p.wantError("Renew "+name, p.store().Renew(ctx, renewals), nil)
		if v := renewals[0].Result.Verdict; v != policy.Unknown {
			p.failf("a renewal %s says %v, want unknown", name, v)
		}
		_, err := p.store().Wait(ctx, good.ticket, bad)
		p.wantError("Wait "+name, err, nil)
	}
	p.stands(good, policy.Allowed, 0)
}

// Sentence 13: callers that leave.
var absenceCases = []Case{
	{Number: 13, Name: "a Take whose caller left", check: callerLeft},
}

func callerLeft(p *probe) {
	if p.Stall == nil {
		p.err = ErrNotApplicable
		return
	}
	for _, l := range every(10, time.Hour) {
		c, other := charge(l, "k", 4), charge(l.CountRefused().Named("counted"), "k", 2)
		slot := charge(queued(1, 1), "k-"+l.Name(), 1)
		p.admit(c, other)
		holder := p.admit(slot)
		resume := p.Stall()
		const soon = 20 * time.Millisecond
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		begun := time.Now()
		var d policy.Decision
		err := p.store().Take(ctx, policy.NewTicket(), []policy.Charge{c, slot, other}, &d)
		cancel()
		if took := time.Since(begun); took > time.Second {
			p.failf("a stalled Take with %v to go returned after %v", soon, took)
		}
		p.wantError("Take while replies are held back", err, nil)
		resume()
		p.eventually(4, c)
		p.eventually(2, other)
		p.eventuallyOccupied(1, 0, slot)
		p.admit(with(6, c)...)
		p.leave(holder)
		p.admit(slot)
	}
}
