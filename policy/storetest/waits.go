package storetest

import (
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 4: one clock.
var clockCases = []Case{
	{Number: 4, Name: "decisions tell the store's time", check: storeTime},
	{Number: 4, Name: "a clock set back neither refills nor refunds", check: clockSetBack},
}

func storeTime(p *probe) {
	c := charge(policy.TokenBucket(10, time.Minute), "k", 10)
	for _, at := range []time.Time{
		start,
		time.Date(2030, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
		time.Date(2062, 2, 29, 0, 0, 0, 1000, time.UTC),
	} {
		p.clock.set(at.UnixMicro())
		p.admit(c)
		for range len(p.Stores) + 1 {
			if got := p.peek(c).Now; !got.Equal(at) && p.err == nil {
				p.failf("decided at %v, want the time of the store's clock, %v", got, at)
			}
			if r := p.refuse(c); r.RetryAfter() != time.Minute {
				p.failf("stores differ about the time: wait %v, want 1m", r.RetryAfter())
			}
		}
	}
}

func clockSetBack(p *probe) {
	p.align(time.Minute, 10*time.Second)
	for _, l := range every(10, time.Minute) {
		c := charge(l, "k", 10)
		p.admit(c)
		p.advance(-900 * time.Millisecond)
		p.used(10, c)
		wait := p.refuse(c).RetryAfter()
		p.advance(wait - time.Microsecond)
		p.refuse(c)
		p.advance(time.Microsecond)
		p.admit(c)
		p.align(time.Minute, 10*time.Second)
	}
}

// Sentence 5: waits are exact.
var waitCases = []Case{
	{Number: 5, Name: "one microsecond less is refused", check: exactWaits},
	{Number: 5, Name: "the longest wait of a request", check: longestWait},
	{Number: 5, Name: "the wait for the next unit and the reset", check: otherWaits},
}

// waitLimits are limits of all algorithms with numbers that do not divide.
func waitLimits() []policy.Limit {
	var limits []policy.Limit
	for _, n := range []struct {
		n      int64
		window time.Duration
	}{
		{1, time.Millisecond},
		{3, time.Second},
		{7, 13_000_003 * time.Microsecond},
		{1000, 7 * time.Microsecond * 1009},
		{10_000, 24 * time.Hour},
		{999_999_999_989, 366 * 24 * time.Hour},
	} {
		for _, l := range every(n.n, n.window) {
			if l.Validate() == nil {
				limits = append(limits, l, l.Named("counted-"+l.Name()).CountRefused())
			}
		}
		limits = append(limits, policy.TokenBucket(n.n, n.window).WithBurst(max(1, n.n/3)).Named("spaced-"+n.window.String()))
	}
	return limits
}

func exactWaits(p *probe) {
	for _, l := range waitLimits() {
		capacity := l.Capacity()
		for _, units := range []int64{1, (capacity + 1) / 2, capacity} {
			c := charge(l, "k", units)
			c.Scope = policy.NewScope("waits", string(rune('a'+units%26)))
			// Fill it in two goes, an odd part of its window apart.
			part := charge(l, "k", max(1, capacity/3))
			part.Scope = c.Scope
			p.admit(part)
			p.advance(l.Window() / 7 / time.Microsecond * time.Microsecond)
			part.Units = p.peek(part).Results[0].Remaining
			p.admit(part)

			r := p.refuse(c)
			wait := r.RetryAfter()
			p.advance(wait - time.Microsecond)
			early := p.peek(c)
			p.expect("a microsecond early, Peek", early, policy.Refused)
			if got := early.RetryAfter(); got != time.Microsecond {
				p.failf("%s: after all but 1µs of a wait of %v it is another %v", l, wait, got)
			}
			if !l.CountsRefused() {
				p.refuse(c)
			}
			p.advance(time.Microsecond)
			p.admit(c)
			p.reset(c)
		}
	}
}

func longestWait(p *probe) {
	p.align(time.Hour, time.Minute)
	second, hour := charge(policy.FixedWindow(5, time.Second), "k", 5), charge(policy.TokenBucket(60, time.Hour), "k", 60)
	free := charge(policy.SlidingLog(100, time.Hour), "k", 1)
	p.admit(second, hour, free)
	r := p.refuse(second, hour, free)
	if b := r.Binding(); b != 1 || r.RetryAfter() != time.Hour {
		p.failf("result %d binds, with a wait of %v; want 1, with 1h; %+v", b, r.RetryAfter(), r.Results)
	}
	p.advance(time.Hour - time.Microsecond)
	p.refuse(second, hour, free)
	p.advance(time.Microsecond)
	p.admit(second, hour, free)
}

func otherWaits(p *probe) {
	for _, l := range waitLimits() {
		c := charge(l, "k", max(1, l.Capacity()/2))
		p.admit(c)
		c.Units = 0
		r := p.peek(c).Results[0]
		p.advance(r.NextAfter - time.Microsecond)
		if got := p.peek(c).Results[0].Remaining; got > r.Remaining {
			p.failf("%s: Remaining grew from %d to %d a microsecond before NextAfter, %v", l, r.Remaining, got, r.NextAfter)
		}
		p.advance(time.Microsecond)
		if got := p.peek(c).Results[0].Remaining; got <= r.Remaining {
			p.failf("%s: Remaining is %d still after NextAfter, %v", l, got, r.NextAfter)
		}
		if l.Algorithm() != policy.AlgorithmSlidingWindow {
			p.advance(r.ResetAfter - r.NextAfter)
			p.used(0, c)
		}
		p.reset(c)
	}
}
