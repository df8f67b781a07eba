package respond

import (
	"time"

	"github.com/stint-go/stint/policy"
)

// A Report is all there is to tell about one request: how it stands with every
// limit that it met and, if it was refused, why.
type Report struct {
	// Now is the instant of the decision, by the store's clock.
	Now time.Time

	// Standings has an entry for each limit that was decided, in the order of
	// limiters, rules and limits. A limit whose store failed has none.
	Standings []Standing

	// Denial says why the request was refused. It is nil if it was not.
	Denial *Denial

	// Details tells that the client asks for them, by what [Style.DetailsOn]
	// names.
	Details bool

	memo *memo // what fields said of the report's last request; nil if there was none
}

// Reset empties the report for another request, and lets its memory be used again:
// that of Standings, and the texts of the last fields, which are written once for
// as long as they stay the same. From then on WriteFields changes the report, so
// that one goroutine at a time may use it.
func (r *Report) Reset() {
	for i := range r.Standings { // the rest of them is the rules'
		if st := &r.Standings[i]; st.Parts != nil {
			st.Parts = nil
		}
	}
	r.Now, r.Standings, r.Details = time.Time{}, r.Standings[:0], false
	if r.Denial != nil {
		r.Denial = nil
	}
	if r.memo == nil {
		r.memo = new(memo)
	}
}

// A Standing is how a request stands with one limit.
type Standing struct {
	Limiter string        // name of the limiter: "api"
	Rule    string        // name of the rule: "per_key"
	Scope   string        // what clients are told of whose count it is; empty means Rule
	Limit   policy.Limit  // 60 per minute
	Result  policy.Result // 48 of 60 remaining

	// Cost is what the request costs under the rule, in units: what was asked,
	// refused or not, or what was settled by now.
	Cost int64

	// Parts are what the cost is made of, and add up to it. They are nil for a
	// rule that knows no parts.
	Parts Costs
}

// Reason returns why the standing refuses: [CostTooHigh], [QuotaExceeded], for
// slots [ConcurrencyExceeded] or, if they have a queue, [QueueFull], for a lock-out
// [Blocked] or, if it is full of tries, [ConcurrencyExceeded], and otherwise
// [RateLimitExceeded]. It is nothing if it does not refuse.
func (s *Standing) Reason() Reason {
	switch s.Result.Verdict {
	case policy.Never:
		return CostTooHigh
	case policy.Refused:
		switch s.Limit.Algorithm() {
		case policy.AlgorithmQuota:
			return QuotaExceeded
		case policy.AlgorithmConcurrency:
			if length, _ := s.Limit.Queue(); length > 0 {
				return QueueFull
			}
			return ConcurrencyExceeded
		case policy.AlgorithmLockout:
			if s.Result.Blocked {
				return Blocked
			}
			return ConcurrencyExceeded
		}
		return RateLimitExceeded
	}
	return ""
}

// unlimited tells whether the standing is that of an unlimited quota, which binds
// nobody and is not told.
func (s *Standing) unlimited() bool { return s.Limit.N() == policy.Unlimited }

// Binding returns the standing that binds the client most, by
// [policy.Result.Tighter], the first of several. It is nil if there is none.
func (r *Report) Binding() *Standing {
	var binding *Standing
	for i := range r.Standings {
		if binding == nil || r.Standings[i].Result.Tighter(binding.Result) {
			binding = &r.Standings[i]
		}
	}
	return binding
}
