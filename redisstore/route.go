package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/stint-go/stint/policy"
)

// errReplan says that a plan was made for what has changed since: a server that
// is found to be a cluster, a shard that has left its ring.
var errReplan = errors.New("redisstore: the servers have changed")

// A route knows which part of Redis decides about a partition, and the lane
// there. It is one of three kinds: a single server, a cluster, or a ring.
type route struct {
	store   *Store
	single  *lane
	cluster *redis.ClusterClient
	ring    *redis.Ring
	owned   bool // the cluster client is the store's own

	slots [slots]atomic.Pointer[lane] // of a cluster, as far as known
	known atomic.Bool                 // the client has learned what the cluster looks like

	mu       sync.Mutex
	lanes    map[*redis.Client]*lane
	locating map[int][]*call          // calls of slots that are being looked up
	dialled  map[string]*redis.Client // servers that only a redirection named
	parts    map[*redis.Client]int    // of a ring: the shards, numbered as they are met
	shards   []*redis.Client

	listeners map[*redis.Client]*listener // of a ring: by shard; else there is one
}

func newRoute(s *Store, client redis.UniversalClient) *route {
	r := &route{
		store: s, lanes: map[*redis.Client]*lane{}, locating: map[int][]*call{},
		dialled: map[string]*redis.Client{}, parts: map[*redis.Client]int{},
		listeners: map[*redis.Client]*listener{},
	}
	switch client := client.(type) {
	case *redis.ClusterClient:
		r.cluster = client
	case *redis.Ring:
		r.ring = client
	case *redis.Client:
		r.single = r.lane(client)
	default:
		r.single = &lane{store: s, route: r, client: client}
	}
	return r
}

// part returns what decides about a hash tag by itself: charges of one part go
// in one call. On a single server that is all of it.
func (r *route) part(tag string) int {
	switch {
	case r.cluster != nil:
		return slot(tag)
	case r.ring != nil:
		shard, err := r.ring.GetShardClientForKey(tag)
		if err != nil {
			return -1
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		n, ok := r.parts[shard]
		if !ok {
			n = len(r.shards)
			r.parts[shard] = n
			r.shards = append(r.shards, shard)
		}
		return n
	}
	return 0
}

// send brings a call to its lane.
func (r *route) send(c *call) {
	switch {
	case r.single != nil:
		r.single.add(c)
	case r.ring != nil:
		r.mu.Lock()
		var shard *redis.Client
		if c.part >= 0 && c.part < len(r.shards) {
			shard = r.shards[c.part]
		}
		r.mu.Unlock()
		switch {
		case shard != nil:
			r.lane(shard).add(c)
		case c.part >= 0: // it left the ring
			r.store.reroute(c)
		default:
			r.store.again(c, errors.New("redisstore: no shard of the ring is up"))
		}
	default:
		if l := r.slots[c.part].Load(); l != nil {
			l.add(c)
			return
		}
		r.mu.Lock()
		waiting, under := r.locating[c.part]
		if !under && !r.store.begin() {
			r.mu.Unlock()
			r.store.again(c, policy.ErrClosed)
			return
		}
		r.locating[c.part] = append(waiting, c)
		r.mu.Unlock()
		if !under {
			go r.locate(c.part, "{"+c.items[0].tag+"}")
		}
	}
}

// locate finds the lane of a slot, by a key in it, and sends the calls there
// that wait for that. It may have to ask the cluster, and so runs beside them.
func (r *route) locate(slot int, key string) {
	defer r.store.flights.Done()
	ctx, cancel := context.WithTimeout(context.Background(), r.store.timeout)
	defer cancel()
	client, err := r.cluster.MasterForKey(ctx, key)
	var l *lane
	if err == nil {
		r.known.Store(true)
		l = r.lane(client)
		r.slots[slot].Store(l)
	}
	r.mu.Lock()
	calls := r.locating[slot]
	delete(r.locating, slot)
	r.mu.Unlock()
	for _, c := range calls {
		if err != nil {
			r.store.again(c, fmt.Errorf("redisstore: %w", err))
		} else {
			l.add(c)
		}
	}
}

// lane returns the lane of a client.
func (r *route) lane(client *redis.Client) *lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, ok := r.lanes[client]
	if !ok {
		l = &lane{
			store:  r.store,
			route:  r,
			client: client.WithTimeout(r.store.timeout),
			origin: client,
			bySlot: r.cluster != nil,
		}
		r.lanes[client] = l
	}
	return l
}

// followUp sends calls again of which the reply proves that they did not run.
func (r *route) followUp(l *lane, calls []*call, cmd *command, err error) {
	s := r.store
	moved, ask := redis.HasErrorPrefix(err, "MOVED"), redis.HasErrorPrefix(err, "ASK")
	if !moved && !ask {
		r.forget(l)
	}
	switch {
	case r.cluster != nil && (moved || ask):
		if moved {
			for _, c := range calls {
				r.slots[c.part].CompareAndSwap(l, nil)
			}
			r.cluster.ReloadState(context.Background())
		}
		if !s.begin() { // others need not wait for this
			l.fail(calls, policy.ErrClosed)
			return
		}
		go r.redirect(l, slices.Clone(calls), cmd, redirection(err, l.origin), ask)
	case r.single != nil && (moved || redis.HasErrorPrefix(err, "CROSSSLOT")):
		if l.origin == nil {
			l.fail(calls, fmt.Errorf("redisstore: the server is a cluster, the client is not: %w", err))
			return
		}
		s.becomeCluster(r, l.origin)
		for _, c := range calls {
			s.reroute(c)
		}
	case r.ring != nil && errors.Is(err, redis.ErrClosed):
		for _, c := range calls {
			s.reroute(c)
		}
	case r.single != nil && errors.Is(err, redis.ErrClosed):
		for _, c := range calls {
			l.drop(c, fmt.Errorf("redisstore: %w", err))
		}
	default:
		for _, c := range calls {
			s.again(c, fmt.Errorf("redisstore: %w", err))
		}
	}
}

// redirection returns the address in "MOVED 3999 127.0.0.1:6381". Without a
// host it is that of the server that said so.
func redirection(err error, by *redis.Client) string {
	fields := strings.Fields(err.Error())
	addr := fields[len(fields)-1]
	if host, port, err := net.SplitHostPort(addr); err == nil && host == "" {
		host, _, _ = net.SplitHostPort(by.Options().Addr)
		addr = net.JoinHostPort(host, port)
	}
	return addr
}

// redirect follows MOVED and ASK to an address, within the store's time.
func (r *route) redirect(from *lane, calls []*call, cmd *command, addr string, ask bool) {
	defer r.store.flights.Done()
	ctx, cancel := context.WithTimeout(context.Background(), r.store.timeout)
	defer cancel()
	l := r.laneAt(addr, from.origin)
	confirm := r.store.confirm(ctx, calls)
	send := func() error {
		transmit(ctx, l.client, []*command{cmd}, ask, confirm)
		return cmd.Err()
	}
	cmd = cmd.again(ctx)
	err := send()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		cmd, confirm = cmd.withSource(ctx), r.store.confirm(ctx, calls)
		err = send()
	}
	switch {
	case err == nil:
		l.answer(calls, cmd, r.store.confirmed(confirm))
	case nothingRan(err):
		for _, c := range calls {
			r.store.again(c, fmt.Errorf("redisstore: %w", err))
		}
	default:
		l.fail(calls, fmt.Errorf("redisstore: %w", err))
	}
}

// laneAt returns the lane to an address, by a client that the route has met or
// else by one of its own, made like the other one.
func (r *route) laneAt(addr string, like *redis.Client) *lane {
	r.mu.Lock()
	client := r.dialled[addr]
	for c := range r.lanes {
		if c.Options().Addr == addr {
			client = c
		}
	}
	if client == nil {
		client = redis.NewClient(optionsAt(addr, like))
		r.dialled[addr] = client
	}
	r.mu.Unlock()
	return r.lane(client)
}

// optionsAt returns a client's options for another address.
func optionsAt(addr string, like *redis.Client) *redis.Options {
	o := *like.Options()
	o.Addr = addr
	o.PushNotificationProcessor = nil // each client has its own
	return &o
}

// forget lets the slots of a lane be looked up again, and its shard: its server
// does not answer, or not for them.
func (r *route) forget(l *lane) {
	if r.single != nil {
		return
	}
	r.mu.Lock()
	delete(r.lanes, l.origin)
	if n, ok := r.parts[l.origin]; ok {
		delete(r.parts, l.origin)
		r.shards[n] = nil
	}
	r.mu.Unlock()
	if r.cluster == nil {
		return
	}
	for i := range r.slots {
		r.slots[i].CompareAndSwap(l, nil)
	}
	r.cluster.ReloadState(context.Background())
}

// becomeCluster replaces the route by one of a cluster that a plain client was
// found to talk to, with connections made by that client's options.
func (s *Store) becomeCluster(old *route, plain *redis.Client) {
	old.mu.Lock()
	defer old.mu.Unlock()
	if s.route.Load() != old || s.closed.Load() {
		return
	}
	r := newRoute(s, redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:        []string{plain.Options().Addr},
		MaxRedirects: 3,
		NewClient: func(o *redis.Options) *redis.Client {
			return redis.NewClient(optionsAt(o.Addr, plain))
		},
	}))
	r.owned = true
	s.route.Store(r)
}

// close closes what the route opened.
func (r *route) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, client := range r.dialled {
		errs = append(errs, client.Close())
	}
	clear(r.dialled)
	if r.owned {
		r.owned = false
		errs = append(errs, r.cluster.Close())
	}
	return errors.Join(errs...)
}
