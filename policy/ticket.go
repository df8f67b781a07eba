package policy

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// A Ticket names one Take, so that what follows on it (a Settle) counts once
// however often it is sent. It is 128 random bits, minted before the Take.
type Ticket [16]byte

// NewTicket returns a new ticket. It is safe for concurrent use.
func NewTicket() Ticket {
	var t Ticket
	binary.NativeEndian.PutUint64(t[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(t[8:], rand.Uint64())
	return t
}

// Next returns the ticket after t: it is as new as t was, for who does not use t
// any more, and cheaper than another random one.
func (t Ticket) Next() Ticket {
	binary.NativeEndian.PutUint64(t[8:], binary.NativeEndian.Uint64(t[8:])+1)
	return t
}

// String returns the ticket in hexadecimal.
func (t Ticket) String() string { return hex.EncodeToString(t[:]) }
