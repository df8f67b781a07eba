package memstore

import (
	"math"
	"time"

	"github.com/stint-go/stint/policy"
)

// small is the size of a shard that may be looked through for every new state.
const small = 1024

// room returns how many of n new states the shard has room for. Short of it, it
// evicts, if it may, and otherwise counts what it could evict.
//
// A look through the shard costs time in proportion to its size. It makes room
// for an eighth of it at once; where so much is not to be had, a large shard
// looks again no sooner than a microsecond per state later.
func (sh *shard) room(now int64, n int, evict bool) int {
	spare := sh.limit - sh.states
	if spare >= n || now < sh.full {
		return min(spare, n)
	}
	if !evict {
		return min(spare+sh.evictable(now, n-spare), n)
	}
	want := max(n-spare, sh.limit/8)
	before := sh.states
	sh.evictDrained(now)
	if freed := before - sh.states; freed < n-spare || freed < want && sh.limit > small {
		sh.evictLeastUsed(now, want-freed)
	}
	return min(sh.limit-sh.states, n)
}

func (sh *shard) evictDrained(now int64) {
	for i := range sh.slots {
		if s := &sh.slots[i]; s.limit != nil && !s.pinned && now >= s.state.Until {
			sh.remove(int32(i))
		}
	}
}

// evictLeastUsed evicts up to n states, those first that have used the least of
// their capacity, and none that has nothing remaining. Quotas stay, until their
// counts matter no more.
func (sh *shard) evictLeastUsed(now int64, n int) {
	victims := make(victims, 0, n)
	again := int64(math.MaxInt64)
	for i := range sh.slots {
		v, freeAt, ok := sh.victim(i, now)
		switch {
		case !ok:
			again = min(again, freeAt)
		case len(victims) < n:
			victims = append(victims, v)
			if len(victims) == n {
				victims.heapify()
			}
		case v.before(victims[0]):
			victims[0] = v
			victims.down(0)
		}
	}
	for _, v := range victims {
		sh.remove(v.slot)
	}
	sh.looked(now, len(victims), n, again)
}

// evictable counts what evictLeastUsed and evictDrained could evict, up to n.
func (sh *shard) evictable(now int64, n int) int {
	count, again := 0, int64(math.MaxInt64)
	for i := range sh.slots {
		_, freeAt, ok := sh.victim(i, now)
		if !ok {
			again = min(again, freeAt)
			continue
		}
		if count++; count == n {
			break
		}
	}
	sh.looked(now, count, n, again)
	return count
}

// looked notes that a look for n states to evict found some, and none more
// before the instant again.
func (sh *shard) looked(now int64, found, n int, again int64) {
	switch {
	case found == n:
		sh.full = 0
	case found > 0:
		sh.full = now + sh.pause()
	default:
		sh.full = max(again, now+sh.pause())
	}
}

// roomier notes that there may be a state to evict before sh.full.
func (sh *shard) roomier(now int64) { sh.full = min(sh.full, now+sh.pause()) }

// pause is how long to wait between looks that find too little.
func (sh *shard) pause() int64 {
	if sh.limit > small {
		return int64(sh.limit)
	}
	return 0
}

// victim weighs a slot. It reports false if the slot cannot be evicted, and from
// when on it can.
func (sh *shard) victim(i int, now int64) (v victim, freeAt int64, ok bool) {
	s := &sh.slots[i]
	switch {
	case s.limit == nil:
		return victim{}, math.MaxInt64, false
	case s.pinned:
		return victim{}, now, false
	case s.limit.Algorithm() == policy.AlgorithmQuota && now < s.state.Until:
		return victim{}, s.state.Until, false // what was bought makes no room for what drains
	}
	r := s.limit.Peek(s.state, now, 0)
	if slotted(s.limit) && r.Used+r.Queue > 0 {
		return victim{}, s.state.Until, false // somebody is there
	}
	if r.Remaining == 0 {
		return victim{}, now + int64(r.NextAfter/time.Microsecond), false
	}
	return victim{share: float64(r.Used) / float64(r.Capacity), at: s.state.At, slot: int32(i)}, 0, true
}

// A victim is a slot that may be evicted.
type victim struct {
	share float64
	at    int64
	slot  int32
}

// before tells whether v goes before w.
func (v victim) before(w victim) bool {
	return v.share < w.share || v.share == w.share && v.at < w.at
}

// victims is a heap whose first goes last.
type victims []victim

func (h victims) heapify() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h victims) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child].before(h[child+1]) {
			child++
		}
		if !h[i].before(h[child]) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
