package redisstore

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stint-go/stint/policy"
)

const (
	// pulse is how often a connection that is silent is asked whether it lives.
	pulse = 5 * time.Second

	// linger is how long a connection outlives the last who waited, since more
	// often come.
	linger = time.Second

	// A lost connection is made anew after a while that grows between these.
	minPause, maxPause = 10 * time.Millisecond, 5 * time.Second
)

// A listener hears for those who wait for slots that some were granted: the
// script publishes the tickets on a channel that is named as the key of the
// leases. It has one connection, as long as somebody waits. Nothing relies on
// it: what it misses is found later, by looking.
type listener struct {
	store   *Store
	connect func(ctx context.Context, channel string) (doer, error)
	changed chan struct{} // what is to be heard has; of capacity 1

	mu      sync.Mutex
	topics  map[string]*topic // by channel
	running bool
}

// A topic is a channel, and who waits for what is published there.
type topic struct {
	waiters map[policy.Ticket][]*waiter
	heard   bool // what is published from now on arrives
}

// A waiter waits for a ticket's grant.
type waiter struct {
	channel string
	ticket  policy.Ticket
	rung    chan struct{} // there may be news; of capacity 1
}

func (w *waiter) ring() {
	select {
	case w.rung <- struct{}{}:
	default:
	}
}

func (t *topic) ringAll() {
	for _, ws := range t.waiters {
		for _, w := range ws {
			w.ring()
		}
	}
}

// listener returns the listener for a hash tag's grants: one for a server or a
// shard, and one for all of a cluster, whose nodes hand on what is published.
func (r *route) listener(tag string) *listener {
	var shard *redis.Client
	connect := func(context.Context, string) (doer, error) { return r.single.client, nil }
	switch {
	case r.cluster != nil:
		connect = func(ctx context.Context, channel string) (doer, error) {
			client, err := r.cluster.MasterForKey(ctx, channel)
			if err != nil {
				return nil, err
			}
			return r.lane(client).client, nil
		}
	case r.ring != nil:
		shard, _ = r.ring.GetShardClientForKey(tag)
		connect = func(_ context.Context, channel string) (doer, error) {
			client, err := r.ring.GetShardClientForKey(channel)
			if err != nil {
				return nil, err
			}
			return r.lane(client).client, nil
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.listeners[shard]
	if l == nil {
		l = &listener{store: r.store, connect: connect, changed: make(chan struct{}, 1), topics: map[string]*topic{}}
		r.listeners[shard] = l
	}
	return l
}

// join begins to listen for a ticket. The waiter is rung when its slot may have
// been granted, and when it is sure to be heard of if it is.
func (l *listener) join(channel string, ticket policy.Ticket) *waiter {
	w := &waiter{channel: channel, ticket: ticket, rung: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[channel]
	if t == nil {
		t = &topic{waiters: map[policy.Ticket][]*waiter{}}
		l.topics[channel] = t
		l.change()
	}
	t.waiters[ticket] = append(t.waiters[ticket], w)
	if t.heard {
		w.ring()
	}
	if !l.running && l.store.begin() {
		l.running = true
		go l.run()
	}
	return w
}

func (l *listener) leave(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[w.channel]
	left := t.waiters[w.ticket][:0]
	for _, other := range t.waiters[w.ticket] {
		if other != w {
			left = append(left, other)
		}
	}
	if t.waiters[w.ticket] = left; len(left) == 0 {
		delete(t.waiters, w.ticket)
	}
	if len(t.waiters) == 0 {
		delete(l.topics, w.channel)
		l.change()
	}
}

func (l *listener) change() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// run listens until nobody has waited for a while, or the store is closed.
func (l *listener) run() {
	defer l.store.flights.Done()
	ctx := l.store.life
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		start := time.Now()
		l.session(ctx)
		if l.stop(ctx) {
			return
		}
		if time.Since(start) > maxPause {
			pause = minPause
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
		}
	}
}

// session listens on one connection until that breaks, or nobody has waited for a
// while.
func (l *listener) session(ctx context.Context) {
	channel, ok := l.any()
	if !ok {
		return
	}
	client, err := l.connect(ctx, channel)
	if err != nil {
		return
	}
	sub := client.Subscribe(ctx) // to nothing yet: so nothing is sent
	var heard atomic.Bool        // something, since the last pulse
	var reader sync.WaitGroup
	broken := make(chan struct{})
	defer func() {
		_ = sub.Close()
		reader.Wait()
		l.deafen()
	}()
	beat := time.NewTicker(pulse)
	defer beat.Stop()
	idle := time.NewTimer(linger)
	defer idle.Stop()
	channels := map[string]bool{}
	for reading := false; ; {
		more, less := l.difference(channels)
		if len(more) > 0 && sub.Subscribe(ctx, more...) != nil ||
			len(less) > 0 && sub.Unsubscribe(ctx, less...) != nil {
			return
		}
		if !reading && len(channels) > 0 {
			reading = true
			reader.Go(func() {
				defer close(broken)
				l.read(ctx, sub, &heard)
			})
		}
		if idle.Stop(); len(channels) == 0 {
			idle.Reset(linger)
		}
		select {
		case <-ctx.Done():
			return
		case <-broken:
			return
		case <-idle.C:
			return
		case <-l.changed:
		case <-beat.C:
			if !heard.Swap(false) || sub.Ping(ctx) != nil {
				return
			}
		}
	}
}

// read hands out what arrives until the connection breaks.
func (l *listener) read(ctx context.Context, sub *redis.PubSub, heard *atomic.Bool) {
	for {
		m, err := sub.Receive(ctx)
		if err != nil {
			return
		}
		heard.Store(true)
		l.hear(m)
	}
}

// hear hands out one message.
func (l *listener) hear(message any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch m := message.(type) {
	case *redis.Subscription:
		if t := l.topics[m.Channel]; t != nil && m.Kind == "subscribe" {
			t.heard = true
			t.ringAll()
		}
	case *redis.Message:
		t := l.topics[m.Channel]
		switch {
		case t == nil:
		case len(m.Payload) == len(policy.Ticket{}):
			for _, w := range t.waiters[policy.Ticket([]byte(m.Payload))] {
				w.ring()
			}
		default: // all were forgotten
			t.ringAll()
		}
	}
}

// any returns one of the channels to listen to.
func (l *listener) any() (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for channel := range l.topics {
		return channel, true
	}
	return "", false
}

// difference brings a set of channels up to date, and returns what came and went.
func (l *listener) difference(channels map[string]bool) (more, less []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for channel := range l.topics {
		if !channels[channel] {
			channels[channel] = true
			more = append(more, channel)
		}
	}
	for channel := range channels {
		if l.topics[channel] == nil {
			delete(channels, channel)
			less = append(less, channel)
		}
	}
	return more, less
}

// deafen notes that nothing arrives any more.
func (l *listener) deafen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.topics {
		t.heard = false
	}
}

// stop ends the listener if nobody waits, or the store is closed.
func (l *listener) stop(ctx context.Context) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.topics) > 0 && ctx.Err() == nil {
		return false
	}
	l.running = false
	return true
}
