package storetest

import (
	"context"
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 15: who waits for a slot.
var queueCases = []Case{
	{Number: 15, Name: "a queued request holds its other charges", check: queuedHolds},
	{Number: 15, Name: "a refusal takes no place in a queue", check: refusedTakesNoPlace},
	{Number: 1, Name: "a refusal leaves the slot that its ticket has", check: refusedWithinSlot},
	{Number: 15, Name: "in the order of arrival", check: arrivalOrder},
	{Number: 15, Name: "the queue is bounded", check: queueBounded},
	{Number: 15, Name: "waiters are leased like holders", check: waitersLeased},
	{Number: 15, Name: "the slot of a holder who died is granted", check: deadHolder},
	{Number: 15, Name: "one queue at most", check: oneQueue},
	{Number: 9, Name: "peek takes no slot, and no place", check: peekTakesNoSlot},
	{Number: 3, Name: "a slot in another partition", check: slotApart},
	{Number: 19, Name: "slots at once", check: slotsAtOnce},
}

func queuedHolds(p *probe) {
	for _, l := range every(100, time.Hour) {
		key := "k-" + l.Name()
		slot, rate, other := in("w", charge(queued(1, 1), key, 1)), in("w", charge(l, key, 10)), in("w", charge(l, "w", 7))
		p.align(time.Hour, 0)
		p.reset(other)
		first := p.admit(slot, rate, other)
		second := p.queue(slot, rate, other)
		for i, want := range []struct {
			verdict policy.Verdict
			used    int64
		}{{policy.Queued, 1}, {policy.Allowed, 20}, {policy.Allowed, 14}} {
			if r := second.Results[i]; r.Verdict != want.verdict || r.Used != want.used {
				p.failf("result %d of a queued request is %+v, want %v with %d used", i, r, want.verdict, want.used)
			}
		}
		if r := second.Results[0]; r.Queue != 1 || r.Remaining != 0 || r.RetryAfter != 0 {
			p.failf("the place in an empty queue is %+v, want 1", r)
		}
		p.used(20, rate)
		p.used(14, other)
		p.occupied(1, 1, slot)

		// It goes, and gives all back.
		p.settle(second, 0, 0, 0)
		p.used(10, rate)
		p.used(7, other)
		p.occupied(1, 0, slot)

		// One that is granted has the slot without asking again.
		third := p.queue(slot, rate, other)
		p.settle(first, 0, 10, 7)
		p.occupied(1, 0, slot)
		p.stands(third, policy.Allowed, 0)
		p.used(20, rate)
		p.settle(third, 0, 0, 0)
		p.used(10, rate)
		p.used(7, other)
		p.occupied(0, 0, slot)
	}
}

func refusedTakesNoPlace(p *probe) {
	for _, l := range every(10, time.Hour) {
		key := "k-" + l.Name()
		slot, rate := in("w", charge(queued(1, 1), key, 1)), in("w", charge(l.CountRefused(), key, 6))
		roomy := in("w", charge(every(100, time.Hour)[0].Named("roomy").CountRefused(), key, 5))
		holder := p.admit(slot, with(0, rate)[0], roomy)
		p.admit(rate)
		for _, units := range []int64{6, 11} { // refused, and never
			for _, charges := range [][]policy.Charge{{slot, with(units, rate)[0], roomy}, {roomy, with(units, rate)[0], slot}} {
				p.refuse(charges...)
				p.occupied(1, 0, slot)
				p.used(5, roomy)
			}
		}
		p.leave(holder)
		p.refuse(slot, rate) // nor a slot
		p.occupied(0, 0, slot)

		// A full queue takes nothing elsewhere, whatever counts refusals there.
		p.reset(rate)
		p.admit(slot)
		p.queue(slot)
		p.refuse(slot, rate, roomy)
		p.refuse(roomy, rate, slot)
		p.used(0, rate)
		p.used(5, roomy)
		p.occupied(1, 1, slot)
	}
}

func refusedWithinSlot(p *probe) {
	for _, slot := range []policy.Charge{charge(policy.Concurrency(1), "k", 1), charge(queued(1, 1), "k", 1)} {
		rate := charge(policy.FixedWindow(1, time.Hour), "k", 1)
		holder := p.admit(slot, rate)
		for _, charges := range [][]policy.Charge{{slot, rate}, {rate, slot}} {
			var d policy.Decision
			if err := p.store().Take(context.Background(), holder.ticket, charges, &d); err != nil {
				p.failf("Take: error %w", err)
				return
			}
			for i, r := range d.Results {
				want := policy.Refused
				if charges[i].Limit.Lease() > 0 {
					want = policy.Allowed
				}
				if d.Verdict != policy.Refused || r.Verdict != want || r.Used != 1 {
					p.failf("a refused request that has its slot is %v, and of %s: %+v, want %v with 1 used", d.Verdict, describe(charges[i:i+1]), r, want)
				}
			}
		}
		p.stands(holder, policy.Allowed, 0)
		p.occupied(1, 0, slot)
		p.reset(rate, slot)
	}
}

func arrivalOrder(p *probe) {
	c := charge(queued(2, 5), "k", 1)
	a, b := p.admit(c), p.admit(c)
	var line []taken
	for i := range 5 {
		t := p.queue(c)
		if place := t.Results[0].Queue; place != int64(i+1) {
			p.failf("who comes after %d has place %d", i, place)
		}
		line = append(line, t)
	}
	for i, t := range line {
		p.stands(t, policy.Queued, int64(i+1))
	}
	p.leave(a)
	p.stands(line[0], policy.Allowed, 0)
	p.stands(line[1], policy.Queued, 1)
	newcomer := p.queue(c)
	p.stands(newcomer, policy.Queued, 5)
	p.leave(line[2]) // out of the middle
	p.stands(line[1], policy.Queued, 1)
	p.stands(line[3], policy.Queued, 2)
	p.stands(newcomer, policy.Queued, 4)
	p.leave(b)
	p.stands(line[1], policy.Allowed, 0)
	p.leave(line[0])
	p.leave(line[1])
	p.stands(line[3], policy.Allowed, 0)
	p.stands(line[4], policy.Allowed, 0)
	p.stands(newcomer, policy.Queued, 1)
	p.leave(line[4])
	p.stands(newcomer, policy.Allowed, 0)
	p.occupied(2, 0, c)
	p.leave(newcomer)
	p.admit(c)
}

func queueBounded(p *probe) {
	for _, length := range []int64{1, 2, 7, 100} {
		c := charge(queued(1, length), "k", 1)
		p.admit(c)
		for range length {
			p.queue(c)
		}
		for range 3 {
			r := p.refuse(c).Results[0]
			if r.Queue != length || r.Used != 1 {
				p.failf("%s, full: %+v", c.Limit, r)
			}
		}
		p.occupied(1, length, c)
		p.reset(c)
	}
}

func waitersLeased(p *probe) {
	c := charge(queued(1, 3), "k", 1)
	holder := p.admit(c)
	p.advance(400 * time.Millisecond)
	a := p.queue(c)
	b, z := p.queue(c), p.queue(c)
	p.stands(holder, policy.Allowed, 0)
	p.advance(400 * time.Millisecond)
	p.stands(b, policy.Queued, 2)
	p.advance(600*time.Millisecond - time.Microsecond)
	p.occupied(1, 3, c)
	p.refuse(c)
	p.stands(holder, policy.Allowed, 0)
	p.advance(time.Microsecond) // a and z have not been heard of for a second
	p.occupied(1, 1, c)
	p.stands(b, policy.Queued, 1)
	p.queue(c)
	p.stands(a, policy.Refused, 0)
	p.stands(z, policy.Refused, 0)
	p.leave(holder)
	p.stands(b, policy.Allowed, 0)
	// Its grant renews nothing: it is leased from when it was heard of.
	p.advance(time.Second - time.Microsecond)
	p.stands(b, policy.Allowed, 0)
}

func deadHolder(p *probe) {
	c := charge(queued(1, 3), "k", 1)
	dead := p.admit(c)
	p.advance(500 * time.Millisecond)
	first, second := p.queue(c), p.queue(c)
	p.advance(500*time.Millisecond - time.Microsecond)
	p.stands(first, policy.Queued, 1)
	p.advance(time.Microsecond)
	third := p.queue(c) // a newcomer does not get it
	p.stands(third, policy.Queued, 2)
	p.stands(first, policy.Allowed, 0)
	p.stands(second, policy.Queued, 1)
	p.stands(dead, policy.Refused, 0)
	p.leave(dead)
	p.occupied(1, 2, c)
	// Of two who died at once the second never had it.
	p.advance(500 * time.Millisecond)
	p.stands(third, policy.Queued, 2)
	p.advance(500 * time.Millisecond)
	p.occupied(1, 0, c)
	p.stands(third, policy.Allowed, 0)
	p.stands(second, policy.Refused, 0)
}

func oneQueue(p *probe) {
	a, b := charge(queued(1, 1), "a", 1), charge(queued(1, 1), "b", 1)
	plain := charge(leased(1), "c", 1)
	for _, charges := range [][]policy.Charge{{a, b}, {b, plain, a}, {a, charge(queued(1, 1).Named("other"), "a", 1)}} {
		if p.err != nil {
			return
		}
		var d policy.Decision
		p.wantError("Take of two queues", p.store().Take(context.Background(), policy.NewTicket(), charges, &d), nil)
		p.wantError("Peek of two queues", p.store().Peek(context.Background(), charges, &d), nil)
		for _, c := range charges {
			p.occupied(0, 0, c)
		}
	}
	// One queue and slots without are good.
	t := p.admit(in("w", a), in("w", plain))
	p.refuse(in("w", plain), in("w", charge(queued(1, 1), "d", 1)))
	p.settle(t, 1, 0)
	u := p.queue(in("w", a), in("w", plain))
	if v := u.Results[1].Verdict; v != policy.Allowed {
		p.failf("beside a place in a queue a free slot is %v, want allowed", v)
	}
	p.occupied(1, 0, in("w", plain))
}

func peekTakesNoSlot(p *probe) {
	c, rate := in("w", charge(queued(1, 1), "k", 1)), in("w", charge(policy.PerHour(10), "k", 1))
	for step, want := range []policy.Verdict{policy.Allowed, policy.Queued, policy.Refused, policy.Refused} {
		before := p.peek(c, rate)
		p.same("again, Peek", p.peek(c, rate), before)
		if r := before.Results[0]; r.Used != min(int64(step), 1) || r.Queue != max(0, min(int64(step)-1, 1)) {
			p.failf("step %d: Peek says %+v", step, r)
		}
		p.expect("Peek", before, want)
		p.expect("Take", p.take(c, rate), want)
	}
	p.used(2, rate)
}

// slotApart has the slot and the rate in partitions of their own.
func slotApart(p *probe) {
	for _, l := range every(10, time.Hour) {
		slot, rate := charge(queued(1, 1), "slot-"+l.Name(), 1), charge(l, "rate-"+l.Name(), 3)
		first := p.admit(slot, rate)
		second := p.queue(rate, slot)
		p.used(6, rate)
		p.occupied(1, 1, slot)

		// The queue is full, so the rate is undone.
		p.refuse(rate, slot)
		p.refuse(slot, rate)
		p.eventually(6, rate)

		// The rate is used up, so the place is.
		p.settle(second, 3, 0)
		p.admit(rate)
		p.refuse(slot, rate)
		p.refuse(rate, slot)
		p.eventuallyOccupied(1, 0, slot)
		p.leave(first)
		p.refuse(slot, rate)
		p.eventuallyOccupied(0, 0, slot)
		p.admit(slot)
	}
}

// slotsAtOnce has many ask for slots at once: each gets one, a place, or nothing.
func slotsAtOnce(p *probe) {
	c := charge(policy.Concurrency(60).WithLease(time.Hour), "k", 1)
	if got := p.concurrently(hotTakes, c); got != 60 {
		p.failf("%d Takes at once of %s admitted %d, want 60", hotTakes, c.Limit, got)
	}
	p.occupied(60, 0, c)
	c.Limit = c.Limit.WithQueue(40, time.Minute)
	if got := p.concurrently(200, c); got != 0 {
		p.failf("200 Takes at once of a full %s admitted %d", c.Limit, got)
	}
	p.occupied(60, 40, c)

	// Who leaves leaves nothing.
	const workers, rounds = 16, 20
	c = charge(policy.Concurrency(3).WithQueue(4, time.Minute).WithLease(time.Hour), "in and out", 1)
	done := make(chan error)
	for w := range workers {
		s := p.Stores[w%len(p.Stores)]
		go func() {
			var err error
			for i := 0; i < rounds && err == nil; i++ {
				err = inAndOut(s, c)
			}
			done <- err
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			p.failf("concurrently: error %w", err)
		}
	}
	p.occupied(0, 0, c)
}

// inAndOut takes a slot or a place, renews it, and leaves.
func inAndOut(s policy.Store, c policy.Charge) error {
	t := taken{ticket: policy.NewTicket(), charges: []policy.Charge{c}}
	ctx := context.Background()
	if err := s.Take(ctx, t.ticket, t.charges, &t.Decision); err != nil || t.Verdict == policy.Refused {
		return err
	}
	renewals := []policy.Renewal{{Ticket: t.ticket, Charge: c}}
	if err := s.Renew(ctx, renewals); err != nil {
		return err
	}
	return s.Settle(ctx, t.ticket, t.settlements(0))
}
