package memstore

import (
	"math"
	"math/bits"
	"time"

	"github.com/stint-go/stint/policy"
)

// An ask is a charge on its way through a joint decision.
type ask struct {
	name  name
	hash  uint64
	id    uint64
	units int64 // of all charges on this state
	after policy.State
	shard int32
	named int32 // first ask of the same name
	first int32 // first ask of the same state
	head  int32 // first slot of the hash; of the first of a name
	slot  int32
	fresh bool // needs a new state
	over  bool // counted in the shared state
}

// decide takes the charges or, if it may not, tells what would happen.
func (s *Store) decide(ticket policy.Ticket, charges []policy.Charge, asks []ask, d *policy.Decision, taking bool) error {
	locks := s.prepare(charges, asks)
	now := s.clock()
	s.lock(locks)
	defer s.unlock(locks)
	if s.closed.Load() {
		return policy.ErrClosed
	}
	if s.locate(charges, asks) && s.makeRoom(asks, now, taking) {
		s.overflow.mu.Lock()
		defer s.overflow.mu.Unlock()
	}

	d.Reset(len(charges))
	d.Now, d.Verdict = time.UnixMicro(now), policy.Allowed
	for i := range asks {
		a, r := &asks[i], &d.Results[i]
		switch l := &charges[i].Limit; {
		case a.first != int32(i):
			continue
		case taking && slotted(l) && a.units > 0:
			a.after, *r = l.Enter(s.state(a), now, ticket)
		case taking:
			a.after, *r = l.Take(s.state(a), now, a.units)
		default:
			*r = l.Peek(s.state(a), now, a.units)
		}
		d.Verdict = max(d.Verdict, min(r.Verdict, policy.Refused)) // a request is never Never
	}
	if taking {
		s.commit(charges, asks, d, now)
	}
	for i := range asks {
		a, r := &asks[i], &d.Results[i]
		switch {
		case a.first != int32(i):
			*r = d.Results[a.first]
		case a.over:
			r.Overflow = true
			if r.Receipt != (policy.Receipt{}) {
				r.Receipt.B |= overflowed
			}
		}
	}
	return nil
}

// slotted tells whether the limit is of slots, which somebody has.
func slotted(l *policy.Limit) bool { return l.Algorithm() == policy.AlgorithmConcurrency }

// prepare names the charges, sums those on one state, and returns the set of
// shards to lock.
func (s *Store) prepare(charges []policy.Charge, asks []ask) (locks uint64) {
	for i := range charges {
		c, a := &charges[i], &asks[i]
		a.id, a.units = c.ID(), c.Units
		a.named, a.first = int32(i), int32(i)
		s.nameAsk(charges, asks, i)
		locks |= 1 << a.shard
		for j := a.named; j < int32(i); j++ {
			b := &asks[j]
			if b.named == a.named && b.id == a.id {
				a.first = b.first
				asks[a.first].units = add(asks[a.first].units, a.units)
				break
			}
		}
	}
	return locks
}

// nameAsk names the ask i, after an earlier one if that has its name.
func (s *Store) nameAsk(charges []policy.Charge, asks []ask, i int) {
	c, a := &charges[i], &asks[i]
	for j := range i {
		b := &asks[j]
		if b.named == int32(j) && charges[j].Key == c.Key && charges[j].Place() == c.Place() {
			a.name, a.hash, a.shard, a.named = b.name, b.hash, b.shard, b.named
			return
		}
	}
	a.name = nameOf(c)
	a.hash = a.name.hash(s.seed)
	a.shard = s.shardOf(a.hash)
}

// locate finds the asks' slots. It reports whether a shard is short of room for
// those that have none.
func (s *Store) locate(charges []policy.Charge, asks []ask) (short bool) {
	fresh := false
	for i := range asks {
		a := &asks[i]
		if a.first != int32(i) {
			continue
		}
		sh := &s.shards[a.shard]
		if a.named == int32(i) {
			a.head = sh.head(a.hash)
		}
		a.slot = sh.find(asks[a.named].head, &a.name, a.id)
		l := &charges[i].Limit
		if a.slot == none && a.units > 0 && (a.units <= l.Largest() || slotted(l) || l.N() == policy.Unlimited) {
			a.fresh, fresh = true, true
			sh.fresh++
			short = short || sh.states+sh.fresh > sh.limit
		}
	}
	if fresh && !short {
		for i := range asks {
			s.shards[asks[i].shard].fresh = 0
		}
	}
	return short
}

// makeRoom finds room for the fresh asks, or turns them to the shared states. It
// reports whether there are such.
func (s *Store) makeRoom(asks []ask, now int64, evict bool) (over bool) {
	s.pin(asks, true)
	for i := range asks {
		sh := &s.shards[asks[i].shard]
		if !asks[i].fresh || sh.fresh == 0 {
			continue
		}
		room := sh.room(now, sh.fresh, evict)
		sh.fresh = 0
		for j := i; j < len(asks); j++ {
			if a := &asks[j]; a.fresh && a.shard == asks[i].shard {
				a.over = room <= 0
				over = over || a.over
				room--
			}
		}
	}
	s.pin(asks, false)
	if over {
		sumOverflow(asks)
	}
	return over
}

func (s *Store) pin(asks []ask, pinned bool) {
	for i := range asks {
		if a := &asks[i]; a.first == int32(i) && a.slot != none {
			s.shards[a.shard].slots[a.slot].pinned = pinned
		}
	}
}

// sumOverflow sums asks of different keys that are counted in one shared state.
func sumOverflow(asks []ask) {
	for i := range asks {
		for j := range i {
			a, b := &asks[i], &asks[j]
			if !a.over || !b.over || a.first != int32(i) || b.first != int32(j) || a.id != b.id {
				continue
			}
			b.units = add(b.units, a.units)
			for k := i; k < len(asks); k++ {
				if asks[k].first == int32(i) {
					asks[k].first = int32(j)
				}
			}
		}
	}
}

// state returns what an ask is decided on.
func (s *Store) state(a *ask) policy.State {
	switch {
	case a.over:
		return s.overflow.states[a.id]
	case a.slot != none:
		return s.shards[a.shard].slots[a.slot].state
	}
	return policy.State{}
}

// commit writes the states after the decision. Of a refused request it writes
// only what limits charge for their own refusals, and tells of the others what
// they were before.
func (s *Store) commit(charges []policy.Charge, asks []ask, d *policy.Decision, now int64) {
	inserts := false
	for i := range asks {
		a, l := &asks[i], &charges[i].Limit
		if a.first != int32(i) {
			continue
		}
		sh := &s.shards[a.shard]
		if a.slot != none {
			sh.relimit(a.slot, l, now)
		}
		verdict := d.Results[i].Verdict
		switch {
		case d.Verdict <= policy.Queued:
		case verdict == policy.Refused && l.CountsRefused():
		case verdict <= policy.Queued:
			// A ticket that has its slot is told so, where another would wait.
			if r := l.Peek(s.state(a), now, a.units); r.Verdict <= verdict {
				d.Results[i] = r
			}
			continue
		default:
			continue
		}
		switch {
		case a.over:
			s.overflow.put(a.id, a.after, now)
		case a.slot != none:
			sh.put(a.slot, &a.after)
		default:
			inserts = inserts || a.fresh
		}
	}
	if inserts {
		s.insert(charges, asks, now)
	}
}

// insert adds the states of the fresh asks. It comes last, since it may free
// slots that asks hold.
func (s *Store) insert(charges []policy.Charge, asks []ask, now int64) {
	for i := range asks {
		if a := &asks[i]; a.fresh && !a.over && a.first == int32(i) {
			s.shards[a.shard].insert(a.hash, a.name, a.id, &charges[i].Limit, a.after, now)
		}
	}
}

func (s *Store) lock(locks uint64) {
	for ; locks != 0; locks &= locks - 1 {
		s.shards[bits.TrailingZeros64(locks)].mu.Lock()
	}
}

func (s *Store) unlock(locks uint64) {
	for ; locks != 0; locks &= locks - 1 {
		s.shards[bits.TrailingZeros64(locks)].mu.Unlock()
	}
}

func (s *Store) shardOf(hash uint64) int32 { return int32(hash >> s.shift) }

// add returns a + b, or the largest number: more than any limit admits.
func add(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
