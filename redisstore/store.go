// Package redisstore is the [policy.Store] on Redis: one node, Sentinel,
// Cluster or Ring, Redis 6.2 or later, or Valkey.
//
//	store := redisstore.New(redis.NewClient(&redis.Options{Addr: addr}))
//
// One script decides all charges of a request, atomically, by the server's
// clock. Requests that arrive while a script call is under way gather, and go
// together in the next: a busy store makes few, large calls, an idle one adds
// nothing to a request's single round trip.
//
// The store makes itself independent of its client's settings: a caller is back
// within its context's deadline whatever the client's timeouts are, and nothing
// is sent twice unless a reply proves that nothing ran.
package redisstore

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stint-go/stint/policy"
)

// Options are a store's settings. The zero Options are good ones.
type Options struct {
	// Namespace begins every key in Redis. Stores that share a namespace and a
	// Redis share their counts. The default is "stint".
	Namespace string

	// Timeout bounds a script call, and with it how long the store goes on with
	// a call whose callers have all gone. The default is 500 ms. It is no time
	// limit for callers, whose contexts say how long they wait.
	Timeout time.Duration

	// WaitReplicas is how many replicas must have what a call wrote before it is
	// answered (WAIT), so that a failover to one of them loses nothing that was
	// answered. Zero waits for none: a failover may lose what the replicas did not
	// have yet. If fewer have it in time, a Take is an error, and what it took is given
	// back. It costs the way to the replicas and back, of which requests that gather
	// meanwhile share one; refusals wait too. More replicas than there are is an
	// error of every Take. Rules that can afford a loss are better off with a Store
	// of their own without it, on the same client.
	WaitReplicas int

	// Now is for tests: if set, it replaces the server's clock, which all
	// processes must otherwise agree on. Keys then live ten minutes longer.
	Now func() time.Time
}

// A Store counts in Redis. It is safe for concurrent use, and implements
// [policy.Store], which describes its methods.
type Store struct {
	namespace string
	timeout   time.Duration
	now       func() time.Time
	replicas  int // that confirm what was written

	route   atomic.Pointer[route]
	retries atomic.Int64 // calls that wait to be sent again

	life      context.Context // ends with Close
	end       context.CancelFunc
	ahead     atomic.Int64 // microseconds of the server's clock, before this machine's
	scaleTurn atomic.Int64 // how often a factor was set: a look from before tells nothing
	calendar  sync.Map     // of quotas: the periods around now, by policy.Period
	lockouts  sync.Map     // the blocks of lock-outs, by policy.Limit

	attendance attendance // of processes that share the store

	mu      sync.Mutex // orders begin and Close
	closed  atomic.Bool
	flights sync.WaitGroup // goroutines under way
}

var _ policy.Store = (*Store)(nil)

// New returns a store with the zero [Options]. The client stays the caller's:
// close it after the store. New panics if it is nil.
func New(client redis.UniversalClient) *Store { return Options{}.New(client) }

// New returns a store with these options.
func (o Options) New(client redis.UniversalClient) *Store {
	if v := reflect.ValueOf(client); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		panic("redisstore: nil client: pass one made by redis.NewClient, NewFailoverClient, NewClusterClient or NewRing")
	}
	if o.Namespace == "" {
		o.Namespace = "stint"
	}
	if o.Timeout <= 0 {
		o.Timeout = 500 * time.Millisecond
	}
	s := &Store{namespace: escape(o.Namespace), timeout: o.Timeout, now: o.Now, replicas: o.WaitReplicas}
	s.life, s.end = context.WithCancel(context.Background())
	s.route.Store(newRoute(s, client))
	return s
}

// Take implements [policy.Store].
func (s *Store) Take(ctx context.Context, ticket policy.Ticket, charges []policy.Charge, d *policy.Decision) error {
	return s.decide(ctx, kindTake, ticket, charges, d)
}

// Peek implements [policy.Store].
func (s *Store) Peek(ctx context.Context, charges []policy.Charge, d *policy.Decision) error {
	return s.decide(ctx, kindPeek, policy.Ticket{}, charges, d)
}

// Settle implements [policy.Store]. If it returns an error before the
// settlement went through, the store goes on trying for ten seconds.
func (s *Store) Settle(ctx context.Context, ticket policy.Ticket, settlements []policy.Settlement) error {
	if err := policy.CheckSettlements(settlements); err != nil {
		return err
	}
	return s.perform(ctx, func(p *plan) {
		for i := range settlements {
			st := &settlements[i]
			it := p.add(s, kindSettle, ticket, &st.Charge)
			it.total, it.receipt = st.Total, st.Receipt
		}
	}, nil)
}

// Reset implements [policy.Store].
func (s *Store) Reset(ctx context.Context, charges []policy.Charge) error {
	if err := policy.CheckCharges(charges); err != nil {
		return err
	}
	return s.perform(ctx, func(p *plan) {
		for i := range charges {
			p.addOnce(s, kindReset, policy.Ticket{}, charges, i)
		}
	}, nil)
}

// Close implements [policy.Store]. It waits for script calls under way, about
// the store's Timeout at most. What has not been sent by then, settles that are to
// be sent again among it, is dropped.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed.Store(true)
	s.mu.Unlock()
	s.end()
	s.flights.Wait()
	return s.route.Load().close()
}

// begin counts a goroutine that Close waits for, unless the store is closed.
func (s *Store) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return false
	}
	s.flights.Add(1)
	return true
}

func (s *Store) decide(ctx context.Context, kind int64, ticket policy.Ticket, charges []policy.Charge, d *policy.Decision) error {
	if err := policy.CheckCharges(charges); err != nil {
		return err
	}
	d.Reset(len(charges))
	return s.perform(ctx, func(p *plan) {
		for i := range charges {
			p.addOnce(s, kind, ticket, charges, i)
		}
	}, func(p *plan) {
		s.conclude(ctx, p, kind, charges, d)
	})
}

// perform makes a plan, carries it out and, if all of it went through, lets
// conclude look at the answers.
func (s *Store) perform(ctx context.Context, build, conclude func(*plan)) error {
	return s.attempt(ctx, func(p *plan) error {
		build(p)
		err := s.run(ctx, p)
		if err == nil && conclude != nil {
			conclude(p)
		}
		return err
	})
}

// attempt has do fill a plan and carry it out. It starts over if the server turns
// out to be a cluster, for which plans are divided differently: nothing ran then.
func (s *Store) attempt(ctx context.Context, do func(*plan) error) error {
	for tries := 0; ; tries++ {
		if s.closed.Load() {
			return policy.ErrClosed
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		p := getPlan(s.route.Load())
		err := do(p)
		p.put()
		if !errors.Is(err, errReplan) || tries == maxReplans {
			return err
		}
	}
}

// maxReplans is how often a request may find that what it was planned for has
// changed. Once is common, where it changes at all.
const maxReplans = 8

// run sends the plan's calls and waits for all of them, or for the context. On
// an error, what some of them took is given back, now or when they return.
func (s *Store) run(ctx context.Context, p *plan) error {
	p.send(ctx)
	var err error
	for i, c := range p.calls {
		done := false
		if err != nil {
			done = c.leave()
		} else if done = c.wait(ctx); done {
			err = c.err
		} else {
			err = ctx.Err()
		}
		if !done {
			p.calls[i] = nil // its flight's from now on
		}
	}
	if err == nil {
		return nil
	}
	for _, c := range p.calls {
		if c != nil && c.err == nil {
			s.giveBack(c)
		}
	}
	return err
}

// send sends the plan's calls.
func (p *plan) send(ctx context.Context) {
	deadline, bounded := ctx.Deadline()
	if limit := time.Now().Add(patience); !bounded || deadline.After(limit) {
		deadline = limit
	}
	for _, c := range p.calls {
		c.deadline = deadline
		if c.kind == kindSettle {
			c.yields, c.deadline = true, time.Now().Add(patience)
		}
		p.route.send(c)
	}
}

// conclude writes what the calls of a plan were told to d, and undoes what some
// partitions took if others refused. Of calls that failed it says nothing.
func (s *Store) conclude(ctx context.Context, p *plan, kind int64, charges []policy.Charge, d *policy.Decision) {
	d.Verdict = policy.Allowed
	var now int64
	for _, c := range p.calls {
		if !c.known() {
			continue
		}
		now = max(now, c.now)
		d.Verdict = max(d.Verdict, policy.Verdict(c.status)) // allowed, queued, refused
	}
	d.Now = time.UnixMicro(now)
	if len(charges) == 0 {
		d.Now = s.localNow()
	}
	for i := range charges {
		c := p.calls[p.where[i].call]
		if !c.known() {
			continue
		}
		item := p.where[i].item
		d.Results[i] = c.result(item, &charges[c.items[item].first], d.Verdict, kind == kindTake)
	}
	if kind == kindTake && d.Verdict == policy.Refused && len(p.calls) > 1 {
		undo := getPlan(p.route)
		for _, c := range p.calls {
			if c.known() && c.took() {
				undo.calls = append(undo.calls, c.refund())
			}
		}
		_ = s.run(ctx, undo) // if the context ends first, it goes on in the background
		undo.put()
	}
}

// giveBack undoes a take that nobody waits for, in the background.
func (s *Store) giveBack(c *call) {
	if c.took() {
		s.background(c.refund())
	}
}

// background sends a settle that nobody waits for.
func (s *Store) background(c *call) {
	c.state.Store(stateAbandoned)
	c.deadline = time.Now().Add(patience)
	c.route.send(c)
}

func (s *Store) localNow() time.Time {
	if s.now != nil {
		return s.now()
	}
	return time.Now()
}
