package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// Callers that give up at the very moment their answer comes: each call has one
// owner, and what nobody was told is given back.
func TestCallersThatGiveUpAtTheLastMoment(t *testing.T) {
	srv := redistest.Start(t)
	store := redisstore.New(srv.Client(t))
	defer store.Close()
	c := charge(policy.SlidingWindow(1_000_000, 24*time.Hour), "alice")
	var wg sync.WaitGroup
	var mu sync.Mutex
	told := int64(0)
	end := time.Now().Add(2 * time.Second)
	for range 64 {
		wg.Go(func() {
			for time.Now().Before(end) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(3000))*time.Microsecond)
				var d policy.Decision
				err := store.Take(ctx, policy.NewTicket(), []policy.Charge{c}, &d)
				cancel()
				switch {
				case err == nil && d.Verdict == policy.Allowed:
					mu.Lock()
					told++
					mu.Unlock()
				case err == nil:
					t.Errorf("decided %s without an error", d.Verdict)
				case !errors.Is(err, context.DeadlineExceeded):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "the books balance", func() bool { return used(t, store, c) == told })
}

// A plain client on a cluster is noticed by all of its callers at once.
func TestPlainClientOnAClusterAtOnce(t *testing.T) {
	cluster := redistest.StartCluster(t)
	store := redisstore.New(cluster.Nodes[0].Client(t))
	defer store.Close()
	var wg sync.WaitGroup
	for i := range 128 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			var d policy.Decision
			charges := []policy.Charge{charge(policy.PerHour(10), fmt.Sprint("a", i)), charge(policy.PerHour(1000), "b")}
			if err := store.Take(ctx, policy.NewTicket(), charges, &d); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(128), used(t, store, charge(policy.PerHour(1000), "b")))
}

// Close does not wait for a server that does not answer, however many wait.
func TestCloseIsBounded(t *testing.T) {
	srv := redistest.Start(t)
	store := redisstore.Options{Timeout: 200 * time.Millisecond}.New(srv.Client(t))
	c := charge(policy.PerHour(1_000_000), "alice")
	take(t, store, c)
	srv.Freeze()
	defer srv.Thaw()
	var wg sync.WaitGroup
	for range 2000 {
		wg.Go(func() {
			var d policy.Decision
			if err := store.Take(context.Background(), policy.NewTicket(), []policy.Charge{c}, &d); err == nil {
				t.Error("decided by a frozen server")
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	require.NoError(t, store.Close())
	wg.Wait()
	require.Less(t, time.Since(start), 2*time.Second)
}

// A ticket counts once, in whatever order its settlements come.
func TestTicketCountsOnceInAnyOrder(t *testing.T) {
	srv := redistest.Start(t)
	store := redisstore.New(srv.Client(t))
	defer store.Close()
	a, b := charge(policy.PerHour(100), "alice"), charge(policy.PerHour(100), "bob")
	ticket := policy.NewTicket()
	var d policy.Decision
	require.NoError(t, store.Take(t.Context(), ticket, []policy.Charge{a, b}, &d))
	settlements := []policy.Settlement{
		{Charge: a, Receipt: d.Results[0].Receipt, Total: 5},
		{Charge: b, Receipt: d.Results[1].Receipt, Total: 5},
	}
	require.NoError(t, store.Settle(t.Context(), ticket, settlements))
	settlements[0], settlements[1] = settlements[1], settlements[0]
	require.NoError(t, store.Settle(t.Context(), ticket, settlements))
	require.Equal(t, int64(5), used(t, store, a))
	require.Equal(t, int64(5), used(t, store, b))
}

// A key that holds as many states as fit refuses more of them, and no others.
func TestKeyIsFull(t *testing.T) {
	srv := redistest.Start(t)
	store := redisstore.New(srv.Client(t))
	defer store.Close()
	of := func(i int) policy.Charge {
		c := charge(policy.PerHour(100), "alice")
		c.Scope = policy.NewScope("test", fmt.Sprint("rule", i))
		return c
	}
	stored := 0
	for i := range 1100 {
		var d policy.Decision
		if err := store.Take(t.Context(), policy.NewTicket(), []policy.Charge{of(i)}, &d); err != nil {
			require.ErrorContains(t, err, "too many states")
			break
		}
		stored++
	}
	require.Greater(t, stored, 900)
	require.Less(t, stored, 1000)
	require.Equal(t, int64(1), used(t, store, of(0)), "those that are there go on")
	require.Equal(t, policy.Allowed, take(t, store, of(stored-1)).Verdict)
}

// A settle that nobody waits for any more goes through whole on a server that
// turns out to be a cluster, also where several of its charges are on one key.
func TestSettleSurvivesThatTheServerIsACluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	proper := redisstore.New(cluster.Client(t))
	defer proper.Close()
	charges := []policy.Charge{
		charge(policy.PerHour(100), "alice"), charge(policy.PerMinute(100), "alice"),
		charge(policy.SlidingLog(100, time.Hour), "alice"), charge(policy.PerHour(100), "bob"), charge(policy.PerHour(100), "carol"),
	}
	ticket := policy.NewTicket()
	var d policy.Decision
	require.NoError(t, proper.Take(t.Context(), ticket, charges, &d))
	var settlements []policy.Settlement
	for i, c := range charges {
		settlements = append(settlements, policy.Settlement{Charge: c, Receipt: d.Results[i].Receipt, Total: 7})
	}

	proxy := redistest.StartProxy(t, cluster.Nodes[0].Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr()})
	defer client.Close()
	require.NoError(t, client.Ping(t.Context()).Err())
	store := redisstore.New(client)
	defer store.Close()
	proxy.FreezeReplies()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, store.Settle(ctx, ticket, settlements), context.DeadlineExceeded)
	proxy.Thaw()
	for _, c := range charges {
		eventually(t, c.Key+" settled", func() bool { return used(t, proper, c) == 7 })
	}
}
