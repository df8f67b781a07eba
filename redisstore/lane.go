package redisstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stint-go/stint/policy"
)

const (
	// maxFlights is how many script calls of a lane are under way at once. With
	// two, the server decides one group while the next one travels.
	maxFlights = 2

	// maxGroup bounds the calls of one flight, and so how long the server is
	// busy with it: about a millisecond.
	maxGroup = 256

	// patience bounds how long a call waits for its turn, and how long a settle
	// is sent again until it goes through.
	patience = 10 * time.Second

	// maxRetries bounds the settles that wait to be sent again.
	maxRetries = 10_000
)

// doer is the part of a client that a lane needs.
type doer interface {
	Process(ctx context.Context, cmd redis.Cmder) error
	Pipeline() redis.Pipeliner
}

// A lane carries calls to one server, in groups: while a flight is under way,
// further calls queue, and the next flight takes them all. Nothing waits for a
// group to fill.
type lane struct {
	store  *Store
	client doer
	origin *redis.Client // the client as the route knows it; nil if it is none
	bySlot bool          // a script call must keep to one slot

	mu      sync.Mutex
	queue   []*call
	flights int
}

// add queues a call and starts a flight if there is room for one.
func (l *lane) add(c *call) {
	l.mu.Lock()
	start := l.flights < maxFlights
	if l.store.closed.Load() || start && !l.store.begin() {
		l.mu.Unlock()
		l.drop(c, policy.ErrClosed)
		return
	}
	l.queue = append(l.queue, c)
	if start {
		l.flights++
	}
	l.mu.Unlock()
	if start {
		go l.fly()
	}
}

// fly carries groups until the queue is empty.
func (l *lane) fly() {
	defer l.store.flights.Done()
	f := flightPool.Get().(*flight)
	defer flightPool.Put(f)
	for l.board(f) {
		l.carry(f)
	}
}

// board takes a group from the queue, without calls whose callers have left.
func (l *lane) board(f *flight) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	f.calls = f.calls[:0]
	taken := 0
	for _, c := range l.queue {
		if len(f.calls) == maxGroup {
			break
		}
		taken++
		switch {
		case c.kind != kindSettle && c.abandoned():
			c.free()
		case now.After(c.deadline):
			l.drop(c, context.DeadlineExceeded)
		default:
			f.calls = append(f.calls, c)
		}
	}
	rest := copy(l.queue, l.queue[taken:])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
	if len(f.calls) == 0 {
		l.flights--
		return false
	}
	return true
}

// carry sends a flight's calls and answers them.
func (l *lane) carry(f *flight) {
	s := l.store
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	groups := f.split(l.bySlot)
	cmds := make([]*command, len(groups))
	for i, calls := range groups {
		cmds[i] = f.command(ctx, s, calls)
	}
	l.send(ctx, cmds)
	for i, calls := range groups {
		err := cmds[i].Err()
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			cmds[i] = cmds[i].withSource(ctx)
			_ = l.client.Process(ctx, cmds[i])
			err = cmds[i].Err()
		}
		switch {
		case err == nil:
			l.answer(calls, cmds[i])
		case nothingRan(err):
			l.store.route.Load().followUp(l, calls, cmds[i], err)
		default:
			l.store.route.Load().forget(l)
			l.fail(calls, fmt.Errorf("redisstore: %w", err))
		}
	}
}

func (l *lane) send(ctx context.Context, cmds []*command) {
	if len(cmds) == 1 {
		_ = l.client.Process(ctx, cmds[0])
		return
	}
	pipe := l.client.Pipeline()
	for _, cmd := range cmds {
		_ = pipe.Process(ctx, cmd)
	}
	_, _ = pipe.Exec(ctx)
}

// answer hands out a script's reply to the calls it decided.
func (l *lane) answer(calls []*call, cmd *command) {
	text, err := cmd.Text()
	r := reply{b: text, err: err}
	now := r.int()
	for i, c := range calls {
		c.now, c.status = now, r.int()
		if c.kind <= kindPeek && c.status != statusForeign {
			c.read(&r)
		}
		if r.err != nil {
			l.fail(calls[i:], fmt.Errorf("redisstore: %w", r.err))
			return
		}
		if c.status == statusForeign {
			l.drop(c, fmt.Errorf("redisstore: a key under %s{%s} holds something that is not stint's, or of another version: delete it, or choose another Namespace",
				l.store.namespace, c.tag))
			continue
		}
		if !c.finish(nil) {
			l.store.giveBack(c)
			c.free()
		}
	}
}

// fail ends calls of which nothing is known. A settle, which counts once, is
// sent again.
func (l *lane) fail(calls []*call, err error) {
	for _, c := range calls {
		if c.kind == kindSettle {
			l.store.again(c, err)
		} else {
			l.drop(c, err)
		}
	}
}

// drop ends a call with an error.
func (l *lane) drop(c *call, err error) {
	if !c.finish(err) {
		c.free()
	}
}

// again sends a call again after a while that grows.
func (s *Store) again(c *call, err error) {
	wait := 5 * time.Millisecond << min(c.attempts, 8)
	c.attempts++
	if s.closed.Load() || time.Now().Add(wait).After(c.deadline) || s.retries.Load() >= maxRetries {
		if !c.finish(err) {
			c.free()
		}
		return
	}
	s.retries.Add(1)
	time.AfterFunc(wait, func() {
		s.retries.Add(-1)
		s.route.Load().send(c)
	})
}

// nothingRan reports whether an error proves that the script did not run.
func nothingRan(err error) bool {
	for _, prefix := range [...]string{"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "CROSSSLOT", "LOADING", "READONLY", "BUSY"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return errors.Is(err, redis.ErrClosed)
}
