package memstore

import (
	"time"

	"github.com/stint-go/stint/policy"
)

// repeat takes one charge on a state that is there: what decide does in that
// case, which is most, at half its cost. It reports false if there is none.
func (s *Store) repeat(c *policy.Charge, d *policy.Decision) bool {
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
	d.Reset(1)
	d.Now = time.UnixMicro(now)
	state := &sh.slots[i].state
	after, r := c.Limit.Take(*state, now, c.Units)
	d.Results[0] = r
	if r.Verdict == policy.Allowed && c.Units > 0 || r.Verdict == policy.Refused && c.Limit.CountsRefused() {
		*state = after
	}
	if d.Verdict = policy.Refused; r.Verdict == policy.Allowed {
		d.Verdict = policy.Allowed
	}
	return true
}
