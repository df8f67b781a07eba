package middleware

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-go/stint/policy"
)

// Health is how a Limiter does with its store.
type Health struct {
	// Failing are the store's nodes that are not asked now, since they failed, but
	// for a probe now and then. It is empty while all is well.
	Failing []Failure

	// Bypassed, Local and Unavailable count the requests since [New] of which limits
	// could not be asked: those that were served without some or all of them; others
	// that were decided in memory, served or refused; and those that were answered with
	// store_unavailable.
	Bypassed, Local, Unavailable int64

	// Instances is how many processes share limits while the store is away, as far
	// as is known: by Config.Instances, or as counted. It is 0 if that is unknown,
	// and where no rule has FailLocal.
	Instances int
}

// A Failure is a node that is not asked.
type Failure struct {
	// Node names it, where the store has several: an address.
	Node string

	// Since is when it failed, by the clock of this process.
	Since time.Time

	// Err is how it failed last. Never show its text to clients.
	Err error
}

// OK tells whether all of the store is asked.
func (h Health) OK() bool { return len(h.Failing) == 0 }

// Health tells how the Limiter does with its store: for alarms and dashboards. It asks
// nobody, and is quick. That a node answers again is learnt from requests: an instance
// that gets none since it is not OK never will be. Limiters made by With share it.
func (l *Limiter) Health() Health {
	h := l.health
	return Health{
		Failing:     h.failing(),
		Bypassed:    h.bypassed.Load(),
		Local:       h.local.Load(),
		Unavailable: h.unavailable.Load(),
		Instances:   l.fallback.instances(),
	}
}

// A health is what a Limiter knows of its store: a breaker for each node, and what
// was served without.
type health struct {
	store policy.Store
	nodes policy.Nodes // the store, if it has nodes
	began time.Time
	emit  func(Event)

	troubled atomic.Int32 // breakers that are open
	whole    breaker      // of a store without nodes, and of what is unknown
	others   sync.Map     // of nodes, by name: as many as the store ever had

	bypassed, local, unavailable atomic.Int64

	mu      sync.Mutex
	closed  bool
	swept   time.Duration
	errands sync.WaitGroup // what goes on behind requests
}

func newHealth(store policy.Store, emit func(Event)) *health {
	h := &health{store: store, began: time.Now(), emit: emit}
	h.nodes, _ = store.(policy.Nodes)
	return h
}

func (h *health) now() time.Duration { return time.Since(h.began) }

// breaker returns that of the node that decides about a charge.
func (h *health) breaker(c *policy.Charge) *breaker {
	if h.nodes == nil {
		return &h.whole
	}
	node := h.nodes.Node(c)
	if node == "" {
		return &h.whole
	}
	if b, ok := h.others.Load(node); ok {
		return b.(*breaker)
	}
	b, _ := h.others.LoadOrStore(node, &breaker{node: node})
	return b.(*breaker)
}

// all yields the breakers.
func (h *health) all(yield func(*breaker) bool) {
	if !yield(&h.whole) {
		return
	}
	h.others.Range(func(_, b any) bool { return yield(b.(*breaker)) })
}

func (h *health) failing() (failing []Failure) {
	for b := range h.all {
		if since, err := b.failure(); !since.IsZero() && !b.replaced(h.nodes) {
			failing = append(failing, Failure{Node: b.node, Since: since, Err: err})
		}
	}
	slices.SortFunc(failing, func(a, b Failure) int { return a.Since.Compare(b.Since) })
	return failing
}

// take asks the store, takes note of how it did, and returns what it said.
func (h *health) take(ctx context.Context, ticket policy.Ticket, charges []policy.Charge, d *policy.Decision) error {
	began := h.now()
	var err error
	if h.nodes != nil {
		err = h.nodes.TakeKnown(ctx, ticket, charges, d)
	} else {
		err = h.store.Take(ctx, ticket, charges, d)
	}
	err = complete(charges, d, err, h.nodes != nil)
	h.heard(ctx, began, charges, d, err)
	return err
}

// peek is take without taking.
func (h *health) peek(ctx context.Context, charges []policy.Charge, d *policy.Decision) error {
	began := h.now()
	err := complete(charges, d, h.store.Peek(ctx, charges, d), false)
	h.heard(ctx, began, charges, d, err)
	return err
}

// heard takes note of an answer, by nodes.
func (h *health) heard(ctx context.Context, began time.Duration, charges []policy.Charge, d *policy.Decision, err error) {
	now := h.now()
	if errors.Is(err, policy.ErrKey) {
		err = nil // it was an answer, and no good one
	}
	blameless := err != nil && (errors.Is(err, context.Canceled) || policy.CheckCharges(charges) != nil)
	slow := err != nil && (ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded))
	for i := range charges {
		if i > 0 && (h.nodes == nil || charges[i].Place() == charges[i-1].Place()) {
			continue
		}
		b := h.breaker(&charges[i])
		switch {
		case err == nil || d.Verdict != policy.Unknown && d.Results[i].Verdict != policy.Unknown:
			h.answered(b, now)
		case blameless: // it was no answer either
		case b.failed(began, now, slow, err, &charges[i]):
			h.troubled.Add(1)
			h.emit(Event{Kind: StoreLost, Node: b.node, Err: err})
		}
	}
}

func (h *health) answered(b *breaker, now time.Duration) {
	if b.answered(now) {
		h.troubled.Add(-1)
		h.emit(Event{Kind: StoreBack, Node: b.node})
	}
	// What was asked before the nodes were known would not be asked again.
	if b != &h.whole && h.whole.open.Load() {
		h.answered(&h.whole, now)
	}
}

// away returns how a breaker failed that turns requests away.
func (b *breaker) away() error {
	_, err := b.failure()
	if b.node != "" {
		return fmt.Errorf("ratelimit: the store's node %s is not asked for a moment: %w", b.node, err)
	}
	return fmt.Errorf("ratelimit: the store is not asked for a moment: %w", err)
}

// mayWait tells whether a request may wait until a charge is settled: not while its
// node is away.
func (h *health) mayWait(l *Limiter, c *policy.Charge) bool {
	return l.inMemory || h.troubled.Load() == 0 || !h.breaker(c).open.Load()
}

// sweep forgets now and then the nodes that others have replaced: nobody would ask them
// again.
func (h *health) sweep(now time.Duration) {
	const every = time.Second
	h.mu.Lock()
	due := now-h.swept >= every
	if due {
		h.swept = now
	}
	h.mu.Unlock()
	if !due {
		return
	}
	for b := range h.all {
		if b.replaced(h.nodes) && b.forgotten() {
			h.troubled.Add(-1)
			h.emit(Event{Kind: StoreBack, Node: b.node})
		}
	}
}

// errand runs f behind the request, or at once if the Limiter is closed.
func (h *health) errand(f func()) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		f()
		return
	}
	h.errands.Add(1)
	h.mu.Unlock()
	go func() {
		defer h.errands.Done()
		f()
	}()
}

// close waits for what goes on behind requests.
func (h *health) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.errands.Wait()
}
