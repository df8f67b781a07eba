package memstore

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/stint-go/stint/policy"
)

// Options are what a Store can be told. The zero Options are good.
type Options struct {
	// MaxStates is the most states that the store holds: one for each limit
	// under each key. Zero, or less, means 1,000,000; more than 2^30 means that.
	//
	// The store divides them among up to 64 shards by the hashes of the keys,
	// and makes room in a shard when that is full.
	MaxStates int

	// Now is the store's clock, for tests. It has to be safe for concurrent
	// use. Nil means time.Now.
	Now func() time.Time
}

const (
	defaultMaxStates = 1_000_000
	maxMaxStates     = 1 << 30
	maxShards        = 64
	minShard         = 1024
)

// A Store counts in memory. It is safe for concurrent use; its zero value is of
// no use, [New] makes one.
//
// Its clock is the machine's. Set back, it neither refills nor refunds: each
// state waits until the clock has caught up with it.
type Store struct {
	now      func() time.Time
	seed     maphash.Seed
	shards   []shard
	shift    int // of a hash, to its shard
	closed   atomic.Bool
	overflow overflow
	scales   scales
}

var _ policy.Store = (*Store)(nil)

// New returns a Store. It takes memory as states come.
func New(o Options) *Store {
	if o.MaxStates <= 0 {
		o.MaxStates = defaultMaxStates
	}
	o.MaxStates = min(o.MaxStates, maxMaxStates)
	if o.Now == nil {
		o.Now = time.Now
	}
	log := bits.Len(uint(min(max(o.MaxStates/minShard, 1), maxShards))) - 1
	s := &Store{now: o.Now, seed: maphash.MakeSeed(), shards: make([]shard, 1<<log), shift: 64 - log}
	for i := range s.shards {
		s.shards[i].init(o.MaxStates >> log)
	}
	return s
}

// Take implements [policy.Store]. A context that is done is answered with its
// error, and nothing is taken. Charges on one state have the first one's limit.
func (s *Store) Take(ctx context.Context, ticket policy.Ticket, charges []policy.Charge, d *policy.Decision) error {
	return s.ask(ctx, ticket, charges, d, true)
}

// Peek implements [policy.Store].
func (s *Store) Peek(ctx context.Context, charges []policy.Charge, d *policy.Decision) error {
	return s.ask(ctx, policy.Ticket{}, charges, d, false)
}

// ask decides on memory of its own stack, unless the charges are very many.
func (s *Store) ask(ctx context.Context, ticket policy.Ticket, charges []policy.Charge, d *policy.Decision, taking bool) error {
	if err := enter(ctx, charges); err != nil {
		return err
	}
	switch n := len(charges); {
	case n == 1 && taking && s.repeat(ticket, &charges[0], d):
		return nil
	case n <= 3:
		var asks [3]ask
		return s.decide(ticket, charges, asks[:n], d, taking)
	case n <= 16:
		var asks [16]ask
		return s.decide(ticket, charges, asks[:n], d, taking)
	default:
		return s.decide(ticket, charges, make([]ask, n), d, taking)
	}
}

// Settle implements [policy.Store]. A ticket is remembered for at least a
// minute, unless more Settles come in that minute than the store holds states
// (and 1,024 a shard): then for that many.
//
// Of a state that was evicted, reset, or has drained, nothing is given back;
// units beyond those taken are charged all the same. Slots need no ticket to be
// remembered: one that has come free is not the ticket's any more.
func (s *Store) Settle(ctx context.Context, ticket policy.Ticket, settlements []policy.Settlement) error {
	if err := policy.CheckSettlements(settlements); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil || len(settlements) == 0 {
		return err
	}
	home := s.shardOf(binary.NativeEndian.Uint64(ticket[:]))
	locks := uint64(1) << home
	for i := range settlements {
		n := nameOf(&settlements[i].Charge)
		locks |= 1 << s.shardOf(n.hash(s.seed))
	}
	now := s.clock()
	s.lock(locks)
	defer s.unlock(locks)
	if s.closed.Load() {
		return policy.ErrClosed
	}
	units := false
	for i := range settlements {
		t := &settlements[i]
		switch {
		case !slotted(&t.Charge.Limit):
			units = true
		case t.Total == 0:
			seat := s.seat(&t.Charge, ticket)
			s.apply(&seat, policy.Limit.Leave, now)
		}
	}
	if sh := &s.shards[home]; units && sh.settled.first(ticket, now, max(sh.limit, minShard)) {
		for i := range settlements {
			if t := &settlements[i]; !slotted(&t.Charge.Limit) {
				s.settle(t, now)
			}
		}
	}
	return nil
}

func (s *Store) settle(t *policy.Settlement, now int64) {
	if t.Receipt.B&overflowed != 0 {
		s.settleOverflow(t, now)
		return
	}
	c, n := &t.Charge, nameOf(&t.Charge)
	hash, id := n.hash(s.seed), c.ID()
	sh := &s.shards[s.shardOf(hash)]
	if i := sh.find(sh.head(hash), &n, id); i != none {
		sh.slots[i].state, _ = c.Limit.Settle(sh.slots[i].state, now, t.Receipt, c.Units, t.Total)
		sh.roomier(now)
		return
	}
	after, _ := c.Limit.Settle(policy.State{}, now, t.Receipt, c.Units, t.Total)
	switch {
	case now >= after.Until:
	case sh.room(now, 1, true) > 0:
		sh.insert(hash, n, id, &c.Limit, after, now)
	default:
		s.settleOverflow(t, now)
	}
}

func (s *Store) settleOverflow(t *policy.Settlement, now int64) {
	s.overflow.mu.Lock()
	defer s.overflow.mu.Unlock()
	c, receipt := &t.Charge, t.Receipt
	receipt.B &^= overflowed
	after, _ := c.Limit.Settle(s.overflow.states[c.ID()], now, receipt, c.Units, t.Total)
	s.overflow.put(c.ID(), after, now)
}

// Reset implements [policy.Store].
func (s *Store) Reset(ctx context.Context, charges []policy.Charge) error {
	if err := enter(ctx, charges); err != nil {
		return err
	}
	asks := make([]ask, len(charges))
	locks := s.prepare(charges, asks)
	now := s.clock()
	s.lock(locks)
	defer s.unlock(locks)
	if s.closed.Load() {
		return policy.ErrClosed
	}
	for i := range asks {
		a := &asks[i]
		sh := &s.shards[a.shard]
		if slot := sh.find(sh.head(a.hash), &a.name, a.id); slot != none {
			sh.remove(slot)
			sh.roomier(now)
		}
	}
	return nil
}

// Close forgets all states, and ends every Wait. It returns nil, however often it
// is called.
func (s *Store) Close() error {
	s.closed.Store(true)
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.heads, sh.slots, sh.limits, sh.settled, sh.states = nil, nil, nil, tickets{}, 0
		sh.calls.everywhere()
		sh.mu.Unlock()
	}
	s.overflow.mu.Lock()
	s.overflow.states = nil
	s.overflow.calls.everywhere()
	s.overflow.mu.Unlock()
	return nil
}

// clock returns the instant in microseconds since 1970.
func (s *Store) clock() int64 { return s.now().UnixMicro() }

func enter(ctx context.Context, charges []policy.Charge) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return policy.CheckCharges(charges)
}
