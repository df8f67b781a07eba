package redisstore_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

func TestCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	store := redisstore.New(cluster.Client(t))
	defer store.Close()

	t.Run("a refusal undoes other partitions", func(t *testing.T) {
		wide := charge(policy.PerHour(10), "wide")
		for i := range 8 {
			// Each in a slot of its own; the last one refuses from the third on.
			narrow := charge(policy.PerHour(2), fmt.Sprint("narrow", i%2))
			d := take(t, store, wide, narrow)
			if i < 4 {
				require.Equal(t, policy.Allowed, d.Verdict)
				require.Equal(t, int64(i+1), d.Results[0].Used)
				continue
			}
			require.Equal(t, policy.Refused, d.Verdict)
			require.Equal(t, policy.Allowed, d.Results[0].Verdict)
			require.Equal(t, int64(4), d.Results[0].Used)
			require.Equal(t, policy.Refused, d.Results[1].Verdict)
			require.Equal(t, int64(4), used(t, store, wide))
		}
	})
	t.Run("one partition is one round trip", func(t *testing.T) {
		perKey, perWorkspace := charge(policy.PerHour(10), "key"), charge(policy.PerHour(20), "acme")
		perKey.Partition = "acme"
		d := take(t, store, perKey, perWorkspace)
		require.Equal(t, policy.Allowed, d.Verdict)
		var keys []string
		require.NoError(t, cluster.Client(t).ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			keys = append(keys, c.Keys(ctx, "stint{acme}*").Val()...)
			return nil
		}))
		require.ElementsMatch(t, []string{"stint{acme}", "stint{acme}|key=key"}, keys)
	})
	t.Run("many slots at once", func(t *testing.T) {
		var wg sync.WaitGroup
		var admitted atomic.Int64
		for g := range 64 {
			wg.Go(func() {
				for i := range 50 {
					var d policy.Decision
					c := charge(policy.SlidingLog(16, time.Hour), fmt.Sprint("many", (g*50+i)%100))
					if err := store.Take(context.Background(), policy.NewTicket(), []policy.Charge{c}, &d); err != nil {
						t.Error(err)
						return
					}
					if d.Verdict == policy.Allowed {
						admitted.Add(1)
					}
				}
			})
		}
		wg.Wait()
		require.Equal(t, int64(1600), admitted.Load())
	})
	t.Run("a plain client is noticed", func(t *testing.T) {
		for i, node := range cluster.Nodes {
			plain := redisstore.Options{Namespace: fmt.Sprint("plain", i)}.New(node.Client(t))
			for j := range 20 {
				d := take(t, plain, charge(policy.PerHour(100), fmt.Sprint("a", j)), charge(policy.PerHour(100), "b"))
				require.Equal(t, policy.Allowed, d.Verdict)
				require.Equal(t, int64(j+1), d.Results[1].Used)
			}
			require.NoError(t, plain.Close())
		}
	})
	t.Run("a slot moves under load", func(t *testing.T) {
		c := charge(policy.SlidingLog(1000, time.Hour), "mover")
		node := cluster.Client(t)
		slot := node.ClusterKeySlot(t.Context(), "mover").Val()
		var wg sync.WaitGroup
		stop := make(chan struct{})
		var admitted, failed atomic.Int64
		for range 8 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					var d policy.Decision
					if err := store.Take(context.Background(), policy.NewTicket(), []policy.Charge{c}, &d); err != nil {
						failed.Add(1)
						t.Log(err)
					} else if d.Verdict == policy.Allowed {
						admitted.Add(1)
					}
				}
			})
		}
		for range 3 {
			moveSlot(t, cluster, int(slot))
		}
		close(stop)
		wg.Wait()
		for take(t, store, c).Verdict == policy.Allowed {
			admitted.Add(1)
		}
		require.Zero(t, failed.Load())
		require.Equal(t, int64(1000), admitted.Load())
		require.Equal(t, int64(1000), used(t, store, c))
	})
}

var mu sync.Mutex

// moveSlot moves a slot with its keys to the next node.
func moveSlot(t *testing.T, cluster *redistest.Cluster, slot int) {
	t.Helper()
	ctx := t.Context()
	ids := make([]string, len(cluster.Nodes))
	clients := make([]*redis.Client, len(cluster.Nodes))
	from := -1
	for i, n := range cluster.Nodes {
		clients[i] = n.Client(t)
		ids[i] = clients[i].Do(ctx, "cluster", "myid").Val().(string)
	}
	for _, shard := range clients[0].ClusterShards(ctx).Val() {
		for _, slots := range shard.Slots {
			if int(slots.Start) <= slot && slot <= int(slots.End) {
				from = slices.Index(ids, shard.Nodes[0].ID)
			}
		}
	}
	to := (from + 1) % len(ids)
	require.NoError(t, clients[to].Do(ctx, "cluster", "setslot", slot, "importing", ids[from]).Err())
	require.NoError(t, clients[from].Do(ctx, "cluster", "setslot", slot, "migrating", ids[to]).Err())
	time.Sleep(20 * time.Millisecond)
	host, port, _ := net.SplitHostPort(cluster.Nodes[to].Addr())
	for {
		keys := clients[from].Do(ctx, "cluster", "getkeysinslot", slot, 100).Val().([]any)
		if len(keys) == 0 {
			break
		}
		args := append([]any{"migrate", host, port, "", 0, 1000, "keys"}, keys...)
		require.NoError(t, clients[from].Do(ctx, args...).Err())
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	for _, i := range []int{to, from, 3 - to - from} {
		require.NoError(t, clients[i].Do(ctx, "cluster", "setslot", slot, "node", ids[to]).Err())
	}
	time.Sleep(20 * time.Millisecond)
}
