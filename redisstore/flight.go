package redisstore

import (
	"context"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/stint-go/stint/policy"
)

// A flight is a group of calls on their way, and the scratch to encode them.
type flight struct {
	calls  []*call
	groups [][]*call

	indexes map[string]int64 // of keys and of others
	limits  map[limit]int64
	table   []limit
	keys    []any // of values
	others  []any // of logs, leases and settled tickets, which come after
	body    []byte
}

var flightPool = sync.Pool{New: func() any {
	return &flight{indexes: map[string]int64{}, limits: map[limit]int64{}}
}}

// split divides the calls into those that one script call can decide.
func (f *flight) split(bySlot bool) [][]*call {
	f.groups = f.groups[:0]
	if !bySlot {
		return append(f.groups, f.calls)
	}
	slots := map[int]int{}
	for _, c := range f.calls {
		i, ok := slots[c.part]
		if !ok {
			i = len(f.groups)
			slots[c.part] = i
			f.groups = append(f.groups, nil)
		}
		f.groups[i] = append(f.groups[i], c)
	}
	return f.groups
}

// A command is a script call that the client never sends twice.
type command struct {
	*redis.Cmd
	args []any
}

// NoRetry implements [redis.Cmder].
func (*command) NoRetry() bool { return true }

// withSource returns the command with the script's text instead of its hash.
func (c *command) withSource(ctx context.Context) *command {
	args := append([]any{"eval", source}, c.args[2:]...)
	return &command{Cmd: redis.NewCmd(ctx, args...), args: args}
}

// again returns the command unsent.
func (c *command) again(ctx context.Context) *command {
	return &command{Cmd: redis.NewCmd(ctx, c.args...), args: c.args}
}

// command encodes calls for the script, whose text describes the format.
func (f *flight) command(ctx context.Context, s *Store, calls []*call) *command {
	clear(f.indexes)
	clear(f.limits)
	f.table, f.keys, f.others, f.body = f.table[:0], f.keys[:0], f.others[:0], f.body[:0]
	f.index(s, calls)

	b := appendArray(f.body, 0)
	n := 4 + 7*len(f.table)
	var now, others int64
	if s.now != nil {
		now = s.now().UnixMicro()
	}
	if slices.ContainsFunc(calls, func(c *call) bool { return c.kind > kindPeek }) {
		others = 1
	}
	b = appendInt(appendInt(appendInt(b, now), others), int64(len(f.table)))
	for _, l := range f.table {
		for _, v := range [...]int64{l.id, l.algorithm, l.counts, l.n, l.window, l.capacity, l.most} {
			b = appendInt(b, v)
		}
		if l.periods != nil {
			for _, v := range l.periods {
				b = appendInt(b, v)
			}
			n += len(l.periods)
		}
		if l.blocks != nil {
			b = appendInt(b, int64(len(*l.blocks)))
			for _, v := range *l.blocks {
				b = appendInt(b, v)
			}
			n += 1 + len(*l.blocks)
		}
	}
	b = appendInt(b, int64(len(calls)))
	values := int64(len(f.keys))
	for _, c := range calls {
		b = appendInt(b, c.kind)
		n += 2
		if c.kind == kindSettle {
			var settled int64
			if c.ticketIndex != 0 {
				settled = values + c.ticketIndex
			}
			b = appendTicket(appendInt(b, settled), c.ticket)
			n += 4
		}
		if c.kind == kindSetUsage { // it has one
			it := &c.items[0]
			b = appendInt(appendInt(appendInt(b, it.valueIndex), it.limitIndex), it.total)
			n += 2
			continue
		}
		b = appendInt(b, int64(len(c.items)))
		for i := range c.items {
			it := &c.items[i]
			b = appendInt(appendInt(b, it.valueIndex), it.limitIndex)
			n += 2
			var list int64
			if it.list != "" {
				list = values + it.listIndex
			}
			switch c.kind {
			case kindTake, kindPeek:
				b = appendInt(b, it.units)
				n++
				if it.log() || it.slots() {
					b = appendInt(b, list)
					n++
				}
				switch {
				case !it.slots():
				case c.kind == kindTake:
					b = appendTicket(b, c.ticket)
					n += 3
				default:
					b = appendTicket(b, policy.Ticket{})
					n += 3
				}
			case kindSettle:
				for _, v := range [...]int64{list, it.units, it.total, it.receipt.At, it.receipt.A, it.receipt.B} {
					b = appendInt(b, v)
				}
				n += 6
			case kindReset:
				b = appendInt(b, list)
				n++
			case kindRenew:
				b = appendTicket(appendInt(b, list), it.ticket)
				n += 4
			}
		}
	}
	f.body = b
	appendArray(b[:0], n)

	args := make([]any, 0, 5+len(f.keys)+len(f.others))
	args = append(args, "evalsha", sourceSHA, len(f.keys)+len(f.others))
	args = append(args, f.keys...)
	args = append(args, f.others...)
	args = append(args, len(f.keys), string(b))
	return &command{Cmd: redis.NewCmd(ctx, args...), args: args}
}

// index numbers the keys and limits of the calls.
func (f *flight) index(s *Store, calls []*call) {
	for _, c := range calls {
		c.ticketIndex = 0
		if c.kind == kindSettle && c.corrects() {
			c.ticketIndex = f.key(&f.others, s.ticketKey(c.tag(), c.ticket))
		}
		for i := range c.items {
			it := &c.items[i]
			if i > 0 && it.value == c.items[i-1].value {
				it.valueIndex = c.items[i-1].valueIndex
			} else {
				it.valueIndex = f.key(&f.keys, it.value)
			}
			if c.needsList(it) {
				if it.list == "" {
					it.list = it.listKey()
				}
				it.listIndex = f.key(&f.others, it.list)
			}
			n, ok := f.limits[it.limit]
			if !ok {
				f.table = append(f.table, it.limit)
				n = int64(len(f.table))
				f.limits[it.limit] = n
			}
			it.limitIndex = n
		}
	}
}

// key returns the number of a key in a list, which it joins if it is new.
func (f *flight) key(list *[]any, key string) int64 {
	n, ok := f.indexes[key]
	if !ok {
		*list = append(*list, key)
		n = int64(len(*list))
		f.indexes[key] = n
	}
	return n
}

// read reads the answers to a take, a peek or a renewal.
func (c *call) read(r *reply) {
	c.answers = c.answers[:0]
	for i := range c.items {
		a := answer{verdict: int64(policy.Allowed)}
		brief := c.brief(i)
		if !brief {
			a.verdict = r.verdict(c)
		}
		a.at, a.a = c.now+r.int(), r.count()
		if it := &c.items[i]; it.slots() || it.log() { // a place, or less the instant
			a.b = r.int()
		} else {
			a.b = r.count()
		}
		switch {
		case !brief:
			a.left = r.int()
		case c.items[i].slots() && a.b < 0:
			a.verdict, a.b = int64(policy.Queued), -a.b
		}
		c.answers = append(c.answers, a)
	}
}
