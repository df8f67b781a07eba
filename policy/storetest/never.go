package storetest

import (
	"math"
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 8: some waits would never end.
var neverCases = []Case{
	{Number: 8, Name: "never has no wait", check: neverWaits},
}

func neverWaits(p *probe) {
	limits := every(10, time.Minute)
	limits = append(limits, policy.TokenBucket(100, time.Minute).WithBurst(10).Named("burst"))
	for _, l := range limits {
		for _, units := range []int64{11, policy.MaxUnits, 1<<53 + 1, math.MaxInt64} {
			c := charge(l, "k", units)
			for _, charges := range [][]policy.Charge{{c}, {c, c}, {charge(l, "k", 1), c}, {c, charge(policy.PerDay(5), "k", 1)}} {
				for _, t := range []taken{p.take(charges...), p.peek(charges...)} {
					p.expect("Take", t, policy.Refused)
					for i, r := range t.Results {
						if charges[i].SameState(&c) && (r.Verdict != policy.Never || r.RetryAfter != 0) {
							p.failf("%s: %v, wait %v, want never and no wait", describe(charges), r.Verdict, r.RetryAfter)
						}
					}
					if t.RetryAfter() != 0 {
						p.failf("%s: wait %v for what can never be", describe(charges), t.RetryAfter())
					}
				}
			}
			p.used(0, c)
		}
	}
}
