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

// patient is a limit whose lease is so long that nothing in a test is due to its
// end, or to a look.
func patient(n, queue int64) policy.Limit {
	return policy.Concurrency(n).WithQueue(queue, time.Minute).WithLease(time.Hour)
}

// waiting waits in the background, and returns a function that returns what it
// was told.
func waiting(ctx context.Context, s policy.Store, ticket policy.Ticket, slot policy.Charge) func() (policy.Result, error) {
	type told struct {
		r   policy.Result
		err error
	}
	done := make(chan told, 1)
	go func() {
		r, err := s.Wait(ctx, ticket, slot)
		done <- told{r, err}
	}()
	return func() (policy.Result, error) {
		t := <-done
		return t.r, t.err
	}
}

// proxied is a store behind a proxy, and one that is not.
func proxied(t *testing.T, o redisstore.Options) (proxy *redistest.Proxy, store, direct *redisstore.Store) {
	srv := redistest.Start(t)
	proxy = redistest.StartProxy(t, srv.Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr()})
	store, direct = o.New(client), redisstore.New(srv.Client(t))
	t.Cleanup(func() {
		require.NoError(t, store.Close())
		require.NoError(t, direct.Close())
		require.NoError(t, client.Close())
	})
	take(t, store, charge(policy.PerHour(10), "warm"))
	return proxy, store, direct
}

// A slot, or a place, that was taken for a caller who has gone comes free when the
// reply arrives.
func TestSlotOfACallerThatHasGone(t *testing.T) {
	proxy, store, direct := proxied(t, redisstore.Options{Timeout: 5 * time.Second})
	slot := charge(patient(1, 1), "alice")
	for _, holder := range []bool{false, true} {
		first := policy.NewTicket()
		if holder {
			enter(t, direct, first, slot)
		}
		proxy.FreezeReplies()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		var d policy.Decision
		ticket := policy.NewTicket()
		require.ErrorIs(t, store.Take(ctx, ticket, []policy.Charge{slot}, &d), context.DeadlineExceeded)
		cancel()
		renewal := []policy.Renewal{{Ticket: ticket, Charge: slot}}
		eventually(t, "the take arrived", func() bool {
			return direct.Renew(t.Context(), renewal) == nil && renewal[0].Result.Verdict != policy.Refused
		})
		proxy.Thaw()
		eventually(t, "it left", func() bool {
			return direct.Renew(t.Context(), renewal) == nil && renewal[0].Result.Verdict == policy.Refused
		})
		leave(t, direct, first, slot)
		require.Zero(t, used(t, direct, slot))
	}
}

// A take whose reply never comes leaves no slot behind: nothing is known of it,
// and leaving does no harm.
func TestSlotOfALostReply(t *testing.T) {
	for name, timeout := range map[string]time.Duration{"cut": 5 * time.Second, "too late": 50 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			proxy, store, direct := proxied(t, redisstore.Options{Timeout: timeout})
			slot, rate := charge(patient(1, 1), "alice"), charge(policy.PerHour(10), "alice")
			proxy.FreezeReplies()
			failed := make(chan error, 1)
			go func() {
				var d policy.Decision
				failed <- store.Take(context.Background(), policy.NewTicket(), []policy.Charge{slot, rate}, &d)
			}()
			if name == "cut" {
				eventually(t, "the take arrived", func() bool { return used(t, direct, slot) == 1 })
				proxy.Cut()
				proxy.Thaw()
			}
			require.Error(t, <-failed)
			require.Equal(t, int64(1), used(t, direct, rate), "it arrived")
			proxy.Thaw()
			eventually(t, "it left", func() bool { return used(t, direct, slot) == 0 })
			require.Equal(t, int64(1), used(t, direct, rate), "units stay unknown")
		})
	}
}

// A settle that never arrived is sent again, and one whose reply was lost does not
// free another's slot.
func TestLostLeaveIsSentAgain(t *testing.T) {
	proxy, store, direct := proxied(t, redisstore.Options{Timeout: 50 * time.Millisecond})
	slot := charge(patient(1, 1), "alice")
	first, second := policy.NewTicket(), policy.NewTicket()
	settle := func(ticket policy.Ticket) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		return store.Settle(ctx, ticket, toZero(slot))
	}
	enter(t, store, first, slot)
	proxy.Freeze()
	require.Error(t, settle(first))
	time.Sleep(100 * time.Millisecond)
	require.Equal(t, int64(1), used(t, direct, slot))
	proxy.Cut()
	proxy.Thaw()
	eventually(t, "the first left", func() bool { return used(t, direct, slot) == 0 })

	enter(t, direct, first, slot)
	proxy.FreezeReplies()
	require.Error(t, settle(first))
	eventually(t, "the first left", func() bool { return used(t, direct, slot) == 0 })
	enter(t, direct, second, slot)
	proxy.Cut()
	proxy.Thaw()
	time.Sleep(200 * time.Millisecond) // sent again by now
	renewal := []policy.Renewal{{Ticket: second, Charge: slot}}
	require.NoError(t, direct.Renew(t.Context(), renewal))
	require.Equal(t, policy.Allowed, renewal[0].Result.Verdict)
}

// A renewal whose reply is lost is sent again, within its context.
func TestLostRenewalIsSentAgain(t *testing.T) {
	proxy, store, _ := proxied(t, redisstore.Options{Timeout: 50 * time.Millisecond})
	slot := charge(patient(1, 1), "alice")
	ticket := policy.NewTicket()
	enter(t, store, ticket, slot)
	renewal := []policy.Renewal{{Ticket: ticket, Charge: slot}, {Ticket: policy.NewTicket(), Charge: slot}}
	proxy.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, store.Renew(ctx, renewal), context.DeadlineExceeded)
	require.Equal(t, policy.Unknown, renewal[0].Result.Verdict)
	done := make(chan error, 1)
	go func() { done <- store.Renew(context.Background(), renewal) }()
	time.Sleep(150 * time.Millisecond)
	proxy.Cut()
	proxy.Thaw()
	require.NoError(t, <-done)
	require.Equal(t, policy.Allowed, renewal[0].Result.Verdict)
	require.Equal(t, policy.Refused, renewal[1].Result.Verdict)
}

// Who waits while connections die, the one that listens among them, is woken over
// a new one.
func TestWaitOutlivesConnections(t *testing.T) {
	proxy, store, direct := proxied(t, redisstore.Options{})
	slot := charge(patient(1, 1), "alice")
	first, second := policy.NewTicket(), policy.NewTicket()
	enter(t, direct, first, slot)
	enter(t, store, second, slot)
	result := waiting(t.Context(), store, second, slot)
	for range 3 {
		time.Sleep(100 * time.Millisecond)
		proxy.Cut()
	}
	time.Sleep(100 * time.Millisecond)
	leave(t, direct, first, slot)
	r, err := result()
	require.NoError(t, err)
	require.Equal(t, policy.Allowed, r.Verdict)
}

// A grant that is published while nobody hears it is found as soon as somebody
// could hear the next one.
func TestWaitFindsWhatItMissed(t *testing.T) {
	proxy, store, direct := proxied(t, redisstore.Options{Timeout: 100 * time.Millisecond})
	slot := charge(patient(1, 1), "alice")
	first, second := policy.NewTicket(), policy.NewTicket()
	enter(t, direct, first, slot)
	enter(t, store, second, slot)
	result := waiting(t.Context(), store, second, slot)
	time.Sleep(300 * time.Millisecond)
	proxy.Freeze()
	proxy.Cut()
	leave(t, direct, first, slot)
	time.Sleep(50 * time.Millisecond)
	thawed := time.Now()
	proxy.Thaw()
	r, err := result()
	require.NoError(t, err)
	require.Equal(t, policy.Allowed, r.Verdict)
	t.Logf("found after %v", time.Since(thawed))
}

// Who waits looks when a lease ends, however long its own is.
func TestWaitLooksWhenALeaseEnds(t *testing.T) {
	srv := redistest.Start(t)
	store := redisstore.New(srv.Client(t))
	defer store.Close()
	short := charge(policy.Concurrency(1).WithLease(700*time.Millisecond), "alice")
	slot := charge(patient(1, 2), "alice")
	start := time.Now()
	take(t, store, short)
	ticket := policy.NewTicket()
	require.Equal(t, policy.Queued, enter(t, store, ticket, slot).Verdict)
	r, err := store.Wait(t.Context(), ticket, slot)
	require.NoError(t, err)
	require.Equal(t, policy.Allowed, r.Verdict)
	require.GreaterOrEqual(t, time.Since(start), 700*time.Millisecond)
	require.Less(t, time.Since(start), 2*time.Second)
}

// Where nothing may be published, or subscribed to, who waits finds out by
// looking.
func TestWaitWithoutPublishing(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	require.NoError(t, rdb.Do(t.Context(), "acl", "setuser", "default", "resetchannels").Err())
	store := redisstore.New(srv.Client(t))
	defer store.Close()
	slot := charge(policy.Concurrency(1).WithQueue(1, time.Minute).WithLease(600*time.Millisecond), "alice")
	first, second := policy.NewTicket(), policy.NewTicket()
	enter(t, store, first, slot)
	enter(t, store, second, slot)
	result := waiting(t.Context(), store, second, slot)
	for range 4 { // longer than a lease: it keeps its place
		time.Sleep(250 * time.Millisecond)
		renewal := []policy.Renewal{{Ticket: first, Charge: slot}}
		require.NoError(t, store.Renew(t.Context(), renewal))
		require.Equal(t, policy.Allowed, renewal[0].Result.Verdict)
		require.Equal(t, int64(1), renewal[0].Result.Queue)
	}
	released := time.Now()
	leave(t, store, first, slot)
	r, err := result()
	require.NoError(t, err)
	require.Equal(t, policy.Allowed, r.Verdict)
	t.Logf("found %v after the release", time.Since(released))
	require.Less(t, time.Since(released), time.Second)

	enter(t, store, first, slot) // waits; a take that grants it a slot goes through
	wider := charge(policy.Concurrency(3).WithLease(600*time.Millisecond), "alice")
	require.Equal(t, policy.Allowed, take(t, store, wider).Verdict)
	require.Equal(t, int64(3), used(t, store, wider))
}

// On a frozen server Wait still ends with its context, and Close soon.
func TestWaitOnAFrozenServer(t *testing.T) {
	srv := redistest.Start(t)
	store := redisstore.Options{Timeout: 200 * time.Millisecond}.New(srv.Client(t))
	slot := charge(patient(1, 600), "alice")
	enter(t, store, policy.NewTicket(), slot)
	tickets := make([]policy.Ticket, 512)
	for i := range tickets {
		tickets[i] = policy.NewTicket()
		enter(t, store, tickets[i], slot)
	}
	begin := func(ctx context.Context) (all []func() (policy.Result, error)) {
		for _, ticket := range tickets {
			all = append(all, waiting(ctx, store, ticket, slot))
		}
		return all
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	all := begin(ctx)
	time.Sleep(100 * time.Millisecond)
	srv.Freeze()
	defer srv.Thaw()
	all = append(all, begin(ctx)...)
	for _, result := range all {
		_, err := result()
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	deadline, _ := ctx.Deadline()
	require.Less(t, time.Since(deadline), 150*time.Millisecond)

	all = begin(t.Context())
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	require.NoError(t, store.Close())
	t.Logf("closed within %v", time.Since(start))
	require.Less(t, time.Since(start), 2*time.Second)
	for _, result := range all {
		_, err := result()
		require.ErrorIs(t, err, policy.ErrClosed)
	}
}

// Wait tells at once what is so already, and that a place was lost.
func TestWaitForWhatIsDecided(t *testing.T) {
	srv := redistest.Start(t)
	store := redisstore.New(srv.Client(t))
	defer store.Close()
	slot := charge(patient(1, 2), "alice")
	first, second, third := policy.NewTicket(), policy.NewTicket(), policy.NewTicket()
	for _, ticket := range []policy.Ticket{first, second, third} {
		enter(t, store, ticket, slot)
	}
	verdict := func(ticket policy.Ticket) policy.Verdict {
		start := time.Now()
		r, err := store.Wait(t.Context(), ticket, slot)
		require.NoError(t, err)
		require.Less(t, time.Since(start), time.Second)
		return r.Verdict
	}
	require.Equal(t, policy.Allowed, verdict(first))
	leave(t, store, first, slot)
	require.Equal(t, policy.Refused, verdict(first))
	require.Equal(t, policy.Allowed, verdict(second))

	result := waiting(t.Context(), store, third, slot)
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, store.Reset(t.Context(), []policy.Charge{slot}))
	r, err := result()
	require.NoError(t, err)
	require.Equal(t, policy.Refused, r.Verdict, "all were forgotten")

	_, err = store.Wait(t.Context(), first, charge(policy.PerHour(1), "alice"))
	require.ErrorContains(t, err, "no slot")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	enter(t, store, first, slot)
	enter(t, store, second, slot)
	_, err = store.Wait(ended, second, slot)
	require.ErrorIs(t, err, context.Canceled)

	result = waiting(t.Context(), store, second, slot)
	time.Sleep(300 * time.Millisecond)
	require.NoError(t, store.Close())
	_, err = result()
	require.ErrorIs(t, err, policy.ErrClosed)
	_, err = store.Wait(t.Context(), second, slot)
	require.ErrorIs(t, err, policy.ErrClosed)
	require.ErrorIs(t, store.Renew(t.Context(), nil), policy.ErrClosed)
}

// Slots survive that theirs of the cluster moves, with those who wait for them.
func TestSlotsMoveInTheCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	store := redisstore.New(cluster.Client(t))
	defer store.Close()
	slot := charge(patient(3, 100), "mover")
	n := int(cluster.Client(t).ClusterKeySlot(t.Context(), "mover").Val())
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var mu sync.Mutex
	inside, most, served := 0, 0, 0
	for range 12 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ticket := policy.NewTicket()
				var d policy.Decision
				err := store.Take(context.Background(), ticket, []policy.Charge{slot, charge(policy.PerHour(1_000_000), "mover")}, &d)
				if err == nil && d.Verdict == policy.Queued {
					d.Results[0], err = store.Wait(context.Background(), ticket, slot)
				}
				if err != nil || d.Results[0].Verdict != policy.Allowed {
					t.Error(d.Results[0].Verdict, err)
					return
				}
				mu.Lock()
				inside, served = inside+1, served+1
				most = max(most, inside)
				mu.Unlock()
				time.Sleep(time.Millisecond)
				mu.Lock()
				inside--
				mu.Unlock()
				if err := store.Settle(context.Background(), ticket, toZero(slot)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		moveSlot(t, cluster, n)
		time.Sleep(20 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	t.Logf("%d served", served)
	require.Equal(t, 3, most)
	require.Zero(t, used(t, store, slot))
}

// What others do to the keys of slots.
func TestSpoiltSlots(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	store := redisstore.New(rdb)
	defer store.Close()
	key := func(slot policy.Charge) string {
		return rdb.Keys(t.Context(), "stint{"+slot.Key+"}|slots=*").Val()[0]
	}
	// The first has the slot, and so many wait that the leases are a set.
	full := func(name string) (policy.Charge, []policy.Ticket) {
		slot := charge(patient(1, 20), name)
		var tickets []policy.Ticket
		for i := range 21 {
			tickets = append(tickets, policy.NewTicket())
			require.Equal(t, i > 0, enter(t, store, tickets[i], slot).Verdict == policy.Queued)
		}
		return slot, tickets
	}
	verdict := func(ticket policy.Ticket, slot policy.Charge) policy.Verdict {
		renewal := []policy.Renewal{{Ticket: ticket, Charge: slot}}
		require.NoError(t, store.Renew(t.Context(), renewal))
		return renewal[0].Result.Verdict
	}
	t.Run("a lost set holds nobody", func(t *testing.T) {
		slot, tickets := full("a")
		require.NoError(t, rdb.Del(t.Context(), key(slot)).Err())
		require.Zero(t, used(t, store, slot))
		require.Equal(t, policy.Allowed, take(t, store, slot).Verdict)
		require.Equal(t, policy.Queued, take(t, store, slot).Verdict)
		require.Positive(t, rdb.PTTL(t.Context(), key(slot)).Val())
		require.Equal(t, policy.Refused, verdict(tickets[0], slot))
		require.NoError(t, rdb.Del(t.Context(), key(slot)).Err())
		require.Equal(t, policy.Refused, verdict(tickets[1], slot))
		require.Equal(t, policy.Allowed, take(t, store, slot).Verdict)
	})
	t.Run("a set that lacks somebody counts no more", func(t *testing.T) {
		slot, tickets := full("e")
		require.NoError(t, rdb.ZRem(t.Context(), key(slot), string(tickets[0][:])).Err())
		require.Zero(t, used(t, store, slot))
		require.Equal(t, policy.Refused, verdict(tickets[1], slot))
	})
	t.Run("without its value a set counts no more", func(t *testing.T) {
		slot, tickets := full("b")
		require.NoError(t, rdb.Del(t.Context(), "stint{b}").Err())
		require.Equal(t, policy.Refused, verdict(tickets[0], slot))
		require.Equal(t, policy.Allowed, take(t, store, slot).Verdict)
		require.Equal(t, policy.Refused, verdict(tickets[1], slot))
		require.Equal(t, int64(1), used(t, store, slot))
		for range 16 { // and then they are a set again
			require.Equal(t, policy.Queued, take(t, store, slot).Verdict)
		}
		require.Equal(t, int64(17+16), rdb.ZCard(t.Context(), key(slot)).Val())
		require.Equal(t, policy.Refused, verdict(tickets[1], slot))
	})
	t.Run("another's key is found when the leases become a set", func(t *testing.T) {
		slot := charge(patient(1, 20), "f")
		name := key(full1(full("g")))
		name = strings.Replace(name, "{g}", "{f}", 1)
		require.NoError(t, rdb.Set(t.Context(), name, "x", 0).Err())
		rate := charge(policy.PerHour(100), "f")
		for range 16 {
			take(t, store, slot, rate)
		}
		var d policy.Decision
		err := store.Take(t.Context(), policy.NewTicket(), []policy.Charge{slot, rate}, &d)
		require.ErrorContains(t, err, "not stint's")
		require.Equal(t, int64(16), used(t, store, rate))
		require.Equal(t, "x", rdb.Get(t.Context(), name).Val(), "left as it was")
	})
	t.Run("another's key harms nobody else", func(t *testing.T) {
		slot, _ := full("c")
		other := charge(patient(1000, 2), "other")
		name := key(slot)
		require.NoError(t, rdb.Set(t.Context(), name, "x", 0).Err())
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				var d policy.Decision
				ticket := policy.NewTicket()
				switch i % 4 {
				case 0:
					if err := store.Take(t.Context(), ticket, []policy.Charge{slot}, &d); err == nil || !strings.Contains(err.Error(), "not stint's") {
						t.Error(err)
					}
				case 1:
					if err := store.Settle(t.Context(), ticket, toZero(slot)); err == nil {
						t.Error("no error")
					}
				case 2:
					renewals := []policy.Renewal{{Ticket: ticket, Charge: slot}, {Ticket: ticket, Charge: other}}
					if err := store.Renew(t.Context(), renewals); err == nil {
						t.Error("no error")
					} else if renewals[0].Result.Verdict != policy.Unknown || renewals[1].Result.Verdict != policy.Refused {
						t.Error(renewals[0].Result.Verdict, renewals[1].Result.Verdict)
					}
				default:
					if err := store.Take(t.Context(), ticket, []policy.Charge{other}, &d); err != nil || d.Verdict != policy.Allowed {
						t.Error(d.Verdict, err)
					}
				}
			})
		}
		wg.Wait()
		require.Equal(t, "x", rdb.Get(t.Context(), name).Val(), "left as it was")
		_, err := store.Wait(t.Context(), policy.NewTicket(), slot)
		require.ErrorContains(t, err, "not stint's")
	})
	t.Run("flushed", func(t *testing.T) {
		slot, tickets := full("d")
		result := waiting(t.Context(), store, tickets[1], charge(policy.Concurrency(1).WithQueue(20, time.Minute).WithLease(300*time.Millisecond), "d"))
		time.Sleep(20 * time.Millisecond)
		require.NoError(t, rdb.FlushAll(t.Context()).Err())
		r, err := result()
		require.NoError(t, err)
		require.Equal(t, policy.Refused, r.Verdict)
		require.Equal(t, policy.Allowed, take(t, store, slot).Verdict)
	})
}

func full1(slot policy.Charge, _ []policy.Ticket) policy.Charge { return slot }

// A Settle of slots alone does not keep a later one of units from counting, and
// a slot is left whatever its ticket settled before.
func TestSlotsAreLeftBesideUnits(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	store := redisstore.New(rdb)
	defer store.Close()
	slot, rate := charge(patient(1, 1), "alice"), charge(policy.PerHour(100), "alice")
	for i, slotFirst := range []bool{true, false} {
		ticket := policy.NewTicket()
		d := enter(t, store, ticket, slot, rate)
		units := []policy.Settlement{{Charge: rate, Receipt: d.Results[1].Receipt, Total: 11}}
		if slotFirst {
			leave(t, store, ticket, slot)
			require.Empty(t, rdb.Keys(t.Context(), "*|ticket=*").Val())
		}
		require.NoError(t, store.Settle(t.Context(), ticket, units))
		require.NoError(t, store.Settle(t.Context(), ticket, append(units, policy.Settlement{Charge: slot, Total: 1})))
		require.Equal(t, int64(11*(i+1)), used(t, store, rate))
		if !slotFirst {
			require.Equal(t, int64(1), used(t, store, slot), "a total above zero leaves it alone")
			require.NoError(t, store.Settle(t.Context(), ticket, append(units, toZero(slot)...)))
		}
		require.Equal(t, int64(11*(i+1)), used(t, store, rate))
		require.Zero(t, used(t, store, slot), fmt.Sprint("slot first: ", slotFirst))
	}
}
