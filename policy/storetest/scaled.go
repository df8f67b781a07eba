package storetest

import (
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentences 5, 8 and 17, of limits that a scale reduces.
var scaleCases = []Case{
	{Number: 5, Name: "what only the whole limit holds waits until nothing is used", check: scaledWaits},
	{Number: 8, Name: "a scale makes nothing never", check: scaledIsNotNever},
	{Number: 17, Name: "a scale keeps the usage", check: scaledUsage},
}

const half = policy.Whole / 2

func scaledIsNotNever(p *probe) {
	for _, l := range append(every(10, time.Minute), policy.TokenBucket(100, time.Minute).WithBurst(10).Named("burst")) {
		c := charge(l.Scaled(half), "k", 6)
		r := p.admit(c).Results[0] // nothing was used, and it is charged in full
		if r.Used != 6 || r.Remaining != 0 || r.Capacity != 5 || r.Limit != l.N()/2 {
			p.failf("6 of %s: %+v", c.Limit, r)
		}
		p.reset(c)
		p.admit(with(10, c)...)
		p.reset(c)
		if r := p.refuse(with(11, c)...).Results[0]; r.Verdict != policy.Never || r.RetryAfter != 0 {
			p.failf("11 of %s: %v, wait %v, want never", c.Limit, r.Verdict, r.RetryAfter)
		}
		p.used(0, c)
		p.admit(with(3, c, c)...) // they are summed, as ever
		p.used(6, c)
		p.reset(c)
	}
}

func scaledWaits(p *probe) {
	limits := append(every(10, time.Minute), policy.TokenBucket(7, time.Second).WithBurst(10).Named("burst"))
	for _, l := range limits {
		limits = append(limits, l.Named("counted-"+l.Name()).CountRefused())
	}
	for _, l := range limits {
		for _, units := range []int64{5, 6, 10} {
			c := charge(l.Scaled(half), "k", 1)
			p.align(time.Minute, 7*time.Second)
			p.admit(c)
			c.Units = units
			r := p.refuse(c).Results[0]
			if r.Reduced != (r.Used+units <= 10) {
				p.failf("%d of %s after %d: Reduced is %v", units, c.Limit, r.Used, r.Reduced)
			}
			p.advance(r.RetryAfter - time.Microsecond)
			early := p.peek(c)
			p.expect("a microsecond early, Peek", early, policy.Refused)
			if got := early.RetryAfter(); got != time.Microsecond {
				p.failf("%s: after all but 1µs of a wait of %v it is another %v", c.Limit, r.RetryAfter, got)
			}
			p.advance(time.Microsecond)
			p.admit(c)
			p.used(units, c)
			p.reset(c)
		}
	}
}

func scaledUsage(p *probe) {
	for _, l := range every(10, time.Hour) {
		c := charge(l, "k", 5)
		p.align(time.Hour, 0)
		p.admit(c)
		c.Limit = l.Scaled(half) // at the next request
		r := p.refuse(with(1, c)...).Results[0]
		if r.Used != 5 || r.Remaining != 0 || r.Limit != 5 || !r.Reduced {
			p.failf("%s after 5: %+v", c.Limit, r)
		}
		c.Limit = l.Scaled(1)
		p.refuse(with(1, c)...)
		c.Limit = l.Scaled(policy.Whole)
		p.admit(with(5, c)...)
		p.used(10, c)
	}
}
