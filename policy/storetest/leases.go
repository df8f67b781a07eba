package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 14: slots are leases.
var leaseCases = []Case{
	{Number: 14, Name: "a lease ends to the microsecond", check: leaseEnds},
	{Number: 14, Name: "a renewed slot stays its holder's", check: staysOnes},
	{Number: 14, Name: "a lost slot is reported, and not had again", check: lostSlot},
	{Number: 14, Name: "many renewals at once", check: manyRenewals},
	{Number: 14, Name: "a request takes one slot, whatever its units", check: oneSlot},
	{Number: 4, Name: "a clock set back ends no lease, and none too late", check: leaseSetBack},
	{Number: 17, Name: "changed numbers of slots evict nobody", check: slotNumbers},
}

// leased returns a limit of n slots and a lease of a second.
func leased(n int64) policy.Limit { return policy.Concurrency(n).WithLease(time.Second) }

// queued returns the same with a queue.
func queued(n, length int64) policy.Limit { return leased(n).WithQueue(length, time.Minute) }

func leaseEnds(p *probe) {
	for _, lease := range []time.Duration{policy.MinLease, time.Second, 1_234_567 * time.Microsecond, policy.MaxLease} {
		c := charge(policy.Concurrency(2).WithLease(lease), "k-"+lease.String(), 1)
		p.admit(c)
		half := (lease / 2).Truncate(time.Microsecond)
		p.advance(half)
		p.admit(c)
		p.refuse(c)
		p.advance(lease - half - time.Microsecond)
		p.refuse(c)
		p.occupied(2, 0, c)
		p.advance(time.Microsecond)
		p.occupied(1, 0, c)
		p.admit(c)
		p.refuse(c)
		p.advance(half - time.Microsecond)
		p.refuse(c)
		p.advance(time.Microsecond)
		p.occupied(1, 0, c)
		p.advance(lease - half)
		p.occupied(0, 0, c)
	}
}

func staysOnes(p *probe) {
	c := charge(leased(1), "k", 1)
	t := p.admit(c)
	for range 50 {
		p.advance(time.Second - time.Microsecond)
		p.refuse(c)
		p.stands(t, policy.Allowed, 0)
	}
	p.advance(time.Second - time.Microsecond)
	p.refuse(c)
	p.advance(time.Microsecond)
	p.admit(c)
	p.stands(t, policy.Refused, 0)
}

func lostSlot(p *probe) {
	c := charge(queued(2, 1), "k", 1)
	for name, lose := range map[string]func(t taken){
		"by time":  func(taken) { p.advance(time.Second) },
		"by reset": func(taken) { p.reset(c) },
		"itself":   func(t taken) { p.leave(t) },
	} {
		t := p.admit(c)
		lose(t)
		for range 2 {
			if p.stands(t, policy.Refused, 0); p.err != nil {
				p.err = fmt.Errorf("lost %s: %w", name, p.err)
				return
			}
		}
		p.occupied(0, 0, c)
		p.admit(c)
		p.admit(c)
		p.stands(t, policy.Refused, 0)
		p.occupied(2, 0, c)
		p.queue(c)
		p.reset(c)
	}
	p.stands(taken{ticket: policy.NewTicket(), charges: []policy.Charge{c}}, policy.Refused, 0)
}

// manyRenewals renews more leases at once than a request has charges, under many
// keys, of all kinds.
func manyRenewals(p *probe) {
	var (
		renewals []policy.Renewal
		want     []policy.Verdict
		place    []int64
	)
	add := func(t taken, v policy.Verdict, queue int64) {
		renewals = append(renewals, policy.Renewal{Ticket: t.ticket, Charge: t.charges[0]})
		want, place = append(want, v), append(place, queue)
	}
	for i := range 3 * policy.MaxCharges {
		c := charge(queued(1, 1), string(rune('a'+i)), 1)
		if i%2 == 1 {
			c.Partition = "tenant"
		}
		lost := p.admit(c)
		p.leave(lost)
		add(p.admit(c), policy.Allowed, 1)
		add(p.queue(c), policy.Queued, 1)
		add(lost, policy.Refused, 1)
	}
	if p.err != nil {
		return
	}
	p.advance(time.Second - time.Microsecond)
	if err := p.store().Renew(context.Background(), renewals); err != nil {
		p.failf("Renew of %d: error %w", len(renewals), err)
		return
	}
	p.advance(time.Second - time.Microsecond)
	for i, r := range renewals {
		if r.Result.Verdict != want[i] || r.Result.Queue != place[i] || r.Result.Limit != 1 || r.Result.Used != 1 {
			p.failf("renewal %d of %d: %+v, want %v and %d", i, len(renewals), r.Result, want[i], place[i])
		}
		p.occupied(1, 1, r.Charge) // their first leases would have ended
	}
	if err := p.store().Renew(context.Background(), nil); err != nil {
		p.failf("Renew of nothing: error %w", err)
	}
}

func oneSlot(p *probe) {
	c := charge(queued(2, 1), "k", 1)
	p.admit(with(0, c)...)
	p.occupied(0, 0, c)
	t := p.admit(with(1<<40, c)...)
	p.occupied(1, 0, c)
	both := p.admit(c, with(0, c)[0], with(7, c)[0]) // charges on one state are one
	p.occupied(2, 0, c)
	if both.Results[0] != both.Results[2] {
		p.failf("two charges on one state are told different things: %+v", both.Results)
	}
	p.admit(with(0, c)...)
	p.queue(c, c)
	p.occupied(2, 1, c)
	for _, r := range p.refuse(c, c).Results {
		if r.RetryAfter != 0 || r.ResetAfter != 0 {
			p.failf("nobody knows when a slot comes free, but the wait is %v", r.RetryAfter)
		}
	}
	p.leave(t)
	p.leave(both)
	p.occupied(1, 0, c)
}

func leaseSetBack(p *probe) {
	c := charge(leased(1), "k", 1)
	p.advance(time.Second)
	t := p.admit(c)
	p.advance(-900 * time.Millisecond)
	p.refuse(c)
	p.stands(t, policy.Allowed, 0) // as of when it was taken
	p.advance(1900*time.Millisecond - time.Microsecond)
	p.refuse(c)
	p.advance(time.Microsecond)
	p.admit(c)
}

func slotNumbers(p *probe) {
	one, two, three := charge(queued(1, 1), "k", 1), charge(queued(2, 2), "k", 1), charge(queued(3, 2), "k", 1)
	a, b := p.admit(three), p.admit(three)
	p.occupied(2, 0, one) // a lowered number
	c := p.queue(one)
	p.refuse(one)
	a.charges, b.charges = with(1, one), with(1, one) // as they would be taken now
	p.stands(b, policy.Allowed, 0)
	p.leave(a)
	p.occupied(1, 1, one)
	p.leave(b)
	p.occupied(1, 0, one)
	p.stands(c, policy.Allowed, 0)

	d := p.queue(one)
	p.refuse(one)
	e := p.queue(two) // it grants to d, and is the first to wait
	p.stands(d, policy.Allowed, 0)
	e.charges[0] = two
	p.stands(e, policy.Queued, 1)
	p.queue(three) // now to e
	p.stands(e, policy.Allowed, 0)
	p.occupied(3, 1, three)

	// Another lease applies when it is renewed.
	p.reset(one)
	long := charge(policy.Concurrency(1).WithLease(time.Minute), "k", 1)
	t := p.admit(one)
	t.charges[0] = long
	p.advance(time.Second - time.Microsecond)
	p.stands(t, policy.Allowed, 0)
	p.advance(time.Minute - time.Microsecond)
	p.refuse(long)
	t.charges[0] = charge(leased(1), "k", 1)
	p.stands(t, policy.Allowed, 0)
	p.advance(time.Second)
	p.admit(long)
}
