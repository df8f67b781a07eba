package redisstore_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
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

// Three limits on two keys are one round trip, counted at a proxy.
func TestOneRoundTrip(t *testing.T) {
	srv := redistest.Start(t)
	proxy := redistest.StartProxy(t, srv.Addr())
	proxy.SetDelay(time.Millisecond)
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr()})
	defer client.Close()
	store := redisstore.New(client)
	defer store.Close()
	charges := []policy.Charge{
		charge(policy.PerMinute(1000), "alice"),
		charge(policy.TokenBucket(5000, time.Hour), "alice"),
		charge(policy.SlidingLog(5000, time.Hour), "acme"),
	}
	take(t, store, charges...) // dials, and loads the script
	before := proxy.Traffic()
	const n = 200
	for range n {
		require.Equal(t, policy.Allowed, take(t, store, charges...).Verdict)
	}
	trips := float64(proxy.Traffic().Since(before).RoundTrips) / n
	t.Logf("%.3f round trips for three limits", trips)
	require.LessOrEqual(t, trips, 1.1)
}

// Concurrent decisions share script calls.
func TestConcurrentDecisionsAreCommittedInGroups(t *testing.T) {
	srv := redistest.Start(t)
	proxy := redistest.StartProxy(t, srv.Addr())
	proxy.SetDelay(2 * time.Millisecond)
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr()})
	defer client.Close()
	store := redisstore.New(client)
	defer store.Close()
	take(t, store, charge(policy.PerMinute(1), "warm"))
	before := proxy.Traffic()
	const goroutines, each = 128, 10
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for range each {
				var d policy.Decision
				if err := store.Take(context.Background(), policy.NewTicket(), []policy.Charge{charge(policy.PerMinute(1e6), fmt.Sprint(g))}, &d); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	trips := proxy.Traffic().Since(before).RoundTrips
	t.Logf("%d decisions in %d round trips", goroutines*each, trips)
	require.Less(t, trips, int64(goroutines*each/10))
}

// 48 stores on one key: 12 processes with four each, 2,000 requests at once.
func TestExactAcrossProcesses(t *testing.T) {
	srv := redistest.Start(t)
	cluster := redistest.StartCluster(t)
	for name, addrs := range map[string]string{"node": srv.Addr(), "cluster": strings.Join(cluster.Addrs(), ",")} {
		t.Run(name, func(t *testing.T) {
			var admitted, failed atomic.Int64
			var wg sync.WaitGroup
			for range 12 {
				wg.Go(func() {
					cmd := exec.Command(os.Args[0], "-test.run=^TestProcess$", "-test.v")
					cmd.Env = append(os.Environ(), "STINT_PROCESS="+addrs)
					out, err := cmd.CombinedOutput()
					_, rest, found := strings.Cut(string(out), "admitted=")
					n, convErr := strconv.Atoi(strings.SplitN(rest, " ", 2)[0])
					if err != nil || !found || convErr != nil {
						failed.Add(1)
						t.Logf("process: %v\n%s", err, out)
						return
					}
					admitted.Add(int64(n))
				})
			}
			wg.Wait()
			require.Zero(t, failed.Load())
			require.Equal(t, int64(100), admitted.Load())
		})
	}
}

// TestProcess is one process of TestExactAcrossProcesses.
func TestProcess(t *testing.T) {
	addrs := os.Getenv("STINT_PROCESS")
	if addrs == "" {
		t.Skip("run by TestExactAcrossProcesses")
	}
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: strings.Split(addrs, ",")})
		defer client.Close()
		store := redisstore.Options{Timeout: 10 * time.Second}.New(client)
		defer store.Close()
		for range 42 { // 12 × 4 × 42 is 2,016
			wg.Go(func() {
				var d policy.Decision
				if err := store.Take(context.Background(), policy.NewTicket(), []policy.Charge{charge(policy.SlidingLog(100, time.Hour), "hot")}, &d); err != nil {
					t.Error(err)
				} else if d.Verdict == policy.Allowed {
					admitted.Add(1)
				}
			})
		}
	}
	wg.Wait()
	fmt.Printf("admitted=%d \n", admitted.Load())
}

// Keys live as long as their states matter, and not much longer.
func TestLifetime(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	store := redisstore.New(rdb)
	defer store.Close()
	for _, tc := range []struct {
		limit    policy.Limit
		units    int64
		min, max time.Duration
	}{
		{policy.TokenBucket(1, time.Second).WithBurst(100), 100, 99 * time.Second, 105 * time.Second},
		{policy.TokenBucket(10, time.Second), 1, 0, 4200 * time.Millisecond},
		{policy.PerSecond(10), 1, time.Second, 6 * time.Second},
		{policy.PerMinute(10), 1, time.Minute, 125 * time.Second},
		{policy.SlidingLog(10, time.Minute), 1, 59 * time.Second, 63 * time.Second},
		{policy.FixedWindow(10, time.Hour), 1, 0, time.Hour + 5*time.Second},
	} {
		t.Run(tc.limit.String(), func(t *testing.T) {
			c := charge(tc.limit, strings.ReplaceAll(tc.limit.String(), " ", "-"))
			c.Units = tc.units
			take(t, store, c)
			keys, err := rdb.Keys(t.Context(), "stint{"+c.Key+"}*").Result()
			require.NoError(t, err)
			require.NotEmpty(t, keys)
			for _, key := range keys {
				ttl := rdb.PTTL(t.Context(), key).Val()
				require.GreaterOrEqual(t, ttl, tc.min, key)
				require.LessOrEqual(t, ttl, tc.max, key)
			}
		})
	}
	c := charge(policy.PerMinute(10), "settled")
	ticket := policy.NewTicket()
	var d policy.Decision
	require.NoError(t, store.Take(t.Context(), ticket, []policy.Charge{c}, &d))
	require.NoError(t, store.Settle(t.Context(), ticket, []policy.Settlement{{Charge: c, Receipt: d.Results[0].Receipt, Total: 3}}))
	for _, key := range rdb.Keys(t.Context(), "*").Val() {
		require.Positive(t, rdb.PTTL(t.Context(), key).Val(), "%s lives forever", key)
	}
}

// Writes leave the expiry of a key alone for a while, but never behind the end of its
// states, and not far ahead of it: as a bucket fills, as another limit comes and goes,
// and when what was taken is given back.
func TestLifetimeFollowsStates(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	store := redisstore.New(rdb)
	defer store.Close()
	bucket, slot := charge(policy.TokenBucket(10, time.Second).WithBurst(10_000), "alice"), charge(policy.Concurrency(10).WithLease(time.Second), "alice")
	bucket.Units = 3
	within := func(what string) {
		t.Helper()
		ttl := rdb.PTTL(t.Context(), "stint{alice}").Val() // before the state is looked at, and so later
		until := time.Duration(used(t, store, bucket)) * time.Second / 10
		require.Greater(t, ttl, until, what)
		require.Less(t, ttl, until+5*time.Second, what)
	}
	var back []func()
	for range 100 {
		take(t, store, bucket)
		within("a bucket")
		ticket := policy.NewTicket()
		var d policy.Decision
		require.NoError(t, store.Take(t.Context(), ticket, []policy.Charge{bucket, slot}, &d))
		within("and a slot")
		require.NoError(t, store.Settle(t.Context(), ticket, []policy.Settlement{{Charge: slot, Receipt: d.Results[1].Receipt}}))
		within("and none")
		back = append(back, func() {
			require.NoError(t, store.Settle(t.Context(), ticket, []policy.Settlement{{Charge: bucket, Receipt: d.Results[0].Receipt}}))
		})
	}
	for _, settle := range back {
		settle()
		within("given back")
	}
	require.Regexp(t, `cmdstat_setrange:calls=\d{2}`, rdb.Info(t.Context(), "commandstats").Val(), "most writes leave the expiry alone")
}

// An average of one a second with a burst of 100 admits at most 109 in 8.6
// seconds, whatever happens to keys meanwhile.
func TestBurstIsNotRenewedByExpiry(t *testing.T) {
	srv := redistest.Start(t)
	store := redisstore.New(srv.Client(t))
	defer store.Close()
	c := charge(policy.TokenBucket(1, time.Second).WithBurst(100), "alice")
	admitted := 0
	for end := time.Now().Add(8600 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if take(t, store, c).Verdict == policy.Allowed {
			admitted++
		}
	}
	require.LessOrEqual(t, admitted, 109)
	require.GreaterOrEqual(t, admitted, 107)
}

// A lone client that waits for RetryAfter, by the clock of the wall, is
// admitted.
func TestWaitingRetryAfterIsEnough(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	store := redisstore.New(srv.Client(t))
	defer store.Close()
	for _, l := range []policy.Limit{
		policy.TokenBucket(10, time.Second), policy.SlidingWindow(10, 500*time.Millisecond),
		policy.SlidingLog(10, 300*time.Millisecond), policy.FixedWindow(10, 300*time.Millisecond),
	} {
		c := charge(l, "k")
		c.Units = 3
		for waits := 0; waits < 4; {
			d := take(t, store, c)
			if d.Verdict == policy.Allowed {
				continue
			}
			waits++
			time.Sleep(d.RetryAfter())
			require.Equal(t, policy.Allowed, take(t, store, c).Verdict, l.String())
		}
	}
}
