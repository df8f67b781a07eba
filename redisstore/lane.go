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

	// maxGroup and maxItems bound the calls of one flight and their items, and so
	// how long the server is busy with it: a few milliseconds.
	maxGroup = 256
	maxItems = 1024

	// patience bounds how long a call waits for its turn, and how long a settle
	// is sent again until it goes through.
	patience = 10 * time.Second

	// maxWaiting bounds the settles that a lane keeps for a server that does not
	// answer, and the calls that wait to be sent again.
	maxWaiting = 10_000
)

// doer is the part of a client that a lane needs.
type doer interface {
	Process(ctx context.Context, cmd redis.Cmder) error
	Pipeline() redis.Pipeliner
	Subscribe(ctx context.Context, channels ...string) *redis.PubSub
}

// A lane carries calls to one server, in groups: while a flight is under way,
// further calls queue, and the next flight takes them all. Nothing waits for a
// group to fill.
type lane struct {
	store  *Store
	route  *route
	client doer
	origin *redis.Client // the client as the route knows it; nil if it is none
	bySlot bool          // a script call must keep to one slot

	mu      sync.Mutex
	queue   []*call // calls that requests wait for
	yielded []*call // calls that let those go first
	flights int
	last    bool // the store is closed, and settles had their last flight
}

// add queues a call and starts a flight if there is room for one.
func (l *lane) add(c *call) {
	l.mu.Lock()
	start := l.flights < maxFlights
	switch {
	case l.store.closed.Load() || start && !l.store.begin():
		l.mu.Unlock()
		l.drop(c, policy.ErrClosed)
		return
	case !c.yields:
		l.queue = append(l.queue, c)
	case len(l.yielded) < maxWaiting || c.kind == kindRenew: // of which each has its caller
		l.yielded = append(l.yielded, c)
	default:
		if start {
			l.store.flights.Done()
		}
		l.mu.Unlock()
		l.drop(c, errBusy)
		return
	}
	if start {
		l.flights++
	}
	l.mu.Unlock()
	if start {
		go l.fly()
	}
}

var errBusy = errors.New("redisstore: too many settles wait for a server that does not answer")

// fly carries groups until the queue is empty.
func (l *lane) fly() {
	defer l.store.flights.Done()
	f := flightPool.Get().(*flight)
	defer flightPool.Put(f)
	for l.board(f) {
		l.carry(f)
	}
}

// board takes a group from the queues, without calls whose callers have left.
// Those that yield get what room requests leave, and a quarter at least.
func (l *lane) board(f *flight) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.calls = f.calls[:0]
	room, space := maxGroup, maxItems
	if len(l.yielded) > 0 {
		room, space = room-maxGroup/4, space-maxItems/4
	}
	closed := l.store.closed.Load()
	if closed {
		room = 0
		for _, c := range l.queue {
			l.drop(c, policy.ErrClosed)
		}
		l.queue = nil
	}
	items := 0
	l.queue = l.enter(f, l.queue, room, space, &items)
	if l.last {
		for _, c := range l.yielded {
			l.drop(c, policy.ErrClosed)
		}
		l.yielded = nil
	}
	l.yielded = l.enter(f, l.yielded, maxGroup, maxItems, &items)
	l.last = closed
	if len(f.calls) == 0 {
		l.flights--
		return false
	}
	return true
}

// enter moves calls from a queue to a flight until that has room calls, or space
// items, and returns what is left of the queue.
func (l *lane) enter(f *flight, queue []*call, room, space int, items *int) []*call {
	now := time.Now()
	taken := 0
	for _, c := range queue {
		if len(f.calls) >= room || *items > 0 && *items+len(c.items) > space {
			break
		}
		taken++
		switch {
		case c.kind != kindSettle && c.abandoned():
			c.free()
		case now.After(c.deadline):
			l.drop(c, context.DeadlineExceeded)
		default:
			*items += len(c.items)
			f.calls = append(f.calls, c)
		}
	}
	rest := copy(queue, queue[taken:])
	clear(queue[rest:])
	return queue[:rest]
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
	confirm := s.confirm(ctx, f.calls)
	transmit(ctx, l.client, cmds, false, confirm)
	for i, calls := range groups {
		err := cmds[i].Err()
		doubt := confirm
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			cmds[i], doubt = cmds[i].withSource(ctx), s.confirm(ctx, calls)
			transmit(ctx, l.client, cmds[i:i+1], false, doubt)
			err = cmds[i].Err()
		}
		switch {
		case err == nil:
			l.answer(calls, cmds[i], s.confirmed(doubt))
		case nothingRan(err):
			l.route.followUp(l, calls, cmds[i], err)
		default:
			l.route.forget(l)
			l.fail(calls, fmt.Errorf("redisstore: %w", err))
		}
	}
}

// answer hands out a script's reply to the calls it decided. If there is a doubt about
// what it wrote, that is what those are told who wrote.
func (l *lane) answer(calls []*call, cmd *command, doubt error) {
	text, err := cmd.Text()
	r := reply{b: text, err: err}
	now := r.int()
	if r.err == nil {
		l.store.heard(now)
	}
	for i, c := range calls {
		c.now, c.status = now, r.status(c)
		switch {
		case c.status == statusForeign, c.status == statusLeases:
		case c.status == statusPeriods:
			c.readInstants(&r)
		case c.kind <= kindPeek, c.kind == kindRenew:
			c.read(&r)
		case c.kind == kindUsage:
			c.readUsage(&r)
		}
		if r.err != nil {
			l.fail(calls[i:], fmt.Errorf("redisstore: %w", r.err))
			return
		}
		if c.status == statusPeriods {
			l.store.turn(l, c)
			continue
		}
		if c.status == statusLeases {
			c.keyed = true
			c.route.send(c)
			continue
		}
		if c.status == statusForeign {
			l.drop(c, l.store.foreign(c.tag()))
			continue
		}
		if doubt != nil && c.writes() {
			l.doubt(c, doubt)
			continue
		}
		if !c.finish(nil) {
			l.store.giveBack(c)
			c.free()
		}
	}
}

// foreign is the error of a request that met what is not the store's.
func (s *Store) foreign(tag string) error {
	return fmt.Errorf("redisstore: %w: a key under %s{%s} holds something that is not stint's, of another version, or too many states: delete it, or choose another Namespace",
		policy.ErrKey, s.namespace, tag)
}

// fail ends calls of which nothing is known. A settle, which counts once, is
// sent again, and so is a renewal, of which one more does no harm.
func (l *lane) fail(calls []*call, err error) {
	for _, c := range calls {
		if c.kind == kindSettle || c.kind == kindRenew && !c.abandoned() {
			l.store.again(c, err)
			continue
		}
		vacate := c.vacate()
		l.drop(c, err)
		if vacate != nil {
			l.store.background(vacate)
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
	if s.closed.Load() || time.Now().Add(wait).After(c.deadline) || s.retries.Load() >= maxWaiting {
		if !c.finish(err) {
			c.free()
		}
		return
	}
	s.retries.Add(1)
	time.AfterFunc(wait, func() {
		s.retries.Add(-1)
		if c.route != s.route.Load() {
			s.reroute(c)
			return
		}
		c.route.send(c)
	})
}

// reroute lets a call be planned anew that was planned for what is there no
// more. Nothing of it ran. Settles that nobody waits for are divided here.
func (s *Store) reroute(c *call) {
	if c.finish(errReplan) {
		return
	}
	if c.kind == kindSettle {
		r := s.route.Load()
		parts := map[int]*call{} // whose items go together: a ticket counts once for all of them
		for _, it := range c.items {
			part := r.part(it.tag)
			one := parts[part]
			if one == nil {
				one = newCall()
				one.kind, one.route, one.part, one.ticket = c.kind, r, part, c.ticket
				one.deadline, one.attempts, one.yields = c.deadline, c.attempts, true
				one.state.Store(stateAbandoned)
				parts[part] = one
			}
			one.items = append(one.items, it)
		}
		for _, one := range parts {
			r.send(one)
		}
	}
	c.free()
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
