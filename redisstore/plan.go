package redisstore

import (
	"sync"

	"github.com/stint-go/stint/policy"
)

// A plan divides the charges of a request into calls, one for each part of
// Redis that decides by itself: one in all on a single node, one a slot in a
// cluster, one a shard of a ring.
type plan struct {
	route *route
	calls []*call
	parts []int   // of the calls
	where []place // of the charges
	ids   []uint64
}

type place struct{ call, item int }

// maxUnits are as good as more: beyond any number, and as many as a count holds.
const maxUnits = 1 << 50

var planPool = sync.Pool{New: func() any { return new(plan) }}

func getPlan(r *route) *plan {
	p := planPool.Get().(*plan)
	p.route = r
	return p
}

func (p *plan) put() {
	for _, c := range p.calls {
		if c != nil {
			c.free()
		}
	}
	clear(p.calls)
	p.calls, p.parts, p.where, p.ids = p.calls[:0], p.parts[:0], p.where[:0], p.ids[:0]
	p.route = nil
	planPool.Put(p)
}

// addOnce adds the i-th charge. Charges of one state become one item, under the
// numbers of the first.
func (p *plan) addOnce(s *Store, kind int64, ticket policy.Ticket, charges []policy.Charge, i int) {
	c := &charges[i]
	id := c.ID()
	p.ids = append(p.ids, id)
	for j := range i {
		d := &charges[j]
		if p.ids[j] == id && d.Key == c.Key && d.Place() == c.Place() {
			w := p.where[j]
			it := &p.calls[w.call].items[w.item]
			it.units = min(it.units+min(c.Units, maxUnits), maxUnits)
			p.where = append(p.where, w)
			return
		}
	}
	p.add(s, kind, ticket, c).first = i
}

// add adds a charge as an item of its own.
func (p *plan) add(s *Store, kind int64, ticket policy.Ticket, c *policy.Charge) *item {
	tag := escape(c.Place())
	part := p.route.part(tag)
	n := 0
	for n < len(p.calls) && p.parts[n] != part {
		n++
	}
	if n == len(p.calls) {
		call := newCall()
		call.kind, call.route, call.part, call.ticket = kind, p.route, part, ticket
		p.calls, p.parts = append(p.calls, call), append(p.parts, part)
	}
	call := p.calls[n]
	p.where = append(p.where, place{call: n, item: len(call.items)})
	return call.add(s, tag, c)
}

// add adds a charge to a call. The tag is that of its keys.
func (c *call) add(s *Store, tag string, charge *policy.Charge) *item {
	l := &charge.Limit
	c.items = append(c.items, item{
		tag:   tag,
		key:   charge.Key,
		value: c.valueKey(s, tag, charge),
		limit: limit{
			id:        int64(charge.ID()),
			algorithm: int64(l.Algorithm()),
			n:         l.N(),
			window:    l.Window().Microseconds(),
			capacity:  l.Capacity(),
		},
		units: min(charge.Units, maxUnits),
	})
	it := &c.items[len(c.items)-1]
	if l.CountsRefused() {
		it.limit.counts = 1
	}
	if l.IsReduced() {
		it.limit.most = l.Largest()
	}
	switch l.Algorithm() {
	case policy.AlgorithmConcurrency:
		it.limit.window = l.Lease().Microseconds()
		it.limit.capacity, _ = l.Queue()
	case policy.AlgorithmQuota:
		it.period = l.Period()
		it.limit.periods = s.periodsAt(it.period, s.serverNow())
	case policy.AlgorithmLockout:
		it.limit.blocks = s.blocksOf(l)
	}
	return it
}

// valueKey is the store's, and mostly that of the charge before.
func (c *call) valueKey(s *Store, tag string, charge *policy.Charge) string {
	if n := len(c.items); n > 0 && c.items[n-1].key == charge.Key && c.items[n-1].tag == tag {
		return c.items[n-1].value
	}
	return s.valueKey(tag, charge)
}
