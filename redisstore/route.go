package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/stint-go/stint/policy"
)

// errReplan says that a plan was made for another kind of Redis.
var errReplan = errors.New("redisstore: the server is a cluster")

// A route knows which part of Redis decides about a partition, and the lane
// there. It is one of three kinds: a single server, a cluster, or a ring.
type route struct {
	store   *Store
	single  *lane
	cluster *redis.ClusterClient
	ring    *redis.Ring
	owned   bool // the cluster client is the store's own

	slots [slots]atomic.Pointer[lane] // of a cluster, as far as known

	mu    sync.Mutex
	lanes map[*redis.Client]*lane
	parts map[*redis.Client]int // of a ring: the shards, numbered as they are met
	shard []*redis.Client
}

func newRoute(s *Store, client redis.UniversalClient) *route {
	r := &route{store: s, lanes: map[*redis.Client]*lane{}, parts: map[*redis.Client]int{}}
	switch client := client.(type) {
	case *redis.ClusterClient:
		r.cluster = client
	case *redis.Ring:
		r.ring = client
	case *redis.Client:
		r.single = r.lane(client)
	default:
		r.single = &lane{store: s, client: client}
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
			n = len(r.shard)
			r.parts[shard] = n
			r.shard = append(r.shard, shard)
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
		if c.part >= 0 && c.part < len(r.shard) {
			shard = r.shard[c.part]
		}
		r.mu.Unlock()
		if shard == nil {
			r.store.again(c, errors.New("redisstore: no shard of the ring is up"))
			return
		}
		r.lane(shard).add(c)
	default:
		if l := r.slots[c.part].Load(); l != nil {
			l.add(c)
			return
		}
		if !r.store.begin() {
			r.store.again(c, policy.ErrClosed)
			return
		}
		go r.locate(c)
	}
}

// locate finds the lane of a slot and sends the call there. It may have to ask
// the cluster, and so runs beside the caller.
func (r *route) locate(c *call) {
	defer r.store.flights.Done()
	ctx, cancel := context.WithTimeout(context.Background(), r.store.timeout)
	defer cancel()
	client, err := r.cluster.MasterForKey(ctx, "{"+c.tag+"}")
	if err != nil {
		r.store.again(c, fmt.Errorf("redisstore: %w", err))
		return
	}
	l := r.lane(client)
	r.slots[c.part].Store(l)
	l.add(c)
}

// lane returns the lane of a client.
func (r *route) lane(client *redis.Client) *lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, ok := r.lanes[client]
	if !ok {
		l = &lane{
			store:  r.store,
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
	moved := redis.HasErrorPrefix(err, "MOVED") || redis.HasErrorPrefix(err, "ASK")
	switch {
	case r.cluster != nil && moved:
		// The client knows how to follow the reply. Others need not wait for it.
		if !s.begin() {
			l.fail(calls, policy.ErrClosed)
			return
		}
		go r.redirect(l, slices.Clone(calls), cmd)
	case r.single != nil && (moved || redis.HasErrorPrefix(err, "CROSSSLOT")):
		if l.origin == nil {
			l.fail(calls, fmt.Errorf("redisstore: the server is a cluster, the client is not: %w", err))
			return
		}
		s.becomeCluster(r, l.origin)
		for _, c := range calls {
			l.drop(c, errReplan)
		}
	default:
		r.forget(l)
		for _, c := range calls {
			s.again(c, fmt.Errorf("redisstore: %w", err))
		}
	}
}

// redirect follows MOVED and ASK.
func (r *route) redirect(l *lane, calls []*call, cmd *command) {
	defer r.store.flights.Done()
	ctx, cancel := context.WithTimeout(context.Background(), r.store.timeout)
	defer cancel()
	for _, c := range calls {
		r.slots[c.part].Store(nil)
	}
	cmd = cmd.again(ctx)
	err := r.cluster.Process(ctx, cmd)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		cmd = cmd.withSource(ctx)
		err = r.cluster.Process(ctx, cmd)
	}
	switch {
	case err == nil:
		l.answer(calls, cmd)
	case nothingRan(err):
		for _, c := range calls {
			r.store.again(c, fmt.Errorf("redisstore: %w", err))
		}
	default:
		l.fail(calls, fmt.Errorf("redisstore: %w", err))
	}
}

// forget lets the slots of a lane be looked up again: its server does not
// answer, or not for them.
func (r *route) forget(l *lane) {
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
	opts := *plain.Options()
	r := newRoute(s, redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:        []string{opts.Addr},
		MaxRedirects: 3,
		NewClient: func(o *redis.Options) *redis.Client {
			node := opts
			node.Addr = o.Addr
			node.PushNotificationProcessor = nil // each client has its own
			return redis.NewClient(&node)
		},
	}))
	r.owned = true
	s.route.Store(r)
}

// close closes what the route opened.
func (r *route) close() error {
	if r.owned {
		return r.cluster.Close()
	}
	return nil
}
