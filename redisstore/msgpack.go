package redisstore

import (
	"encoding/binary"
	"math"

	"github.com/stint-go/stint/policy"
)

// The script reads a flat MessagePack array of integers. This is what of the
// format (msgpack.org, specification) that takes.

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

// appendTicket appends a ticket's three parts, which the script compares as
// numbers: 6, 6 and 4 bytes, each exact in a double.
func appendTicket(b []byte, t policy.Ticket) []byte {
	high, low := binary.BigEndian.Uint64(t[:8]), binary.BigEndian.Uint64(t[8:])
	b = appendInt(b, int64(high>>16))
	b = appendInt(b, int64(high&0xffff<<32|low>>32))
	return appendInt(b, int64(low&math.MaxUint32))
}
