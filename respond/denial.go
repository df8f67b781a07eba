package respond

import (
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/stint-go/stint/policy"
)

// MaxRetryAfter is the most seconds that a Retry-After field says: more
// milliseconds than 31 bits hold make some clients retry at once.
const MaxRetryAfter = math.MaxInt32 / 1000

// A Denial is why a request was refused. [Deny] makes one from a [Report].
//
// The Denial that a [Refusal] gets is complete: its Status is the one that is
// sent, and its RetryAfter has the style's jitter in it.
type Denial struct {
	// Reason is the code for programs.
	Reason Reason

	// Status is the HTTP status: 429. [Style.Status] stands in for a 429, for no
	// other status. Zero, and what is not an error status, means the reason's.
	Status int

	// Standing is that of the binding limit. It is zero if the reason is not
	// about a limit, as for no_key.
	Standing Standing

	// RetryAfter is how long to wait before coming back: 11.3s. It is exact, and
	// zero if waiting does not help. For slots and for a store that failed it is
	// a suggestion.
	RetryAfter time.Duration

	// Reduced tells that every limit that refused did so only because a scale
	// reduces it: whole, it would have had room. [Style.ReducedStatus] is about
	// those, and [Problem] says it.
	Reduced bool

	// Now is the instant of the decision: that of the report, or the local clock
	// if the store gave none.
	Now time.Time

	// Detail is a sentence for people. It is sent as it is, so it must not hold
	// an error's text.
	Detail string
}

// Deny returns the denial for the reason: its status, the binding standing, how
// long to wait, and a sentence. An empty reason means that of the binding
// standing, and [RateLimitExceeded] if that refuses nothing.
//
// The report is not changed: what remains is r.Denial = Deny(reason, r).
func Deny(reason Reason, r *Report) *Denial {
	if r == nil {
		r = &Report{}
	}
	binding := r.Binding()
	if binding == nil {
		binding = &Standing{}
	}
	if reason == "" {
		reason = binding.Reason()
	}
	if reason == "" {
		reason = RateLimitExceeded
	}
	d := &Denial{Reason: reason, Status: reason.Status(), Now: r.Now}
	if reason.hasLimit() {
		d.Standing = *binding
	}
	d.Reduced = reason == RateLimitExceeded && reduced(r.Standings)
	if d.Now.IsZero() {
		d.Now = time.Now()
	}
	d.RetryAfter = retryAfter(reason, binding.Result)
	if reason == Blocked { // it binds, however long another limit has to be waited for
		for i := range r.Standings {
			d.RetryAfter = max(d.RetryAfter, r.Standings[i].Result.RetryAfter)
		}
	}
	d.Detail = detail(reason, d.Standing.Limit)
	if d.Reduced {
		d.Detail = strings.TrimSuffix(d.Detail, ".") + ", which is reduced for a while."
	}
	return d
}

// reduced tells whether all limits that refuse do so for their scale alone.
func reduced(standings []Standing) bool {
	any := false
	for i := range standings {
		switch r := &standings[i].Result; {
		case r.Verdict <= policy.Queued:
		case !r.Reduced:
			return false
		default:
			any = true
		}
	}
	return any
}

// Seconds returns what the Retry-After field says: RetryAfter in whole seconds,
// rounded up, at least 1 and at most [MaxRetryAfter]. It is 0 if there is no
// such field.
func (d Denial) Seconds() int64 {
	if d.RetryAfter <= 0 {
		return 0
	}
	return min(ceilSeconds(d.RetryAfter), MaxRetryAfter)
}

// RetryAt returns the first whole second at which to come back, in UTC. It is
// the zero Time if waiting does not help.
func (d Denial) RetryAt() time.Time {
	if d.RetryAfter <= 0 {
		return time.Time{}
	}
	return time.Unix(ceilUnix(d.Now.Add(d.RetryAfter)), 0).UTC()
}

// told returns the denial as it is told: with the status that is sent, and up
// to jitter more to wait.
func (d Denial) told(instead429, reduced int, jitter time.Duration) Denial {
	if !isErrorStatus(d.Status) {
		d.Status = d.Reason.Status()
	}
	switch {
	case d.Status != http.StatusTooManyRequests:
	case d.Reduced && isErrorStatus(reduced):
		d.Status = reduced
	case isErrorStatus(instead429):
		d.Status = instead429
	}
	if d.RetryAfter > 0 && jitter > 0 {
		jitter = min(jitter, math.MaxInt64-d.RetryAfter)
		d.RetryAfter += time.Duration(rand.Uint64N(uint64(jitter) + 1))
	}
	return d
}

// retryAfter returns the wait that goes with a reason and the binding result.
func retryAfter(reason Reason, binding policy.Result) time.Duration {
	switch {
	case reason == StoreUnavailable:
		return max(binding.RetryAfter, time.Second)
	case reason == CostTooHigh, !reason.hasLimit(), binding.Verdict == policy.Never:
		return 0
	case binding.RetryAfter > 0, reason == Blocked:
		return binding.RetryAfter
	}
	return time.Second // nobody knows when a slot comes free
}

func detail(reason Reason, l policy.Limit) string {
	switch reason {
	case RateLimitExceeded, QuotaExceeded:
		return "Over the limit" + ofLimit(l) + "."
	case ConcurrencyExceeded:
		return "Too many requests at once."
	case QueueFull:
		return "Too many requests are waiting."
	case QueueTimeout:
		return "Waited too long for others to finish."
	case Blocked:
		return "Blocked after too many failures."
	case CostTooHigh:
		return "More than the limit" + ofLimit(l) + " ever admits at once."
	case NoKey:
		return "The request does not say whose it is."
	case InvalidCost:
		return "The request's cost could not be told."
	case InvalidBatch:
		return "The body is not a valid batch."
	case BatchTooLarge:
		return "The batch has too many items."
	case BodyTooLarge:
		return "The body is too large."
	case InvalidQuery:
		return "The request is not a valid GraphQL request."
	case QueryTooComplex:
		return "The query is too complex."
	case UnknownQuery:
		return "The persisted query is not known."
	case StoreUnavailable:
		return "Limits cannot be checked right now."
	case Misconfigured:
		return "The service is misconfigured."
	}
	return ""
}

// ofLimit returns " of 60 per minute", without how it is counted.
func ofLimit(l policy.Limit) string {
	if l.Algorithm() == 0 {
		return ""
	}
	numbers, _, _ := strings.Cut(l.String(), ",")
	return " of " + numbers
}

// isErrorStatus also keeps out what net/http panics on.
func isErrorStatus(code int) bool { return 400 <= code && code <= 599 }

// ceilSeconds returns d in whole seconds, rounded up.
func ceilSeconds(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64((d-1)/time.Second) + 1
}

// ceilUnix returns the first whole second since 1970 that is not before t.
func ceilUnix(t time.Time) int64 {
	if t.Nanosecond() > 0 {
		return t.Unix() + 1
	}
	return t.Unix()
}
