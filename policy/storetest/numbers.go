package storetest

import (
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 17: limits whose numbers change.
var numbersCases = []Case{
	{Number: 17, Name: "usage stays", check: usageStays},
	{Number: 17, Name: "another algorithm, window or name starts afresh", check: startsAfresh},
}

func usageStays(p *probe) {
	hundred, ten, two := every(100, time.Hour), every(10, time.Hour), every(2, time.Hour)
	for i := range hundred {
		c := charge(ten[i], "k", 8)
		p.align(time.Hour, 0)
		p.admit(c)

		c.Limit = hundred[i] // an upgrade applies at once, and grants no fresh share
		r := p.admit(with(60, c)...).Results[0]
		if r.Used != 68 || r.Remaining != 32 || r.Limit != 100 {
			p.failf("%s after 8 and 60: %+v", c.Limit, r)
		}
		p.refuse(with(33, c)...)

		c.Limit = two[i] // a downgrade too
		r = p.refuse(with(1, c)...).Results[0]
		if r.Used != 68 || r.Remaining != 0 || r.Limit != 2 {
			p.failf("%s after 68: %+v", c.Limit, r)
		}
		c.Limit = hundred[i].CountRefused()
		p.used(68, c)
		c.Limit = hundred[i]
		p.admit(with(32, c)...)
	}
	bucket := charge(policy.TokenBucket(10, time.Hour), "burst", 10)
	p.admit(bucket)
	bucket.Limit = bucket.Limit.WithBurst(25)
	p.admit(with(15, bucket)...)
	p.refuse(with(1, bucket)...)
	p.advance(6 * time.Minute)
	p.admit(with(1, bucket)...)
	p.used(25, bucket)
	bucket.Limit = policy.TokenBucket(100, time.Hour) // refills faster from now on
	p.advance(6 * time.Minute)
	p.used(15, bucket)
}

func startsAfresh(p *probe) {
	var charges []policy.Charge
	for _, window := range []time.Duration{time.Hour, time.Hour + time.Microsecond, time.Minute} {
		for _, l := range every(10, window) {
			charges = append(charges, charge(l.Named("same"), "k", 6), charge(l.Named("other"), "k", 7))
		}
	}
	for i, c := range charges {
		p.used(0, c)
		p.admit(c)
		for _, before := range charges[:i] {
			p.used(before.Units, before)
		}
	}
}
