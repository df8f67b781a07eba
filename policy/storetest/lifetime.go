package storetest

import (
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 11: lifetimes, as far as answers show them.
var lifetimeCases = []Case{
	{Number: 11, Name: "it matters to the last microsecond", check: livesLong},
	{Number: 11, Name: "a short limit beside a long one", check: livesBeside},
}

func livesLong(p *probe) {
	const day = 24 * time.Hour
	limits := every(7, policy.MaxWindow)
	limits = append(limits, every(7, policy.MinWindow)...)
	limits = append(limits, policy.TokenBucket(1, policy.MaxWindow).WithBurst(7).Named("years"), policy.PerDay(7), policy.SlidingLog(7, 30*day))
	for _, l := range limits {
		c := charge(l, "k", 7)
		p.admit(c)
		c.Units = 1
		t := p.peek(c)
		p.advance(t.RetryAfter() - time.Microsecond)
		p.refuse(c)
		p.advance(time.Microsecond)
		p.admit(c)

		// When it has drained, it is as if it had never been.
		for range 20 { // 7 units come back one by one
			p.advance(p.peek(c).Results[0].NextAfter)
		}
		never := c
		never.Key = "never seen"
		p.same("when drained, Peek", p.peek(c), p.peek(never))
		p.same("when drained, Take", p.take(with(7, c)...), p.take(with(7, never)...))
		p.reset(c, never)
	}
}

// livesBeside has a limit of milliseconds come and go under the key of one of
// days, whose state must not go with it.
func livesBeside(p *probe) {
	for i, long := range every(1000, 30*24*time.Hour) {
		short := charge(every(2, 5*time.Millisecond)[(i+1)%4], "k", 2)
		c := charge(long, "k", 100)
		p.align(30*24*time.Hour, 0)
		p.admit(c)
		for range 5 {
			p.admit(short)
			p.advance(20 * time.Millisecond)
			p.used(100, c)
			p.used(0, short)
		}
		p.reset(short)
		p.used(100, c)
		p.reset(c)
		p.used(0, c)
	}
}
