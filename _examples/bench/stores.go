package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/sethvargo/go-limiter"
	"github.com/sethvargo/go-limiter/memorystore"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/redisstore"
)

// stintStore is a store of stint, asked for all limits at once.
func stintStore(server *redisServer, r row) (*contender, error) {
	store, closeStore := r.store(server)
	names, limits, scope := r.names(), r.stintLimits(), policy.NewScope("bench", "per_key")
	return &contender{
		name:  "stint",
		close: closeStore,
		decider: func() func(int) (bool, error) {
			ctx := context.Background()
			var decision policy.Decision
			charges := make([]policy.Charge, len(limits))
			for i, l := range limits {
				charges[i] = policy.Charge{Limit: l, Scope: scope, Units: 1}
			}
			return func(key int) (bool, error) {
				for i := range charges {
					charges[i].Key = names[key]
				}
				err := store.Take(ctx, policy.NewTicket(), charges, &decision)
				return decision.Verdict == policy.Allowed, err
			}
		},
	}, nil
}

// store returns stint's store for the row, and what closes it.
func (r row) store(server *redisServer) (policy.Store, func() error) {
	if r.backend == "memory" {
		store := memstore.New(memstore.Options{})
		return store, store.Close
	}
	client := server.client()
	store := redisstore.New(client)
	return store, func() error { return errors.Join(store.Close(), client.Close()) }
}

// stintLimits returns the row's limits, of the peer's kind.
func (r row) stintLimits() []policy.Limit {
	limits := make([]policy.Limit, r.limits)
	for i, q := range r.quotas() {
		switch {
		case r.backend == "redis":
			limits[i] = policy.TokenBucket(q.n, q.window).WithBurst(q.burst)
		case r.layer == "store":
			limits[i] = policy.FixedWindow(q.n, q.window)
		default:
			limits[i] = policy.SlidingWindow(q.n, q.window)
		}
	}
	return limits
}

// goLimiterStore is one memory store of go-limiter for each limit.
func goLimiterStore(_ *redisServer, r row) (*contender, error) {
	stores := make([]limiter.Store, r.limits)
	for i, q := range r.quotas() {
		store, err := memorystore.New(&memorystore.Config{Tokens: uint64(q.n), Interval: q.window, SweepMinTTL: 10 * 24 * time.Hour})
		if err != nil {
			return nil, err
		}
		stores[i] = store
	}
	names, ctx := r.names(), context.Background()
	decide := func(key int) (bool, error) {
		for _, store := range stores {
			if _, _, _, allowed, err := store.Take(ctx, names[key]); err != nil || !allowed {
				return false, err
			}
		}
		return true, nil
	}
	return &contender{
		name:    "go-limiter",
		decider: func() func(int) (bool, error) { return decide },
		close: func() error {
			for _, store := range stores {
				if err := store.Close(ctx); err != nil {
					return err
				}
			}
			return nil
		},
	}, nil
}

// redisRateStore is redis_rate, called once for each limit.
func redisRateStore(server *redisServer, r row) (*contender, error) {
	client := server.client()
	allow := redisRate(redis_rate.NewLimiter(client), r)
	decide := func(key int) (bool, error) {
		result, err := allow(key)
		return err == nil && result.Allowed > 0, err
	}
	return &contender{
		name:    "redis_rate",
		decider: func() func(int) (bool, error) { return decide },
		close:   client.Close,
	}, nil
}

// redisRate asks the limits in turn, and returns the refusal, or the last
// answer.
func redisRate(limiter *redis_rate.Limiter, r row) func(key int) (*redis_rate.Result, error) {
	ctx := context.Background()
	limits := make([]redis_rate.Limit, r.limits)
	keys := make([][]string, r.limits)
	for i, q := range r.quotas() {
		limits[i] = redis_rate.Limit{Rate: int(q.n), Burst: int(q.burst), Period: q.window}
		for _, name := range r.names() {
			keys[i] = append(keys[i], name+"/"+strconv.Itoa(i))
		}
	}
	return func(key int) (result *redis_rate.Result, err error) {
		for i, limit := range limits {
			if result, err = limiter.Allow(ctx, keys[i][key], limit); err != nil || result.Allowed == 0 {
				return result, err
			}
		}
		return result, nil
	}
}
