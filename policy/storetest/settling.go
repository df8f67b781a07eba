package storetest

import (
	"context"
	"math"
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 10: corrections.
var settleCases = []Case{
	{Number: 10, Name: "it gives back, whole and in part", check: givesBack},
	{Number: 10, Name: "it may exceed the limit", check: settlesBeyond},
	{Number: 10, Name: "it goes into the window that was charged", check: settlesWindow},
	{Number: 10, Name: "a bucket gives back what has not refilled", check: settlesBucket},
	{Number: 10, Name: "once per ticket", check: settlesOnce},
	{Number: 10, Name: "what was forgotten gives nothing back", check: settlesForgotten},
}

func givesBack(p *probe) {
	for _, l := range every(100, time.Hour) {
		a, b := charge(l, "a", 30), charge(l, "b", 40)
		p.align(time.Hour, 0)
		t := p.admit(a, b)
		p.admit(a)
		p.settle(t, 0, 15)
		p.used(30, a)
		p.used(15, b)
		p.settle(p.admit(a), 30) // as taken
		p.used(60, a)
		p.settle(p.admit(with(0, a)...), 5) // zero units are a charge too
		p.used(65, a)
	}
}

func settlesBeyond(p *probe) {
	for _, l := range every(10, time.Hour) {
		c := charge(l, "k", 4)
		t := p.admit(c)
		p.settle(t, 25)
		p.used(25, c)
		r := p.refuse(c)
		if r.Results[0].Remaining != 0 {
			p.failf("%s: used 25, remaining %d", l, r.Results[0].Remaining)
		}
		p.advance(r.RetryAfter() - time.Microsecond)
		p.refuse(c)
		p.advance(time.Microsecond)
		p.admit(c)

		p.reset(c)
		p.settle(p.admit(c), math.MaxInt64) // absurd, and no overflow
		if used := p.peek(c).Results[0].Used; used < policy.MaxUnits {
			p.failf("%s: settled to %d, used %d", l, int64(math.MaxInt64), used)
		}
		p.refuse(c)
	}
}

func settlesWindow(p *probe) {
	const hour = time.Hour
	sliding, fixed := charge(policy.SlidingWindow(100, hour), "k", 40), charge(policy.FixedWindow(100, hour), "k", 40)
	log := charge(policy.SlidingLog(100, hour), "k", 40)

	p.align(hour, 30*time.Minute)
	a, b, c := p.admit(sliding, fixed, log), p.admit(sliding, fixed, log), p.admit(with(10, sliding, fixed, log)...)
	p.advance(45 * time.Minute) // a quarter into the next window: 90 weigh 67.5
	p.used(68, sliding)
	p.used(0, fixed)
	p.used(90, log)
	p.admit(with(5, sliding, fixed, log)...)
	p.settle(a, 0, 0, 0) // 50 weigh 37.5
	p.used(43, sliding)
	p.used(5, fixed)
	p.used(55, log)
	p.settle(b, 60, 60, 60) // 70 weigh 52.5
	p.used(58, sliding)
	p.used(5, fixed)
	p.used(75, log)
	p.advance(15*time.Minute - time.Microsecond)
	p.used(75, log)
	p.advance(time.Microsecond) // an hour later the log has forgotten all but the 5
	p.used(5, log)
	p.settle(c, 100, 100, 100)
	p.used(5, log)
	p.used(5, fixed)
	p.used(5+80, sliding) // half of 160

	// Two windows later nothing is left to correct.
	p.reset(sliding, fixed, log)
	d := p.admit(sliding, fixed, log)
	p.advance(2 * hour)
	p.admit(with(7, sliding, fixed, log)...)
	p.settle(d, 0, 0, 0)
	for _, c := range d.charges {
		p.used(7, c)
	}
}

func settlesBucket(p *probe) {
	l := policy.TokenBucket(60, time.Minute).WithBurst(100) // one a second
	for _, tt := range []struct {
		before, taken, total int64
		after                time.Duration
		want                 int64 // used then
	}{
		{0, 50, 0, 0, 0},
		{0, 50, 0, 20 * time.Second, 0},            // 30 are left, all its own
		{20, 50, 0, 20 * time.Second, 0},           // the 20 before it refilled: 50 are left
		{20, 50, 0, 5 * time.Second, 15},           // 5 of the 20 did
		{20, 50, 0, 30 * time.Second, 0},           // 10 of the 50 too
		{20, 50, 40, 30 * time.Second, 30},         // 10 back of the 40 that are left
		{0, 50, 45, 48 * time.Second, 0},           // 5 asked, 2 are left
		{0, 50, 0, 60 * time.Second, 0},            // nothing is left
		{0, 50, 70, 20 * time.Second, 50},          // 20 more
		{10, 50, 10, 10500 * time.Millisecond, 10}, // 49.5 are left, 9.5 stay
	} {
		c := charge(l, "k", tt.before)
		p.admit(c)
		c.Units = tt.taken
		t := p.admit(c)
		p.advance(tt.after)
		p.settle(t, tt.total)
		if p.used(tt.want, c); p.err != nil {
			p.failf("%+v", tt)
		}
		p.reset(c)
	}
	// What somebody else took since is not given back.
	c := charge(l, "k", 50)
	t := p.admit(c)
	p.advance(40 * time.Second)
	p.admit(c)
	p.settle(t, 0)
	p.used(50, c)
	p.advance(60 * time.Second)
	p.admit(c)
	p.settle(t, 0)
	p.used(50, c)
}

func settlesOnce(p *probe) {
	for _, l := range every(100, 24*time.Hour) {
		c := charge(l, "k", 10)
		p.align(24*time.Hour, time.Hour)
		t, u := p.admit(c), p.admit(c)
		p.admit(with(50, c)...)
		for range 3 {
			p.settle(t, 4)
		}
		p.used(64, c)
		p.settle(u, 12) // another ticket
		p.used(66, c)
		used := p.peek(c).Results[0].Used
		for range 4 {
			p.advance(14 * time.Second)
			p.settle(t, 4)
			p.settle(u, 12)
		}
		// 56 seconds refill less than a unit of 100 a day.
		p.used(used, c)
	}
	p.settlesOnceAtOnce()
}

// settlesOnceAtOnce sends one settlement from everywhere at the same time.
func (p *probe) settlesOnceAtOnce() {
	c := charge(policy.FixedWindow(100, 24*time.Hour), "at once", 40)
	p.admit(c)
	t := p.admit(c)
	done := make(chan error)
	const senders = 16
	for i := range senders {
		s := p.Stores[i%len(p.Stores)]
		go func() { done <- s.Settle(context.Background(), t.ticket, t.settlements(35)) }()
	}
	for range senders {
		if err := <-done; err != nil {
			p.failf("concurrent Settle: error %w", err)
		}
	}
	p.used(75, c)
}

func settlesForgotten(p *probe) {
	for _, l := range every(10, time.Minute) {
		c := charge(l, "k", 5)
		t := p.admit(c)
		p.reset(c)
		p.used(0, c)
		p.settle(t, 0)
		p.used(0, c)
		t = p.admit(c)
		p.advance(time.Hour)
		p.settle(t, 0)
		p.used(0, c)
		p.admit(with(10, c)...)
		p.refuse(c)
		p.reset(c)
	}
}
