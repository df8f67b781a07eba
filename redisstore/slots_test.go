package redisstore_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
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

// enter takes charges for a ticket.
func enter(t *testing.T, s policy.Store, ticket policy.Ticket, charges ...policy.Charge) policy.Decision {
	t.Helper()
	var d policy.Decision
	require.NoError(t, s.Take(t.Context(), ticket, charges, &d))
	return d
}

// leave settles slots to zero.
func leave(t *testing.T, s policy.Store, ticket policy.Ticket, slots ...policy.Charge) {
	t.Helper()
	require.NoError(t, s.Settle(t.Context(), ticket, toZero(slots...)))
}

func toZero(charges ...policy.Charge) (all []policy.Settlement) {
	for _, c := range charges {
		all = append(all, policy.Settlement{Charge: c})
	}
	return all
}

// dial connects as a process would: "node host:port", "cluster host:port,…" or
// "ring host:port,…".
func dial(where string) redis.UniversalClient {
	kind, list, _ := strings.Cut(where, " ")
	addrs := strings.Split(list, ",")
	switch kind {
	case "cluster":
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	case "ring":
		shards := map[string]string{}
		for i, addr := range addrs {
			shards[fmt.Sprint(i)] = addr
		}
		return redis.NewRing(&redis.RingOptions{Addrs: shards})
	}
	return redis.NewClient(&redis.Options{Addr: addrs[0]})
}

// everywhere runs a test on a node, a cluster, a ring, and on a cluster by a
// plain client.
func everywhere(t *testing.T, test func(t *testing.T, where string)) {
	srv, other := redistest.Start(t), redistest.Start(t)
	cluster := redistest.StartCluster(t)
	for _, where := range []string{
		"node " + srv.Addr(),
		"ring " + other.Addr() + "," + srv.Addr(),
		"cluster " + strings.Join(cluster.Addrs(), ","),
		"plain " + cluster.Nodes[1].Addr(),
	} {
		kind, _, _ := strings.Cut(where, " ")
		t.Run(kind, func(t *testing.T) { test(t, where) })
	}
}

// process runs the test binary again as one of the processes below.
func process(role, where string, number int) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestSlotsProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "STINT_SLOTS="+role, "STINT_WHERE="+where, "STINT_NUMBER="+strconv.Itoa(number))
	return cmd
}

// TestSlotsProcess is one process of the tests that have several.
func TestSlotsProcess(t *testing.T) {
	where := os.Getenv("STINT_WHERE")
	number, _ := strconv.Atoi(os.Getenv("STINT_NUMBER"))
	switch os.Getenv("STINT_SLOTS") {
	case "crowd":
		crowd(t, where, number)
	case "holder":
		store := redisstore.New(dial(where))
		for range number {
			require.Equal(t, policy.Allowed, enter(t, store, policy.NewTicket(), doomed(number)).Verdict)
		}
		fmt.Println("holding")
		time.Sleep(time.Minute) // until it is killed
	default:
		t.Skip("run by other tests")
	}
}

const crowdProcesses, crowdEach = 4, 125

// crowd sends requests through ten slots and counts who is inside.
func crowd(t *testing.T, where string, number int) {
	client := dial(where)
	defer client.Close()
	store := redisstore.Options{Timeout: 10 * time.Second}.New(client)
	defer store.Close()
	slot := charge(policy.Concurrency(10).WithQueue(490, time.Minute), "hot")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	var served, most atomic.Int64
	for i := range crowdEach {
		var ticket policy.Ticket
		binary.BigEndian.PutUint32(ticket[:4], uint32(number))
		binary.BigEndian.PutUint32(ticket[4:8], uint32(i))
		d := enter(t, store, ticket, slot) // one after another: they arrive in this order
		wg.Go(func() {
			if d.Verdict == policy.Queued {
				r, err := store.Wait(ctx, ticket, slot)
				if err != nil || r.Verdict != policy.Allowed {
					t.Errorf("request %d of %d: %v, %v", i, number, r.Verdict, err)
					return
				}
			} else if d.Verdict != policy.Allowed {
				t.Errorf("request %d of %d: %v", i, number, d.Verdict)
				return
			}
			inside, err := client.Incr(ctx, "inside").Result()
			if err != nil {
				t.Error(err)
			}
			for m := most.Load(); inside > m && !most.CompareAndSwap(m, inside); m = most.Load() {
			}
			time.Sleep(time.Duration(1+rand.IntN(6)) * time.Millisecond)
			client.Decr(ctx, "inside")
			served.Add(1)
			if err := store.Settle(ctx, ticket, toZero(slot)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	fmt.Printf("served=%d most=%d \n", served.Load(), most.Load())
}

// 500 requests of four processes, ten slots: never more than ten are inside, all
// are served, and slots are granted in the order of arrival.
func TestSlotsAreExactAcrossProcesses(t *testing.T) {
	everywhere(t, func(t *testing.T, where string) {
		client := dial(where)
		defer client.Close()
		grants := listenToAll(t, where, "stint{hot}|slots=*")
		var served, most atomic.Int64
		var wg sync.WaitGroup
		for n := range crowdProcesses {
			wg.Go(func() {
				out, err := process("crowd", where, n).CombinedOutput()
				var s, m int64
				_, rest, _ := strings.Cut(string(out), "served=")
				if _, scan := fmt.Sscanf(rest, "%d most=%d", &s, &m); err != nil || scan != nil {
					t.Errorf("process: %v\n%s", err, out)
				}
				served.Add(s)
				for old := most.Load(); m > old && !most.CompareAndSwap(old, m); old = most.Load() {
				}
			})
		}
		wg.Wait()
		require.Equal(t, int64(crowdProcesses*crowdEach), served.Load())
		require.LessOrEqual(t, most.Load(), int64(10))
		last := map[uint32]int{}
		order := grants()
		for _, ticket := range order {
			process, i := binary.BigEndian.Uint32([]byte(ticket)), int(binary.BigEndian.Uint32([]byte(ticket[4:])))
			require.GreaterOrEqual(t, i, last[process], "process %d", process)
			last[process] = i
		}
		t.Logf("at most %d inside; %d grants to waiters", most.Load(), len(order))
		require.Greater(t, len(order), 100)
	})
}

// listenToAll hears what is published on channels of a pattern, on whichever
// server, and returns a function that tells it.
func listenToAll(t *testing.T, where, pattern string) func() []string {
	t.Helper()
	kind, list, _ := strings.Cut(where, " ")
	addrs := strings.Split(list, ",")
	if kind == "cluster" {
		addrs = addrs[:1] // they hand on
	}
	var mu sync.Mutex
	var all []string
	for _, addr := range addrs {
		client := redis.NewClient(&redis.Options{Addr: addr})
		sub := client.PSubscribe(t.Context(), pattern)
		_, err := sub.Receive(t.Context())
		require.NoError(t, err)
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				m, err := sub.ReceiveMessage(context.Background())
				if err != nil {
					return
				}
				mu.Lock()
				all = append(all, m.Payload)
				mu.Unlock()
			}
		})
		t.Cleanup(func() {
			_ = sub.Close()
			wg.Wait()
			_ = client.Close()
		})
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// One slot, three stores: those who wait are served strictly in the order in
// which they came.
func TestSlotsAreGrantedInOrder(t *testing.T) {
	srv := redistest.Start(t)
	slot := charge(policy.Concurrency(1).WithQueue(100, time.Minute), "alice")
	var stores []*redisstore.Store
	for range 3 {
		store := redisstore.New(srv.Client(t))
		defer store.Close()
		stores = append(stores, store)
	}
	const n = 60
	var wg sync.WaitGroup
	var mu sync.Mutex
	var order []int
	for i := range n {
		store, ticket := stores[i%3], policy.NewTicket()
		d := enter(t, store, ticket, slot)
		require.Equal(t, i > 0, d.Verdict == policy.Queued)
		wg.Go(func() {
			if i > 0 {
				if r, err := store.Wait(context.Background(), ticket, slot); err != nil || r.Verdict != policy.Allowed {
					t.Error(r.Verdict, err)
				}
			} else {
				time.Sleep(50 * time.Millisecond)
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			if err := store.Settle(context.Background(), ticket, toZero(slot)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Len(t, order, n)
	require.True(t, slices.IsSorted(order), "%v", order)
}

func doomed(n int) policy.Charge {
	return charge(policy.Concurrency(int64(n)).WithQueue(10, time.Minute).WithLease(time.Second), "doomed")
}

// The slots of a process that was killed come free within one lease, and go to
// those who wait.
func TestSlotsOfAKilledProcess(t *testing.T) {
	everywhere(t, func(t *testing.T, where string) {
		const n = 5
		cmd := process("holder", where, n)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "holding"; {
		}
		client := dial(where)
		defer client.Close()
		store := redisstore.New(client)
		defer store.Close()
		slot := doomed(n)
		require.NoError(t, cmd.Process.Kill())
		killed := time.Now()
		_ = cmd.Wait()
		var wg sync.WaitGroup
		for i := range n + 2 {
			ticket := policy.NewTicket()
			d := enter(t, store, ticket, slot)
			require.Equal(t, policy.Queued, d.Verdict)
			require.Equal(t, int64(i+1), d.Results[0].Queue)
			wg.Go(func() {
				r, err := store.Wait(context.Background(), ticket, slot)
				took := time.Since(killed)
				if err != nil || r.Verdict != policy.Allowed || took > 1500*time.Millisecond {
					t.Errorf("%v after %v: %v", r.Verdict, took, err)
				}
				t.Logf("waiter %d has its slot %v after the kill", i, took)
				if err := store.Settle(context.Background(), ticket, toZero(slot)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		eventually(t, "all are free", func() bool { return used(t, store, slot) == 0 })
		require.Less(t, time.Since(killed), 1500*time.Millisecond)
	})
}

// 10,000 requests that leave at any point: before they are answered, while they
// wait, while they hold. Nothing is left of them.
func TestSlotsAreLeftAtAnyPoint(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	store := redisstore.New(rdb)
	defer store.Close()
	slot := charge(policy.Concurrency(20).WithQueue(60, time.Minute), "alice")
	rate := charge(policy.PerDay(1_000_000), "alice")
	var wg sync.WaitGroup
	var fates [5]atomic.Int64
	for range 100 {
		wg.Go(func() {
			for range 100 {
				ticket := policy.NewTicket()
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(12_000))*time.Microsecond)
				var d policy.Decision
				err := store.Take(ctx, ticket, []policy.Charge{rate, slot}, &d)
				settlements := toZero(rate, slot)
				fate := &fates[0] // gone before the answer
				switch {
				case err != nil && !errors.Is(err, context.DeadlineExceeded):
					t.Error(err)
				case err != nil:
				case d.Verdict == policy.Refused:
					fate = &fates[1]
				case d.Verdict == policy.Queued:
					fate = &fates[2] // granted, or else gone while it waited
					if r, err := store.Wait(ctx, ticket, slot); errors.Is(err, context.DeadlineExceeded) {
						fate = &fates[3]
					} else if err != nil || r.Verdict != policy.Allowed {
						t.Error(r.Verdict, err)
					}
				default:
					fate = &fates[4]
					time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
				}
				fate.Add(1)
				if err == nil && d.Verdict != policy.Refused {
					for i := range settlements {
						settlements[i].Receipt = d.Results[i].Receipt
					}
					if err := store.Settle(context.Background(), ticket, settlements); err != nil {
						t.Error(err)
					}
				}
				cancel()
			}
		})
	}
	wg.Wait()
	t.Logf("gone before the answer %d, refused %d, granted %d, gone while it waited %d, admitted %d",
		fates[0].Load(), fates[1].Load(), fates[2].Load(), fates[3].Load(), fates[4].Load())
	for i := range fates {
		require.Positive(t, fates[i].Load(), "fate %d", i)
	}
	eventually(t, "no leases", func() bool { return len(rdb.Keys(t.Context(), "*|slots=*").Val()) == 0 })
	require.Zero(t, used(t, store, slot))
	require.Zero(t, used(t, store, rate))
	for _, key := range rdb.Keys(t.Context(), "*").Val() {
		require.Positive(t, rdb.PTTL(t.Context(), key).Val(), "%s lives forever", key)
	}
}

// Who waits is woken when the slot is granted, long before it would look.
func TestWaitersAreWoken(t *testing.T) {
	everywhere(t, func(t *testing.T, where string) {
		client, others := dial(where), dial(where)
		defer client.Close()
		defer others.Close()
		store, other := redisstore.New(client), redisstore.New(others)
		defer store.Close()
		defer other.Close()
		var latencies []time.Duration
		for i := range 30 {
			slot := charge(policy.Concurrency(1).WithQueue(1, time.Minute), fmt.Sprint(t.Name(), i))
			holder, waiter := policy.NewTicket(), policy.NewTicket()
			require.Equal(t, policy.Allowed, enter(t, other, holder, slot).Verdict)
			require.Equal(t, policy.Queued, enter(t, store, waiter, slot).Verdict)
			done := make(chan time.Time)
			go func() {
				if r, err := store.Wait(context.Background(), waiter, slot); err != nil || r.Verdict != policy.Allowed {
					t.Error(r.Verdict, err)
				}
				done <- time.Now()
			}()
			time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond) // while it connects, subscribes, waits
			released := time.Now()
			leave(t, other, holder, slot)
			latencies = append(latencies, (<-done).Sub(released))
		}
		slices.Sort(latencies)
		t.Logf("from the release to Wait's return: median %v, longest %v", latencies[15], latencies[29])
		require.Less(t, latencies[29], time.Second)
	})
}

// A queued request holds its other charges, in whichever partition; a refused
// one gives its slot back, or its place.
func TestSlotsAcrossPartitions(t *testing.T) {
	cluster := redistest.StartCluster(t)
	store := redisstore.New(cluster.Client(t))
	defer store.Close()
	slot := charge(policy.Concurrency(1).WithQueue(2, time.Minute), "slot")
	rate, full := charge(policy.PerHour(10), "rate"), charge(policy.PerHour(1), "full")
	take(t, store, full)

	first, second := policy.NewTicket(), policy.NewTicket()
	d := enter(t, store, first, rate, slot, full)
	require.Equal(t, policy.Refused, d.Verdict)
	require.Equal(t, policy.Allowed, d.Results[1].Verdict)
	require.Zero(t, d.Results[1].Used, "it is undone")
	require.Zero(t, d.Results[1].Receipt)
	require.Zero(t, used(t, store, slot))

	require.Equal(t, policy.Allowed, enter(t, store, first, rate, slot).Verdict)
	d = enter(t, store, second, rate, slot, full)
	require.Equal(t, policy.Refused, d.Verdict)
	require.Equal(t, policy.Queued, d.Results[1].Verdict)
	require.Zero(t, d.Results[1].Queue, "it is undone")
	require.Equal(t, int64(1), used(t, store, rate))

	d = enter(t, store, second, rate, slot)
	require.Equal(t, policy.Queued, d.Verdict)
	require.Equal(t, policy.Allowed, d.Results[0].Verdict)
	require.Equal(t, int64(1), d.Results[1].Queue)
	require.Equal(t, int64(2), used(t, store, rate), "the rate is held")
	leave(t, store, first, slot)
	r, err := store.Wait(t.Context(), second, slot)
	require.NoError(t, err)
	require.Equal(t, policy.Allowed, r.Verdict)
}

// Renewals of many leases, on many servers, in few calls.
func TestRenewMany(t *testing.T) {
	everywhere(t, func(t *testing.T, where string) {
		client := dial(where)
		defer client.Close()
		store := redisstore.Options{Timeout: 5 * time.Second}.New(client)
		defer store.Close()
		const n = 2000
		renewals := make([]policy.Renewal, n)
		var wg sync.WaitGroup
		for i := range renewals {
			slot := charge(policy.Concurrency(10_000).WithLease(time.Minute), fmt.Sprint(t.Name(), i%50))
			renewals[i] = policy.Renewal{Ticket: policy.NewTicket(), Charge: slot}
			if i%10 == 0 {
				continue // never taken
			}
			wg.Go(func() {
				var d policy.Decision
				if err := store.Take(t.Context(), renewals[i].Ticket, []policy.Charge{slot}, &d); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		start := time.Now()
		require.NoError(t, store.Renew(t.Context(), renewals))
		t.Logf("%.1f µs a renewal", float64(time.Since(start).Microseconds())/n)
		for i := range renewals {
			want := policy.Allowed
			if i%10 == 0 {
				want = policy.Refused
			}
			require.Equal(t, want, renewals[i].Result.Verdict)
		}
		require.ErrorContains(t, store.Renew(t.Context(), []policy.Renewal{{Charge: charge(policy.PerHour(1), "x")}}), "no slot")
	})
}

// Keys of slots live as long as their leases, and not much longer: those of a
// few, which are in the value, and those of many, which are a set.
func TestSlotsLifetime(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	store := redisstore.New(rdb)
	defer store.Close()
	for _, lease := range []time.Duration{time.Second, 10 * time.Second, time.Hour} {
		for _, n := range []int{3, 30} {
			slot := charge(policy.Concurrency(1).WithQueue(40, time.Minute).WithLease(lease), fmt.Sprintf("%v-%d", lease, n))
			keys := func() []string { return rdb.Keys(t.Context(), "stint{"+slot.Key+"}*").Val() }
			for range 2 {
				tickets := make([]policy.Ticket, n)
				for i := range tickets {
					tickets[i] = policy.NewTicket()
					enter(t, store, tickets[i], slot)
				}
				require.NoError(t, store.Renew(t.Context(), []policy.Renewal{{Ticket: tickets[0], Charge: slot}}))
				require.Len(t, keys(), 1+n/30)
				for _, key := range keys() {
					ttl := rdb.PTTL(t.Context(), key).Val()
					require.GreaterOrEqual(t, ttl, lease, key)
					require.LessOrEqual(t, ttl, lease+8*time.Second, key)
				}
				for _, ticket := range tickets {
					leave(t, store, ticket, slot)
				}
				require.Equal(t, []string{"stint{" + slot.Key + "}"}, keys(), "no leases, no set")
				require.LessOrEqual(t, rdb.PTTL(t.Context(), keys()[0]).Val(), 4*time.Second)
				require.LessOrEqual(t, len(rdb.Get(t.Context(), keys()[0]).Val()), 2+2*40, "a state, and a place for the next lease")
			}
		}
	}
}

// The expiry of a set moves with its leases.
func TestSlotsOutliveTheirFirstExpiry(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	now := time.UnixMicro(1_800_000_000_000_000)
	store := redisstore.Options{Now: func() time.Time { return now }}.New(rdb)
	defer store.Close()
	slot := charge(policy.Concurrency(20), "alice")
	renewals := make([]policy.Renewal, 20)
	for i := range renewals {
		renewals[i] = policy.Renewal{Ticket: policy.NewTicket(), Charge: slot}
		enter(t, store, renewals[i].Ticket, slot)
	}
	key := rdb.Keys(t.Context(), "*|slots=*").Val()[0]
	for range 3 {
		require.NoError(t, rdb.Expire(t.Context(), key, 5*time.Second).Err())
		now = now.Add(5 * time.Second)
		require.NoError(t, store.Renew(t.Context(), renewals))
		require.Greater(t, rdb.PTTL(t.Context(), key).Val(), 10*time.Second)
	}
}

// What slots cost in Redis, by MEMORY USAGE of the value and the set.
func TestMemoryPerSlot(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	store := redisstore.New(rdb)
	defer store.Close()
	for _, tc := range []struct {
		held, waiting int
		most          int64 // bytes a ticket
	}{{1, 0, 200}, {10, 0, 60}, {16, 0, 60}, {17, 0, 60}, {100, 0, 50}, {1000, 0, 150}, {10, 50, 80}, {10, 490, 300}} {
		slot := charge(policy.Concurrency(int64(tc.held)).WithQueue(max(1, int64(tc.waiting)), time.Minute), fmt.Sprint(tc.held, "-", tc.waiting))
		n := int64(tc.held + tc.waiting)
		for range n {
			enter(t, store, policy.NewTicket(), slot)
		}
		var bytes int64
		keys := rdb.Keys(t.Context(), "stint{"+slot.Key+"}*").Val()
		for _, key := range keys {
			bytes += rdb.MemoryUsage(t.Context(), key).Val()
		}
		t.Logf("%d held, %d waiting: %d bytes in %d keys, %d a ticket", tc.held, tc.waiting, bytes, len(keys), bytes/n)
		require.LessOrEqual(t, bytes/n, tc.most)
	}
}
