package storetest

import (
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 7: refusals may be charged.
var penaltyCases = []Case{
	{Number: 7, Name: "up to twice the capacity", check: penaltyCap},
	{Number: 7, Name: "only by the limit that refused and asks for it", check: penaltyAlone},
}

func penaltyCap(p *probe) {
	limits := every(10, time.Hour)
	limits = append(limits, policy.TokenBucket(100, time.Hour).WithBurst(10).Named("burst"))
	for _, l := range limits {
		c := charge(l.CountRefused(), "k", 10)
		p.admit(c)
		c.Units = 4
		for _, want := range []int64{14, 18, 20, 20} {
			if r := p.refuse(c).Results[0]; r.Used != want || r.Remaining != 0 {
				p.failf("%s after a refusal: used %d, remaining %d, want %d and 0", l, r.Used, r.Remaining, want)
			}
			p.used(want, c)
		}
		c.Units = 11 // never
		p.refuse(c)
		p.used(20, c)
		c.Units = 4
		p.advance(p.peek(c).RetryAfter())
		p.admit(c)
	}
}

func penaltyAlone(p *probe) {
	for i, l := range every(10, time.Hour) {
		counted := charge(l.Named("counted").CountRefused(), "k", 10)
		plain := charge(every(10, time.Hour)[(i+1)%4].Named("plain"), "k", 10)
		roomy := charge(every(100, time.Hour)[(i+2)%4].Named("roomy").CountRefused(), "k", 10)
		p.admit(counted, plain, roomy)
		t := p.refuse(with(3, counted, plain, roomy)...)
		for j, want := range []int64{13, 10, 10} {
			if got := t.Results[j].Used; got != want {
				p.failf("%s: result %d says used %d, want %d", l, j, got, want)
			}
		}
		p.used(13, counted)
		p.used(10, plain)
		p.used(10, roomy)
		// Charges on one state are one refusal.
		p.refuse(with(2, counted, counted)...)
		p.used(17, counted)
		// Asking does not count.
		p.peek(with(3, counted)...)
		p.used(17, counted)
	}
}
