package policy_test

import (
	"math/big"
	"time"

	"github.com/stint-go/stint/policy"
)

// An oracle knows what was charged under a limit and when, and derives what
// counts at an instant from that history alone, in rational numbers. It shares
// no formula with the package: a bucket, for one, is the maximum over all
// beginnings of a busy span of what came in since less what ran out since.
type oracle struct {
	limit   policy.Limit
	history []policy.Entry
}

// used is what counts at an instant.
func (o *oracle) used(at int64) *big.Rat {
	at = max(at, o.last())
	window := o.limit.Window().Microseconds()
	sum := new(big.Rat)
	switch o.limit.Algorithm() {
	case policy.AlgorithmTokenBucket:
		since := new(big.Rat)
		for i := len(o.history) - 1; i >= 0; i-- {
			since.Add(since, units(o.history[i].Units))
			out := new(big.Rat).Mul(big.NewRat(at-o.history[i].At, window), units(o.limit.N()))
			if level := new(big.Rat).Sub(since, out); level.Cmp(sum) > 0 {
				sum = level
			}
		}
	case policy.AlgorithmSlidingWindow:
		for _, e := range o.history {
			switch at/window - e.At/window {
			case 0:
				sum.Add(sum, units(e.Units))
			case 1:
				left := window - (at - at/window*window)
				sum.Add(sum, new(big.Rat).Mul(units(e.Units), big.NewRat(left, window)))
			}
		}
	case policy.AlgorithmSlidingLog:
		for _, e := range o.history {
			if at-window < e.At {
				sum.Add(sum, units(e.Units))
			}
		}
	case policy.AlgorithmFixedWindow:
		for _, e := range o.history {
			if at/window == e.At/window {
				sum.Add(sum, units(e.Units))
			}
		}
	}
	return sum
}

// verdict is what a take of n units at an instant has to be answered.
func (o *oracle) verdict(at, n int64) policy.Verdict {
	capacity, used := units(o.limit.Capacity()), o.used(at)
	switch {
	case n > o.limit.Whole().Capacity():
		return policy.Never
	case n > o.limit.Capacity() && used.Sign() > 0: // a scaled limit has room for it once nothing is used
		return policy.Refused
	case n > 0 && n <= o.limit.Capacity() && new(big.Rat).Add(used, units(n)).Cmp(capacity) > 0:
		return policy.Refused
	}
	return policy.Allowed
}

// take answers, and charges what was admitted, or what a refusal costs.
func (o *oracle) take(at, n int64) policy.Verdict {
	v := o.verdict(at, n)
	switch {
	case v == policy.Refused && o.limit.CountsRefused():
		n = min(n, 2*o.limit.Capacity()-ceil(o.used(at)))
	case v != policy.Allowed:
		n = 0
	}
	if n > 0 {
		o.history = append(o.history, policy.Entry{At: max(at, o.last()), Units: n})
	}
	return v
}

// last is the instant of the last charge. Time does not run back behind it.
func (o *oracle) last() int64 {
	if len(o.history) == 0 {
		return 0
	}
	return o.history[len(o.history)-1].At
}

func units(n int64) *big.Rat { return new(big.Rat).SetInt64(n) }

func ceil(r *big.Rat) int64 {
	q, m := new(big.Int).DivMod(r.Num(), r.Denom(), new(big.Int))
	if m.Sign() > 0 {
		q.Add(q, big.NewInt(1))
	}
	return q.Int64()
}

func micros(d time.Duration) int64 { return int64(d / time.Microsecond) }
