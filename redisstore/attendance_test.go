package redisstore_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// Stores that share a Redis count each other, by name, on a server, a cluster and a
// ring. Who leaves counts no more at once.
func TestInstancesAreCounted(t *testing.T) {
	srv, cluster := redistest.Start(t), redistest.StartCluster(t)
	for name, connect := range map[string]func(*testing.T) redis.UniversalClient{
		"server":  func(t *testing.T) redis.UniversalClient { return srv.Client(t) },
		"cluster": func(t *testing.T) redis.UniversalClient { return cluster.Client(t) },
		"ring": func(t *testing.T) redis.UniversalClient {
			ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": srv.Addr()}})
			t.Cleanup(func() { _ = ring.Close() })
			return ring
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var counts []func() int
			var leaves []func()
			for range 3 {
				store := redisstore.Options{Namespace: name}.New(connect(t))
				defer store.Close()
				for range 2 { // two Limiters of one process are one instance
					count, leave := store.Attend("api")
					counts, leaves = append(counts, count), append(leaves, leave)
				}
				_, leave := store.Attend("other")
				defer leave()
			}
			eventually(t, "each counts three", func() bool {
				for _, count := range counts {
					if count() != 3 {
						return false
					}
				}
				return true
			})
			leaves[0]()
			leaves[0]()
			leaves[1]() // the first store's last
			late := redisstore.Options{Namespace: name}.New(connect(t))
			defer late.Close()
			count, _ := late.Attend("api")
			eventually(t, "it counts", func() bool { return count() > 0 })
			require.Equal(t, 3, count(), "one has left, and one is new")
		})
	}
}

// While the server is away, or has just come back empty, the last number stands.
func TestInstancesAreRemembered(t *testing.T) {
	srv := redistest.Start(t)
	var counts []func() int
	for range 4 {
		store := redisstore.New(srv.Client(t))
		defer store.Close()
		count, _ := store.Attend("api")
		counts = append(counts, count)
	}
	eventually(t, "four", func() bool { return counts[0]() == 4 && counts[3]() == 4 })
	srv.Kill()
	require.Equal(t, 4, counts[0]())
	srv.Restart()
	rdb := srv.Client(t)
	eventually(t, "somebody is heard of", func() bool { return rdb.ZCard(t.Context(), "stint{%instances-api}").Val() > 0 })
	require.Equal(t, 4, counts[0]())
	ttl := rdb.PTTL(t.Context(), "stint{%instances-api}").Val()
	require.Positive(t, ttl, "no key lives forever")
	require.LessOrEqual(t, ttl, 10*time.Second)
}

// One that has died is not counted for long, by the clock of the store.
func TestDeadInstance(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	var offset atomic.Int64
	o := redisstore.Options{Now: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }}
	proxy := redistest.StartProxy(t, srv.Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr()})
	defer client.Close()
	dead := o.New(client)
	defer dead.Close()
	dead.Attend("api")
	eventually(t, "it was heard of", func() bool { return rdb.ZCard(t.Context(), "stint{%instances-api}").Val() == 1 })
	proxy.Freeze()
	defer proxy.Thaw()
	for i, want := range []int{2, 1} {
		t.Run(fmt.Sprint(want), func(t *testing.T) {
			offset.Add(int64(i) * int64(6*time.Second))
			store := o.New(srv.Client(t))
			defer store.Close()
			count, leave := store.Attend("api")
			eventually(t, "it counts", func() bool { return count() > 0 })
			require.Equal(t, want, count())
			leave()
		})
	}
}

func TestAttendAClosedStore(t *testing.T) {
	srv := redistest.Start(t)
	store := redisstore.New(srv.Client(t))
	require.NoError(t, store.Close())
	count, leave := store.Attend("api")
	require.Zero(t, count())
	leave()
}
