package redisstore_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
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

// follower starts a replica of a server, behind a proxy, and waits until it follows.
func follower(t *testing.T, master *redistest.Server) (*redistest.Server, *redistest.Proxy) {
	t.Helper()
	link := redistest.StartProxy(t, master.Addr())
	host, port, _ := net.SplitHostPort(link.Addr())
	replica := redistest.Start(t, "--replicaof", host, port)
	redistest.Await(t, "the replica follows", func() bool { return master.Followed(1) })
	return replica, link
}

// With WaitReplicas a take is answered when the replica has it, in one round trip. If
// the replica does not hear of it, it is an error and is given back, and what is
// settled is settled once.
func TestWaitReplicas(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, "--repl-diskless-sync-delay", "0")
	_, link := follower(t, master)
	proxy := redistest.StartProxy(t, master.Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr()})
	defer client.Close()
	store := redisstore.Options{WaitReplicas: 1, Timeout: 2 * time.Second}.New(client)
	defer store.Close()
	direct := redisstore.New(master.Client(t))
	defer direct.Close()
	c := charge(policy.PerHour(100), "alice")
	take(t, store, charge(policy.PerHour(100), "warm"))

	const delay = 20 * time.Millisecond
	link.SetDelay(delay)
	before, start := proxy.Traffic(), time.Now()
	take(t, store, c)
	require.GreaterOrEqual(t, time.Since(start), delay)
	require.Equal(t, int64(1), proxy.Traffic().Since(before).RoundTrips)
	// The script is forgotten: the call that has its text waits too.
	link.SetDelay(0)
	take(t, store, charge(policy.PerHour(100), "warm"))
	master.FlushScripts()
	link.SetDelay(delay)
	start = time.Now()
	take(t, store, charge(policy.PerHour(100), "warm"))
	require.GreaterOrEqual(t, time.Since(start), delay)
	link.SetDelay(0)

	ticket := policy.NewTicket()
	var d policy.Decision
	require.NoError(t, store.Take(t.Context(), ticket, []policy.Charge{c}, &d))
	require.Equal(t, int64(2), used(t, direct, c))

	// The replica falls silent.
	link.Freeze()
	settled := make(chan error, 1)
	go func() {
		settled <- store.Settle(context.Background(), ticket, []policy.Settlement{{Charge: c, Receipt: d.Results[0].Receipt, Total: 5}})
	}()
	eventually(t, "settled on the master", func() bool { return used(t, direct, c) == 6 })
	var lost policy.Decision
	err := store.Take(t.Context(), policy.NewTicket(), []policy.Charge{c}, &lost)
	require.ErrorContains(t, err, "0 of 1 replicas have it")
	eventually(t, "the take was given back", func() bool { return used(t, direct, c) == 6 })
	require.Equal(t, int64(6), used(t, store, c), "a peek needs no replica")
	select {
	case err := <-settled:
		t.Fatalf("a settle that the replica does not have: %v", err)
	default:
	}
	link.Thaw()
	require.NoError(t, <-settled)
	eventually(t, "all is given back", func() bool { return used(t, direct, c) == 6 })
	take(t, store, c)
	require.Equal(t, int64(7), used(t, direct, c))
}

// TestFailoverLoss measures what a failover loses: decisions that were answered, and
// that the new master does not have. With WaitReplicas that is none.
func TestFailoverLoss(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var rows []string
	t.Cleanup(func() {
		slices.Sort(rows)
		t.Logf("the replica is behind by | WaitReplicas | decisions a second | lost\n%s", strings.Join(rows, "\n"))
	})
	note := func(lag string, wait int, answered, lost int64, took time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		rows = append(rows, fmt.Sprintf("%s | %d | %.0f | %d", lag, wait, float64(answered)/took.Seconds(), lost))
	}
	c := charge(policy.FixedWindow(1_000_000_000, 24*time.Hour), "alice")

	// measure asks for a while, fails over under the load, and returns what was
	// answered before, and what is counted after.
	measure := func(t *testing.T, client redis.UniversalClient, wait int, failover func() *redistest.Server) (answered, lost int64, took time.Duration) {
		store := redisstore.Options{WaitReplicas: wait}.New(client)
		defer store.Close()
		eventually(t, "an answer", func() bool {
			var d policy.Decision
			warm := []policy.Charge{charge(policy.PerHour(1000), "warm")}
			return store.Take(t.Context(), policy.NewTicket(), warm, &d) == nil
		})
		var n atomic.Int64
		ctx, stop := context.WithCancel(t.Context())
		var workers sync.WaitGroup
		start := time.Now()
		for range 32 {
			workers.Go(func() {
				for ctx.Err() == nil {
					// Until the first error: what is answered later is the new master's.
					var d policy.Decision
					if store.Take(ctx, policy.NewTicket(), []policy.Charge{c}, &d) != nil {
						return
					}
					n.Add(1)
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		took = time.Since(start)
		heir := failover()
		stop()
		workers.Wait()
		direct := redisstore.New(heir.Client(t))
		defer direct.Close()
		return n.Load(), max(0, n.Load()-used(t, direct, c)), took
	}

	for _, lag := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond} {
		for _, wait := range []int{0, 1} {
			t.Run(fmt.Sprintf("%v,%d", lag, wait), func(t *testing.T) {
				t.Parallel()
				master := redistest.Start(t, "--repl-diskless-sync-delay", "0")
				replica, link := follower(t, master)
				link.SetDelay(lag)
				answered, lost, took := measure(t, master.Client(t), wait, func() *redistest.Server {
					link.Freeze() // what was on its way goes down with the machine
					master.Kill()
					link.Cut()
					replica.Promote()
					return replica
				})
				note(lag.String(), wait, answered, lost, took)
				require.Positive(t, answered)
				if wait > 0 {
					require.Zero(t, lost)
				} else if lag >= 10*time.Millisecond {
					require.Positive(t, lost, "a test that cannot lose shows nothing")
				}
			})
		}
	}
	for _, wait := range []int{0, 1} {
		t.Run(fmt.Sprintf("sentinel,%d", wait), func(t *testing.T) {
			t.Parallel()
			sentinel := redistest.StartSentinel(t)
			answered, lost, took := measure(t, sentinel.Client(t), wait, func() *redistest.Server {
				master := sentinel.Master()
				master.Kill()
				sentinel.AwaitFailover(master)
				return sentinel.Master()
			})
			note("Sentinel, one machine", wait, answered, lost, took)
			if wait > 0 {
				require.Zero(t, lost)
			}
		})
	}
}
