package redisstore

import (
	"encoding/binary"
	"errors"
	"math"
)

// The script's request and reply are flat MessagePack arrays of integers. This
// is what of the format (msgpack.org, specification) that takes.

// appendArray begins an array of n elements. It always takes five bytes, so
// that n may be filled in later.
func appendArray(b []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0xdd), uint32(n))
}

func appendInt(b []byte, v int64) []byte {
	switch {
	case v >= 0 && v < 128:
		return append(b, byte(v))
	case v >= 0 && v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(v))
	case v >= 0 && v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(v))
}

var errReply = errors.New("redisstore: the script's reply is not understood")

// A reply is read integer by integer. After the first error every read is 0.
type reply struct {
	b   string
	err error
}

// array reads an array's head and returns its length.
func (r *reply) array() int {
	switch c := r.byte(); {
	case c&0xf0 == 0x90:
		return int(c & 0x0f)
	case c == 0xdc:
		return int(r.bytes(2))
	case c == 0xdd:
		return int(r.bytes(4))
	}
	r.err = errReply
	return 0
}

func (r *reply) int() int64 {
	switch c := r.byte(); {
	case c < 0x80:
		return int64(c)
	case c >= 0xe0:
		return int64(int8(c))
	case c == 0xcc:
		return int64(r.bytes(1))
	case c == 0xcd:
		return int64(r.bytes(2))
	case c == 0xce:
		return int64(r.bytes(4))
	case c == 0xcf:
		return int64(r.bytes(8))
	case c == 0xd0:
		return int64(int8(r.bytes(1)))
	case c == 0xd1:
		return int64(int16(r.bytes(2)))
	case c == 0xd2:
		return int64(int32(r.bytes(4)))
	case c == 0xd3:
		return int64(r.bytes(8))
	case c == 0xcb:
		return int64(math.Float64frombits(r.bytes(8)))
	}
	r.err = errReply
	return 0
}

func (r *reply) byte() byte { return byte(r.bytes(1)) }

func (r *reply) bytes(n int) (v uint64) {
	if len(r.b) < n {
		r.b, r.err = "", errReply
		return 0
	}
	for i := range n {
		v = v<<8 | uint64(r.b[i])
	}
	r.b = r.b[n:]
	return v
}
