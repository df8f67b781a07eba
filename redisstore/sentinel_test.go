package redisstore_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// requireNothingRead fails the test if a replica was asked for anything but what
// replication and its own care need. The effects of scripts arrive there as writes.
func requireNothingRead(t *testing.T, replica *redistest.Server) {
	t.Helper()
	info := replica.Client(t).Info(t.Context(), "commandstats").Val()
	require.Contains(t, info, "cmdstat_set", "it follows at all")
	for _, read := range []string{"eval", "evalsha", "get", "mget", "zrange", "zcard", "lrange", "llen", "type", "exists", "pttl"} {
		require.NotContains(t, info, "cmdstat_"+read+":", "the replica was read")
	}
}

// A master that a sentinel replaces, asked to or because it was killed, is followed: a
// store of which nobody knows finds the new one. What replicas had arrived stays.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*redistest.Sentinel){
		"asked to": (*redistest.Sentinel).Failover,
		"killed": func(s *redistest.Sentinel) {
			master := s.Master()
			master.Kill()
			s.AwaitFailover(master)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sentinel := redistest.StartSentinel(t)
			client := sentinel.Client(t)
			store := redisstore.New(client)
			defer store.Close()
			l := policy.SlidingLog(1000, time.Hour)
			for range 10 {
				take(t, store, charge(l, "alice"))
			}
			require.Positive(t, client.Wait(t.Context(), 1, time.Second).Val())

			stop := make(chan struct{})
			var workers sync.WaitGroup
			for range 4 {
				workers.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
						var d policy.Decision
						_ = store.Take(ctx, policy.NewTicket(), []policy.Charge{charge(l, "bob")}, &d)
						cancel()
					}
				})
			}
			fail(sentinel)
			start := time.Now()
			eventually(t, "decisions again", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				var d policy.Decision
				return store.Take(ctx, policy.NewTicket(), []policy.Charge{charge(l, "carol")}, &d) == nil
			})
			took := time.Since(start)
			close(stop)
			workers.Wait()
			require.Less(t, took, time.Second)
			require.Equal(t, int64(10), used(t, store, charge(l, "alice")))
			t.Logf("decisions again %v after the sentinel had done", took)
		})
	}
}

// A client that would read from replicas does not do so for the store.
func TestReplicasAreNeverRead(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartClusterWithReplicas(t)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), RouteRandomly: true, ReadOnly: true})
	defer client.Close()
	store := redisstore.New(client)
	defer store.Close()
	for i := range 300 {
		c := charge(policy.PerHour(10), fmt.Sprint(i%100))
		take(t, store, c)
		require.Equal(t, int64(i/100+1), used(t, store, c))
	}
	require.NoError(t, client.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error {
		return c.Wait(ctx, 1, time.Second).Err()
	}))
	for _, replica := range cluster.Replicas {
		requireNothingRead(t, replica)
	}
	// The client itself would have: so the test can tell.
	for i := range 100 {
		client.Get(t.Context(), fmt.Sprint(i))
	}
	var asked bool
	for _, replica := range cluster.Replicas {
		asked = asked || strings.Contains(replica.Client(t).Info(t.Context(), "commandstats").Val(), "cmdstat_get:")
	}
	require.True(t, asked)
}
