package storetest

import (
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 6: charges on one state are one charge.
var sumCases = []Case{
	{Number: 6, Name: "the sum decides", check: sumDecides},
	{Number: 6, Name: "other scopes and keys are not summed", check: sumApart},
	{Number: 6, Name: "each is settled by itself", check: sumSettled},
}

func sumDecides(p *probe) {
	for _, l := range every(10, time.Hour) {
		c := charge(l, "k", 0)
		other := charge(l, "other", 1)
		other.Partition, c.Partition = "k", "k"
		p.admit(with(3, c, c)[0], other, with(2, c)[0])
		p.used(5, c)
		t := p.refuse(with(3, c, c)...)
		if t.Results[0] != t.Results[1] {
			p.failf("two charges on one state are told different things: %+v", t.Results)
		}
		p.used(5, c)
		t = p.admit(with(2, c)[0], other, with(3, c)[0], with(0, c)[0])
		for _, i := range []int{0, 2, 3} {
			if r := t.Results[i]; r.Used != 10 || r.Remaining != 0 {
				p.failf("of 5 and 2 and 3 on %s result %d says used %d, remaining %d", l, i, r.Used, r.Remaining)
			}
		}
		p.used(10, c)
		p.used(2, other)

		// A sum beyond the capacity is never.
		for _, r := range p.refuse(with(6, c, c)...).Results {
			if r.Verdict != policy.Never {
				p.failf("6 and 6 on %s are %v, want never", l, r.Verdict)
			}
		}
		// Peek sums too, and a wait is that for the sum.
		p.same("Peek", p.peek(with(4, c, c)...), p.refuse(with(4, c, c)...))
		if sum, one := p.peek(with(4, c, c)...).RetryAfter(), p.peek(with(8, c)...).RetryAfter(); sum != one {
			p.failf("the wait for 4 and 4 on %s is %v, for 8 it is %v", l, sum, one)
		}
	}
}

func sumApart(p *probe) {
	for _, l := range every(10, time.Hour) {
		a := in("w", charge(l, "k", 6))
		b, named, key := a, a, a
		b.Scope = policy.NewScope("storetest", "other")
		named.Limit = l.Named("other")
		key.Key = "other"
		p.admit(a, b, named, key)
		for _, c := range []policy.Charge{a, b, named, key} {
			p.used(6, c)
		}
	}
}

func sumSettled(p *probe) {
	for _, l := range every(20, time.Hour) {
		c := charge(l, "k", 0)
		t := p.admit(with(5, c)[0], with(6, c)[0], with(7, c)[0])
		p.settle(t, 1, 6, 9)
		p.used(16, c)
	}
}
