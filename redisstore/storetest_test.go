package redisstore_test

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/policy/storetest"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// spaces numbers namespaces, so that no two benches share a count.
var spaces atomic.Int64

// harness makes benches of three stores each, as three processes would have,
// each with a client of its own.
func harness(t *testing.T, apart bool, connect func() redis.UniversalClient) storetest.Harness {
	clients := []redis.UniversalClient{connect(), connect(), connect()}
	t.Cleanup(func() {
		for _, client := range clients {
			_ = client.Close()
		}
	})
	return func(_ testing.TB, now func() time.Time) *storetest.Bench {
		b := &storetest.Bench{Partitioned: apart}
		space := "space" + strconv.FormatInt(spaces.Add(1), 10)
		for _, client := range clients {
			b.Stores = append(b.Stores, redisstore.Options{Namespace: space, Now: now, Timeout: 5 * time.Second}.New(client))
		}
		return b
	}
}

// node is a harness on a server of its own, behind a proxy that can hold back
// replies.
func node(t *testing.T) storetest.Harness {
	proxy := redistest.StartProxy(t, redistest.Start(t).Addr())
	connected := harness(t, false, func() redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: proxy.Addr()})
	})
	return func(tb testing.TB, now func() time.Time) *storetest.Bench {
		b := connected(tb, now)
		b.Stall = func() func() {
			proxy.FreezeReplies()
			return proxy.Thaw
		}
		return b
	}
}

// TestContract holds the store to the contract of policy.Store, on a server of
// its own, on one that a sentinel names, on a cluster of three and on a ring.
func TestContract(t *testing.T) {
	t.Run("node", func(t *testing.T) { storetest.Run(t, node(t)) })
	t.Run("cluster", func(t *testing.T) {
		cluster := redistest.StartCluster(t)
		storetest.Run(t, harness(t, true, func() redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})
		}))
	})
	t.Run("sentinel", func(t *testing.T) {
		sentinel := redistest.StartSentinel(t)
		storetest.Run(t, harness(t, false, func() redis.UniversalClient {
			return redis.NewFailoverClient(sentinel.Options())
		}))
		requireNothingRead(t, sentinel.Servers[1])
	})
	t.Run("ring", func(t *testing.T) {
		a, b := redistest.Start(t), redistest.Start(t)
		storetest.Run(t, harness(t, true, func() redis.UniversalClient {
			return redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": a.Addr(), "b": b.Addr()}})
		}))
	})
}

// TestMemoryAndRedisAgree asks both stores the same.
func TestMemoryAndRedisAgree(t *testing.T) {
	storetest.Compare(t, func(_ testing.TB, now func() time.Time) *storetest.Bench {
		return &storetest.Bench{Stores: []policy.Store{memstore.New(memstore.Options{Now: now})}}
	}, node(t))
}
