package storetest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentences 1 and 2: the charges of a partition are one decision.
var jointCases = []Case{
	{Number: 1, Name: "a refusal changes nothing, whatever refuses", check: refusalChangesNothing},
	{Number: 1, Name: "an inner refusal costs the outer limit nothing", check: innerRefusal},
	{Number: 1, Name: "never changes nothing either", check: neverChangesNothing},
	{Number: 2, Name: "all algorithms, two keys, one decision", check: oneDecision},
	{Number: 2, Name: "as many charges as a request may have", check: manyCharges},
	{Number: 2, Name: "joint decisions are atomic", check: atomicDecisions},
}

func refusalChangesNothing(p *probe) {
	for i, tight := range every(5, time.Hour) {
		for _, last := range []bool{false, true} {
			key := "key-" + tight.Name()
			if last {
				key += "-last"
			}
			var charges []policy.Charge
			for _, l := range every(100, 7*time.Minute) {
				charges = append(charges, charge(l, key, 0))
			}
			// The key's owner lies in the same partition.
			charges = append(charges, charge(every(100, time.Minute)[i], "owner", 0))
			if last {
				charges = append(charges, charge(tight, key, 0))
			} else {
				charges = append([]policy.Charge{charge(tight, key, 0)}, charges...)
			}
			for j := range charges {
				charges[j].Partition = "owner"
			}
			p.admit(with(2, charges...)...)
			p.advance(1234567 * time.Microsecond)
			p.admit(with(1, charges...)...)
			p.advance(7654321 * time.Microsecond)
			before := p.peek(with(0, charges...)...)
			for range 3 {
				p.refuse(with(5, charges...)...)
			}
			p.same("after refusals, Peek", p.peek(with(0, charges...)...), before)
			p.same("a second later, Peek", p.peek(with(0, charges...)...), before)
			p.advance(time.Second)
			refused := p.refuse(with(5, charges...)...)
			for j, r := range refused.Results {
				if want := p.peek(refused.charges[j]).Results[0]; r.Used != want.Used || r.Remaining != want.Remaining {
					p.failf("a refused request says of %s: %+v, want what it was before: %+v", describe(refused.charges[j:j+1]), r, want)
				}
			}
		}
	}
}

func innerRefusal(p *probe) {
	outer, inner := charge(policy.FixedWindow(10, time.Hour), "k", 1), charge(policy.SlidingLog(3, time.Minute), "k", 1)
	p.align(time.Hour, 0)
	admitted := int64(0)
	for range 5 { // minutes
		for range 20 {
			if p.take(outer, inner).Verdict == policy.Allowed {
				admitted++
			}
			p.used(admitted, outer)
		}
		p.advance(time.Minute)
	}
	if admitted != 10 {
		p.failf("10 an hour and 3 a minute admitted %d in 5 minutes of 20 each, want 10", admitted)
	}
}

func neverChangesNothing(p *probe) {
	for _, l := range every(5, time.Minute) {
		room, small := charge(policy.PerDay(100), "k-"+l.Name(), 6), charge(l, "k-"+l.Name(), 6)
		p.admit(with(2, room, small)...)
		before := p.peek(with(0, room, small)...)
		p.refuse(room, small)
		p.refuse(small, room)
		p.same("after never, Peek", p.peek(with(0, room, small)...), before)
	}
}

func oneDecision(p *probe) {
	var charges []policy.Charge
	for i, l := range every(1000, time.Hour) {
		charges = append(charges, in("w", charge(l, "k", int64(10+i))), in("w", charge(l, "w", int64(20+i))))
	}
	p.admit(charges...)
	t := p.admit(charges...)
	for i, r := range t.Results {
		if want := 2 * charges[i].Units; r.Used != want || r.Remaining != 1000-want {
			p.failf("result %d of %s: used %d, remaining %d, want %d and %d", i, describe(charges), r.Used, r.Remaining, want, 1000-want)
		}
		p.used(2*charges[i].Units, charges[i])
	}
	empty := p.peek()
	p.expect("Peek", empty, policy.Allowed)
	p.expect("Take", p.take(), policy.Allowed)
}

func manyCharges(p *probe) {
	var charges []policy.Charge
	for len(charges) < policy.MaxCharges {
		for _, l := range every(10, time.Hour) {
			c := in("w", charge(l.Named("many"), "k", 3))
			c.Scope = policy.NewScope("many", string(rune('a'+len(charges)/4)))
			charges = append(charges, c)
		}
	}
	for range 3 {
		p.admit(charges...)
	}
	p.refuse(charges...)
	for _, c := range charges {
		p.used(9, c)
	}
}

// atomicDecisions has many goroutines take two limits together, of which the
// tighter one decides how often the other is taken.
func atomicDecisions(p *probe) {
	for i, tight := range every(60, time.Hour) {
		wide := every(100, time.Hour)[(i+1)%4]
		a, b := in("w", charge(wide, "a", 1)), in("w", charge(tight, "b", 1))
		p.reset(a, b)
		admitted := p.concurrently(240, a, b)
		if admitted != 60 {
			p.failf("%s with %s admitted %d at once, want 60", wide, tight, admitted)
		}
		p.used(60, a)
		p.used(60, b)
	}
}

// concurrently takes the charges n times at once, divided among the stores, and
// returns how often they were admitted.
func (p *probe) concurrently(n int, charges ...policy.Charge) int64 {
	if p.err != nil {
		return 0
	}
	var (
		admitted atomic.Int64
		wrong    atomic.Pointer[error]
		all      sync.WaitGroup
		begin    = make(chan struct{})
	)
	for i := range n {
		s := p.Stores[i%len(p.Stores)]
		all.Go(func() {
			<-begin
			var d policy.Decision
			if err := s.Take(context.Background(), policy.NewTicket(), charges, &d); err != nil {
				wrong.Store(&err)
			} else if d.Verdict == policy.Allowed {
				admitted.Add(1)
			}
		})
	}
	close(begin)
	all.Wait()
	if err := wrong.Load(); err != nil {
		p.failf("%d concurrent Takes of %s: error %w", n, describe(charges), *err)
	}
	return admitted.Load()
}
