package storetest

import (
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 9: asking is free.
var peekCases = []Case{
	{Number: 9, Name: "peek answers as take would", check: peekAsTake},
}

func peekAsTake(p *probe) {
	for i, l := range every(10, time.Hour) {
		l = l.CountRefused()
		c, other := charge(l, "k", 4), charge(every(50, time.Minute)[(i+1)%4], "k", 1)
		for step := range 8 {
			var peeks []taken
			for range 3 {
				peeks = append(peeks, p.peek(c, other))
			}
			p.same("again, Peek", peeks[1], peeks[0])
			p.same("a third time, Peek", peeks[2], peeks[0])
			t := p.take(c, other)
			p.expect("Peek", peeks[0], t.Verdict)
			for j, r := range t.Results {
				asked, units := peeks[0].Results[j], int64(0)
				switch {
				case t.Verdict == policy.Allowed:
					units = t.charges[j].Units
				case r.Verdict == policy.Refused:
					units = min(4, 20-asked.Used)
				}
				if asked.Verdict != r.Verdict || asked.Used+units != r.Used {
					p.failf("step %d: Peek said %+v, Take %+v", step, asked, r)
				}
			}
			p.advance(time.Duration(step) * 3 * time.Minute)
		}
	}
}
