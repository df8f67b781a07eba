package memstore

import (
	"time"

	"github.com/stint-go/stint/policy"
)

// repeat takes one charge on a state that is there: what decide does in that
// case, which is most, at half its cost. It reports false if there is none.
func (s *Store) repeat(ticket policy.Ticket, c *policy.Charge, d *policy.Decision) bool {
	n := nameOf(c)
	hash := n.hash(s.seed)
	sh := &s.shards[s.shardOf(hash)]
	now := s.clock()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	i := sh.find(sh.head(hash), &n, c.ID())
	if i == none {
		return false
	}
	sh.relimit(i, &c.Limit, now)
	if cap(d.Results) == 0 {
		d.Reset(1)
	}
	d.Now, d.Results = time.UnixMicro(now), d.Results[:1]
	state, r := &sh.slots[i].state, &d.Results[0]
	var after policy.State
	if slotted(&c.Limit) && c.Units > 0 {
		after, *r = c.Limit.Enter(*state, now, ticket)
	} else {
		after, *r = c.Limit.Take(*state, now, c.Units)
	}
	if r.Verdict <= policy.Queued && c.Units > 0 || r.Verdict == policy.Refused && c.Limit.CountsRefused() {
		sh.put(i, &after)
	}
	d.Verdict = min(r.Verdict, policy.Refused) // a request is never Never
	return true
}
