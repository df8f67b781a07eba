package storetest

import (
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 10, of slots: they are settled to zero, and of reservations, which are
// held open and settled.
var leaveCases = []Case{
	{Number: 10, Name: "a slot settled to zero comes free, once", check: leavesOnce},
	{Number: 10, Name: "slots and units are settled apart", check: leavesApart},
	{Number: 10, Name: "reservations held open are no more than the bucket", check: reservations},
}

func leavesOnce(p *probe) {
	c := charge(queued(2, 2), "k", 1)
	a, b := p.admit(c), p.admit(c)
	d, e := p.queue(c), p.queue(c)
	p.settle(a, 1) // as taken
	p.settle(a, 5)
	p.occupied(2, 2, c)
	for range 3 {
		p.leave(a)
		p.occupied(2, 1, c) // it is d's now
	}
	p.leave(taken{Decision: e.Decision, ticket: policy.NewTicket(), charges: e.charges}) // nobody's
	p.occupied(2, 1, c)
	p.leave(e)
	p.leave(e)
	p.occupied(2, 0, c)
	p.leave(b)
	p.leave(a)
	p.leave(e)
	p.occupied(1, 0, c)
	p.stands(d, policy.Allowed, 0)
	p.leave(d)
	p.occupied(0, 0, c)
	p.admit(c)
}

func leavesApart(p *probe) {
	for _, l := range every(100, 24*time.Hour) {
		slot, rate := in("w", charge(leased(1), "k-"+l.Name(), 1)), in("w", charge(l, "k-"+l.Name(), 10))
		p.align(24*time.Hour, time.Hour)

		// The units first, and the slot with them, to be kept.
		t := p.admit(slot, rate)
		p.settle(t, 1, 4)
		p.used(4, rate)
		p.occupied(1, 0, slot)
		p.settle(t, 0, 0) // the units are settled; the slot is not
		p.used(4, rate)
		p.occupied(0, 0, slot)
		p.leave(t)

		// The slot first.
		t = p.admit(slot, rate)
		p.leave(t)
		p.leave(t)
		p.occupied(0, 0, slot)
		p.used(14, rate)
		p.admit(slot)
		p.settle(t, 0, 2)
		p.settle(t, 0, 0)
		p.used(6, rate)
		p.occupied(1, 0, slot) // another's
	}
}

// reservations has a client hold ten reservations of a tenth of a bucket open for
// a while, and then settle them at next to nothing while it takes what it can. In
// that one instant it must not get more than a bucket, nor in all more than a
// bucket and what has been refilled.
func reservations(p *probe) {
	const n, tenth, actual = 100_000, 10_000, 10
	l := policy.TokenBucket(n, 1000*time.Second) // a hundred a second
	for _, open := range []time.Duration{
		0, time.Microsecond, 50 * time.Second, 100 * time.Second, 555_555_555 * time.Microsecond, 999 * time.Second, 1000 * time.Second, time.Hour,
	} {
		for _, latest := range []bool{false, true} {
			c := charge(l, "k", tenth)
			p.reset(c)
			var held []taken
			for range 10 {
				held = append(held, p.admit(c))
			}
			p.refuse(with(1, c)...)
			p.advance(open)

			refilled := int64(open / (10 * time.Millisecond))
			now, reserved, spent := int64(0), int64(10*tenth), int64(0)
			grab := func() {
				if rest := p.peek(c).Results[0].Remaining; rest > 0 {
					p.admit(with(rest, c)...)
					now += rest
				}
				if now > n {
					p.failf("held open for %v: %d taken in one instant of a bucket of %d", open, now, n)
				}
				if total := now + reserved + spent; total > n+refilled {
					p.failf("held open for %v: %d taken and reserved, of a bucket of %d and %d that refilled", open, total, n, refilled)
				}
			}
			grab()
			for len(held) > 0 {
				i := 0
				if latest {
					i = len(held) - 1
				}
				t := held[i]
				held = append(held[:i], held[i+1:]...)
				p.settle(t, actual)
				reserved, spent = reserved-tenth, spent+actual
				grab()
			}
			if open == 0 && now != n-10*actual {
				p.failf("settled at once: %d taken, want %d", now, n-10*actual)
			}
		}
	}
}
