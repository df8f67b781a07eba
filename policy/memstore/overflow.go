package memstore

import (
	"sync"

	"github.com/stint-go/stint/policy"
)

// overflow holds the states that new keys share when their shards are full of
// refusing ones: one for each limit of a rule.
type overflow struct {
	mu     sync.Mutex
	states map[uint64]policy.State // by charge ID
	calls  calls[uint64]           // by charge ID
	sweep  int                     // number of states at which to drop the drained
}

func (o *overflow) put(id uint64, state policy.State, now int64) {
	if o.states == nil {
		o.states = map[uint64]policy.State{}
	}
	if len(o.calls) > 0 {
		before := o.states[id]
		o.calls.changed(id, &before, &state)
	}
	o.states[id] = state
	if len(o.states) <= max(o.sweep, 64) {
		return
	}
	for id, s := range o.states {
		if now >= s.Until {
			o.calls.all(id)
			delete(o.states, id)
		}
	}
	o.sweep = 2 * len(o.states)
}

// overflowed marks receipts of charges that went to a shared state, in a bit
// that no algorithm uses.
const overflowed = 1 << 62
