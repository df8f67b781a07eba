package memstore

import (
	"time"

	"github.com/stint-go/stint/policy"
)

// tickets remembers which Settles have counted: each for one to two minutes, in
// two generations. A generation that is full ends early.
type tickets struct {
	recent, older map[policy.Ticket]struct{}
	began         int64 // when recent did
}

const ticketAge = int64(time.Minute / time.Microsecond)

// first reports whether the ticket is new, and remembers it.
func (t *tickets) first(ticket policy.Ticket, now int64, most int) bool {
	switch age := now - t.began; {
	case t.recent == nil || age >= 2*ticketAge:
		t.recent, t.older, t.began = map[policy.Ticket]struct{}{}, nil, now
	case age >= ticketAge || len(t.recent) >= most:
		t.recent, t.older, t.began = map[policy.Ticket]struct{}{}, t.recent, now
	}
	if _, ok := t.recent[ticket]; ok {
		return false
	}
	if _, ok := t.older[ticket]; ok {
		return false
	}
	t.recent[ticket] = struct{}{}
	return true
}
