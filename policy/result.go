package policy

import (
	"math/bits"
	"strconv"
	"time"
)

// A Verdict is what was decided, about one charge or about all of a request's.
type Verdict uint8

const (
	// Unknown is the zero Verdict: nothing was decided.
	Unknown Verdict = iota

	// Allowed means that there was room.
	Allowed

	// Queued means that the request has a place in the queue for a slot.
	Queued

	// Refused means that there was none yet: RetryAfter says when, if it is known.
	Refused

	// Never means that more units were asked than the limit can ever admit at
	// once. Waiting does not help.
	Never
)

// String returns "allowed", "refused" and so on.
func (v Verdict) String() string {
	switch v {
	case Unknown:
		return "unknown"
	case Allowed:
		return "allowed"
	case Queued:
		return "queued"
	case Refused:
		return "refused"
	case Never:
		return "never"
	}
	return "Verdict(" + strconv.Itoa(int(v)) + ")"
}

// A Result is what one limit had to say to one charge. The numbers beside the
// fields are those of a TokenBucket(60, time.Minute).WithBurst(120) that was
// full, and of which 90 units were just taken.
type Result struct {
	// Verdict is Allowed, Queued, Refused or Never. A charge may be Allowed and
	// its request refused by another: then nothing was taken here either.
	Verdict Verdict

	// Overflow tells that the store had no room left for this key, and counted
	// it in a state that the rule's new keys share.
	Overflow bool

	// Reduced tells that a charge was Refused for its limit's scale alone: by what
	// is used, the whole limit would have room ([Limit.Scaled]).
	Reduced bool

	// Blocked tells that a [Lockout] refuses for the failures there were, until
	// RetryAfter is over.
	Blocked bool

	// Limit is the documented number: 60.
	Limit int64

	// Capacity is the most that could ever be admitted at once: 120.
	Capacity int64

	// Used is what counts against Capacity now, rounded up: 90. It can exceed
	// Capacity after a Settle or a lowered limit.
	Used int64

	// Remaining is what could be taken now, never below zero: 30.
	Remaining int64

	// RetryAfter is how long a client that is alone with its limit has to wait
	// until the units it asked for are admitted: 0 here. It is exact to the
	// microsecond, and set for Refused only. For slots it is 0, since nobody knows
	// when one comes free, and so it is for a [Lockout] that is full of tries.
	RetryAfter time.Duration

	// ResetAfter is how long until the bucket is full, or the window ends: 90s.
	// For a Refused charge it is RetryAfter, if that is known.
	ResetAfter time.Duration

	// NextAfter is how long until Remaining grows by one, if nothing else is
	// taken: 1s. It is 0 while nothing is used.
	NextAfter time.Duration

	// Queue is, of a charge that was Queued, its place in the queue: 1 is the
	// next one. Otherwise, and where nothing was taken, it is how many wait for a
	// slot.
	Queue int64

	// Receipt says where an allowed or queued charge went, for Settle.
	Receipt Receipt
}

// A Receipt says where a charge went: the instant it was taken and what the
// limit's state was before, as far as a later [Limit.Settle] has to know. Its
// numbers mean something to the algorithm alone.
type Receipt struct {
	At   int64 // microseconds since 1970, by the store's clock
	A, B int64
}

// Tighter reports whether r binds a client more than s does. A refusal binds
// more than a place in a queue, and that more than an admission; Never more than
// a block, that more than any wait, and a longer wait more than a shorter one. Of
// two admissions the one with the smaller share of its capacity left binds, and an
// [Unlimited] quota binds nobody. On a tie it is false, so that the first of several
// wins.
func (r Result) Tighter(s Result) bool {
	if a, b := r.Verdict, s.Verdict; a != b {
		return a > b
	}
	if r.Verdict == Refused {
		if r.Blocked != s.Blocked {
			return r.Blocked
		}
		return r.RetryAfter > s.RetryAfter
	}
	if r.Limit == Unlimited || s.Limit == Unlimited {
		return r.Limit != s.Limit && s.Limit == Unlimited
	}
	ahi, alo := bits.Mul64(uint64(r.Remaining), uint64(s.Capacity))
	bhi, blo := bits.Mul64(uint64(s.Remaining), uint64(r.Capacity))
	return ahi < bhi || ahi == bhi && alo < blo
}
