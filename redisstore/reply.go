package redisstore

import (
	"errors"
	"math"
	"slices"

	"github.com/stint-go/stint/policy"
)

var errReply = errors.New("redisstore: the script's reply is not understood")

// A reply is read integer by integer: they come as doubles, little end first.
// After the first error, such as a number that the script cannot have meant, every
// read is 0.
type reply struct {
	b   string
	err error
}

func (r *reply) int() int64 {
	if len(r.b) < 8 {
		r.b, r.err = "", errReply
		return 0
	}
	var bits uint64
	for i := range 8 {
		bits |= uint64(r.b[i]) << (8 * i)
	}
	v := math.Float64frombits(bits)
	if v != math.Trunc(v) || math.Abs(v) > exact { // what is not a number is not itself
		r.b, r.err = "", errReply
		return 0
	}
	r.b = r.b[8:]
	return int64(v)
}

// exact is how far doubles tell one integer from the next.
const exact = 1 << 53

// status reads the status of a call: one that such a call can have.
func (r *reply) status(c *call) int64 {
	status, known := r.int(), false
	switch status {
	case statusAllowed:
		known = true
	case statusQueued, statusRefused:
		known = c.kind <= kindPeek
	case statusForeign:
		known = c.kind != kindRenew
	case statusLeases:
		known = slices.ContainsFunc(c.items, func(it item) bool { return it.slots() && !c.needsList(&it) })
	case statusPeriods:
		known = c.kind == kindTake || c.kind == kindSettle || c.kind == kindSetUsage
	}
	if !known {
		r.b, r.err = "", errReply
	}
	return status
}

// verdict reads the verdict on an item of a call.
func (r *reply) verdict(c *call) int64 {
	v := r.int()
	if v < int64(policy.Allowed) || v > int64(policy.Never) && !(v == statusForeign && c.kind == kindRenew) {
		r.b, r.err = "", errReply
	}
	return v
}

// count reads how much of something there is.
func (r *reply) count() int64 {
	n := r.int()
	if n < 0 {
		r.b, r.err = "", errReply
	}
	return n
}
