package redisstore

import (
	"fmt"
	"time"

	"github.com/stint-go/stint/policy"
)

// The server's clock decides which period of a quota a request falls into, but
// the server knows no calendar. So a quota comes with instants at which its
// periods begin, around the one that holds now, as far as the client knows what
// the server's clock says: it goes by the last answer. Where the server finds
// that they do not tell, because its clock or a state's stands elsewhere, it
// answers which instant they have to be around, and the call is sent again.

// periods are instants at which periods begin, in microseconds and in a row: of
// the period before the one that they are around, of that, and of two after it,
// and then the last one's end.
type periods [5]int64

// maxTurns is how often a call is sent again with other periods. Once is enough,
// unless the clock moves on by a period meanwhile.
const maxTurns = 8

// periodsAt returns the periods around an instant, the same for the same ones.
func (s *Store) periodsAt(p policy.Period, at int64) *periods {
	known, ok := s.calendar.Load(p)
	if ok {
		if b := known.(*periods); b[1] <= at && at < b[2] {
			return b
		}
	}
	start, end := p.Bounds(time.UnixMicro(at))
	before, _ := p.Bounds(start.Add(-time.Microsecond))
	_, next := p.Bounds(end)
	_, last := p.Bounds(next)
	b := &periods{before.UnixMicro(), start.UnixMicro(), end.UnixMicro(), next.UnixMicro(), last.UnixMicro()}
	s.calendar.Store(p, b)
	return b
}

// serverNow is what the server's clock says, as far as is known.
func (s *Store) serverNow() int64 { return time.Now().UnixMicro() + s.ahead.Load() }

// heard notes what the server's clock says now.
func (s *Store) heard(now int64) { s.ahead.Store(now - time.Now().UnixMicro()) }

// turn sends a call again whose quotas the server could not place: it has read
// the instants to go by.
func (s *Store) turn(l *lane, c *call) {
	if c.turns++; c.turns > maxTurns {
		// Nothing ran, and a settle would fare no better in a while.
		l.drop(c, fmt.Errorf("redisstore: %w: after %d tries a state is still in another period than the one that the server told of", policy.ErrKey, maxTurns))
		return
	}
	for i := range c.items {
		if it := &c.items[i]; it.limit.periods != nil {
			it.limit.periods = s.periodsAt(it.period, c.answers[i].at)
		}
	}
	c.answers = c.answers[:0]
	c.route.send(c)
}

// readInstants reads the answer to a call whose quotas could not be placed.
func (c *call) readInstants(r *reply) {
	c.answers = c.answers[:0]
	for range c.items {
		c.answers = append(c.answers, answer{at: c.now + r.int()})
	}
}
