package middleware

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/stint-go/stint/policy"
)

// thresholds are the shares of a quota, in percent, that an operator hears of.
var thresholds = [...]int64{80, 100}

// A quotaWatch remembers of which quotas it is known that they have reached a
// threshold in their period. What it forgets it asks the store again, which knows:
// one unit a period is taken for each threshold, and who gets it tells.
type quotaWatch struct {
	mu    sync.Mutex
	known map[reached]time.Time // until when
}

// reached is one threshold of one key's quota.
type reached struct {
	id        uint64
	key       string
	threshold int64
}

const maxReached = 10_000

// first remembers a threshold until its period's end. It is false if it knew.
func (q *quotaWatch) first(r reached, now, end time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Before(q.known[r]) {
		return false
	}
	if q.known == nil || len(q.known) >= maxReached {
		q.known = map[reached]time.Time{}
	}
	q.known[r] = end
	return true
}

func (q *quotaWatch) forget(r reached) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.known, r)
}

// watchQuotas tells of the quotas that have reached a threshold by what the pass
// took: as taken or, when that is known, as settled.
func (p *pass) watchQuotas() {
	if p.limiter.observe == nil || !p.decided || p.decision.Verdict != policy.Allowed {
		return
	}
	for i := range p.charges {
		l := &p.charges[i].Limit
		if l.Algorithm() != policy.AlgorithmQuota || l.N() == policy.Unlimited {
			continue
		}
		used := p.decision.Results[i].Used
		if p.totals != nil {
			used += p.totals[i] - p.charges[i].Units
		}
		for _, threshold := range thresholds {
			// Without overflow: n is at most 10^12.
			if used >= (l.N()*threshold+99)/100 {
				p.reach(i, threshold)
			}
		}
	}
}

// reach tells that the quota of the i-th charge has reached a threshold, unless
// that was told in this period, by whatever process.
func (p *pass) reach(i int, threshold int64) {
	c, l := &p.charges[i], p.limiter
	_, end := c.Limit.Period().Bounds(p.decision.Now)
	r := reached{id: c.ID(), key: c.Key, threshold: threshold}
	if !l.quotas.first(r, p.decision.Now, end) {
		return
	}
	once := policy.Charge{
		// No rule has such a name.
		Scope:     policy.NewScope(l.name, p.rules[i].Name+" reached "+strconv.FormatInt(threshold, 10)),
		Limit:     policy.Quota(1, c.Limit.Period()).Named(c.Limit.Name()),
		Key:       c.Key,
		Partition: c.Partition,
		Units:     1,
	}
	var d policy.Decision
	ctx, cancel := l.bounded(context.Background())
	err := l.store.Take(ctx, policy.NewTicket(), []policy.Charge{once}, &d)
	cancel()
	switch {
	case err != nil:
		l.quotas.forget(r)
	case d.Verdict == policy.Allowed:
		l.emit(Event{Kind: QuotaReached, Rule: p.rules[i].Name, Limit: c.Limit, Key: c.Key, Percent: int(threshold)})
	}
}
