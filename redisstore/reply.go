package redisstore

import (
	"errors"
	"math"
)

var errReply = errors.New("redisstore: the script's reply is not understood")

// A reply is read integer by integer: they come as doubles, little end first.
// After the first error every read is 0.
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
	r.b = r.b[8:]
	return int64(math.Float64frombits(bits))
}
