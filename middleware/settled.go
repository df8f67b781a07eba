package middleware

import (
	"time"

	"github.com/stint-go/stint/policy"
)

// settled returns how a charge stands once it is settled, without asking the
// store again: what it took, and what it should have taken, of a result of the
// instant now. Used and Remaining are exact if nobody else took anything since.
// So is the rest for a bucket, which tells its state in the receipt, and for what
// nobody had used before. For others, when there is more is as it was.
func settled(l policy.Limit, r policy.Result, now time.Time, taken, total int64) policy.Result {
	var s policy.State
	before := r.Used - taken
	if before > 0 && l.Algorithm() == policy.AlgorithmTokenBucket {
		s = policy.State{At: r.Receipt.At, A: r.Receipt.A, B: r.Receipt.B}
		s.Until = l.DrainedAt(s)
	}
	if before <= 0 || l.Algorithm() == policy.AlgorithmTokenBucket {
		s, then := l.Take(s, r.Receipt.At, taken)
		if then.Verdict == policy.Allowed && then.Used == r.Used {
			_, then = l.Settle(s, max(now.UnixMicro(), r.Receipt.At), then.Receipt, taken, total)
			r.Used, r.Remaining, r.ResetAfter, r.NextAfter = then.Used, then.Remaining, then.ResetAfter, then.NextAfter
			return r
		}
	}
	const most = 1 << 60
	r.Used = max(0, before+min(total, most))
	r.Remaining = max(0, r.Capacity-r.Used)
	if r.Used == 0 {
		r.ResetAfter, r.NextAfter = 0, 0
	}
	return r
}
