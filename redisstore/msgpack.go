package redisstore

import (
	"encoding/binary"
	"math"

	"github.com/stint-go/stint/policy"
)

// The script reads a flat MessagePack array of integers and tickets. This is what
// of the format (msgpack.org, specification) that takes.

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

func appendTicket(b []byte, t policy.Ticket) []byte {
	return append(append(b, 0xa0|byte(len(t))), t[:]...)
}

func appendNoTicket(b []byte) []byte { return append(b, 0xa0) }
