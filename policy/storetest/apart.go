package storetest

import (
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 3: partitions may be decided apart, but what a request took in one is
// given back if it is refused in another.
var apartCases = []Case{
	{Number: 3, Name: "a refusal in one partition undoes the others", check: undone},
	{Number: 3, Name: "crossing requests", check: crossing},
}

func undone(p *probe) {
	for _, l := range every(100, time.Hour) {
		for _, tight := range every(5, time.Minute) {
			key := l.Name() + tight.Name()
			a, b := charge(l, "a"+key, 3), charge(tight, "b"+key, 3)
			c := charge(l, "c"+key, 3)
			p.admit(a, b, c)
			p.advance(time.Millisecond)
			before := p.peek(with(0, a, c)...)
			p.refuse(a, b, c)
			p.refuse(b, a)
			p.refuse(c, b)
			p.eventually(before.Results[0].Used, a)
			p.eventually(before.Results[1].Used, c)
			p.same("after refusals elsewhere, Peek", p.peek(with(0, a, c)...), before)
			p.admit(with(2, a, b, c)...)
		}
	}
}

// crossing has requests for the same two keys compete in both orders.
func crossing(p *probe) {
	a, b := charge(policy.SlidingLog(50, time.Hour), "a", 1), charge(policy.TokenBucket(50, time.Hour), "b", 1)
	admitted := p.concurrently(60, a, b) + p.concurrently(60, b, a)
	if admitted > 50 || admitted < 1 || !p.Partitioned && admitted != 50 {
		p.failf("two limits of 50 admitted %d", admitted)
	}
	p.eventually(admitted, a)
	p.eventually(admitted, b)
}
