package memstore_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// A guest has asked for a slot.
type guest struct {
	policy.Decision
	store  *memstore.Store
	ticket policy.Ticket
	charge policy.Charge
}

func enter(t *testing.T, s *memstore.Store, c policy.Charge) guest {
	t.Helper()
	g := guest{store: s, ticket: policy.NewTicket(), charge: c}
	require.NoError(t, s.Take(t.Context(), g.ticket, []policy.Charge{c}, &g.Decision))
	return g
}

// leave may be called by any goroutine.
func (g *guest) leave(t *testing.T) {
	settlement := policy.Settlement{Charge: g.charge, Receipt: g.Results[0].Receipt}
	if err := g.store.Settle(context.Background(), g.ticket, []policy.Settlement{settlement}); err != nil {
		t.Error(err)
	}
}

func (g *guest) renew(t *testing.T) policy.Result {
	renewals := []policy.Renewal{{Ticket: g.ticket, Charge: g.charge}}
	if err := g.store.Renew(context.Background(), renewals); err != nil {
		t.Error(err)
	}
	return renewals[0].Result
}

func (g *guest) wait(ctx context.Context) (policy.Result, error) {
	return g.store.Wait(ctx, g.ticket, g.charge)
}

func slots(n, queue int64) policy.Limit {
	l := policy.Concurrency(n).WithLease(9 * time.Second)
	if queue > 0 {
		l = l.WithQueue(queue, time.Minute)
	}
	return l
}

// empty wants nobody to hold or to wait for a slot, or to be called.
func empty(t *testing.T, s *memstore.Store, c policy.Charge) {
	t.Helper()
	c.Units = 0
	r := peek(t, s, c).Results[0]
	require.Zero(t, r.Used)
	require.Zero(t, r.Queue)
	require.Zero(t, s.Calls())
}

// Who leaves wakes the next at once: no time passes in the bubble.
func TestWaitIsWokenAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(memstore.Options{})
		c := charge(slots(1, 2), "a", 1)
		first, second := enter(t, s, c), enter(t, s, c)
		began := time.Now()
		go func() {
			time.Sleep(4321 * time.Microsecond)
			first.leave(t)
		}()
		r, err := second.wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, policy.Allowed, r.Verdict)
		require.Equal(t, 4321*time.Microsecond, time.Since(began))
		second.leave(t)
		empty(t, s, c)
	})
}

// A raised number wakes those whom it grants, and no others.
func TestWaitIsWokenByAnyGrant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(memstore.Options{})
		c := charge(slots(1, 9), "a", 1)
		holder := enter(t, s, c)
		var granted atomic.Int64
		var guests [6]guest
		for i := range guests {
			g := &guests[i]
			*g = enter(t, s, c)
			go func() {
				if r, err := g.wait(t.Context()); err != nil || r.Verdict != policy.Allowed {
					t.Error(r, err)
				}
				granted.Add(1)
			}()
		}
		synctest.Wait()
		more := c
		more.Limit = slots(3, 9)
		late := enter(t, s, more)
		require.Equal(t, policy.Queued, late.Verdict)
		synctest.Wait()
		require.Equal(t, int64(2), granted.Load(), "by a Take")
		holder.charge.Limit = slots(5, 9)
		holder.renew(t)
		synctest.Wait()
		require.Equal(t, int64(4), granted.Load(), "by a Renew")
		require.Equal(t, 2, s.Calls())
		more.Limit = slots(20, 9)
		require.Equal(t, policy.Allowed, take(t, s, more, charge(policy.PerHour(5), "b", 1)).Verdict)
		synctest.Wait()
		require.Equal(t, int64(6), granted.Load(), "by a joint Take")
	})
}

// Waiting renews the place, however long it takes.
func TestWaitRenewsThePlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(memstore.Options{})
		c := charge(slots(1, 2), "a", 1)
		first, second, idle := enter(t, s, c), enter(t, s, c), enter(t, s, c)
		const long = time.Hour
		go func() {
			for range int(long / time.Second) {
				time.Sleep(time.Second)
				first.renew(t)
			}
			first.leave(t)
		}()
		began := time.Now()
		r, err := second.wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, policy.Allowed, r.Verdict)
		require.Equal(t, long, time.Since(began))
		require.Equal(t, policy.Refused, idle.renew(t).Verdict, "who did not wait has lost its place")
	})
}

// A holder that died is waited for no longer than a lease.
func TestWaitForTheDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(memstore.Options{})
		c := charge(slots(1, 2), "a", 1)
		enter(t, s, c)
		time.Sleep(time.Second)
		dead, second := enter(t, s, c), enter(t, s, c)
		began := time.Now()
		r, err := second.wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, policy.Allowed, r.Verdict)
		// The holder's lease ends, and later that of the one before in the line.
		require.Equal(t, 9*time.Second, time.Since(began).Truncate(time.Millisecond))
		require.Equal(t, policy.Refused, dead.renew(t).Verdict)
	})
}

func TestWaitEnds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		end  func(t *testing.T, s *memstore.Store, g guest, cancel func())
		want policy.Verdict
		err  error
	}{
		"left": {func(t *testing.T, _ *memstore.Store, g guest, _ func()) { g.leave(t) }, policy.Refused, nil},
		"reset": {func(t *testing.T, s *memstore.Store, g guest, _ func()) {
			require.NoError(t, s.Reset(t.Context(), []policy.Charge{g.charge}))
		}, policy.Refused, nil},
		"closed": {func(t *testing.T, s *memstore.Store, _ guest, _ func()) { require.NoError(t, s.Close()) }, policy.Unknown, policy.ErrClosed},
		"cancelled": {func(_ *testing.T, _ *memstore.Store, _ guest, cancel func()) {
			cancel()
		}, policy.Unknown, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := memstore.New(memstore.Options{})
				c := charge(slots(1, 2), "a", 1)
				holder, g := enter(t, s, c), enter(t, s, c)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				began := time.Now()
				done := make(chan struct{})
				for range 2 { // of one ticket, too
					go func() {
						r, err := g.wait(ctx)
						if r.Verdict != tc.want || err != tc.err {
							t.Error(r, err)
						}
						done <- struct{}{}
					}()
				}
				synctest.Wait()
				tc.end(t, s, g, cancel)
				<-done
				<-done
				require.Zero(t, time.Since(began))
				require.Zero(t, s.Calls())
				if name == "cancelled" {
					require.Equal(t, policy.Queued, g.renew(t).Verdict, "it keeps its place")
					holder.leave(t)
					r, err := g.wait(t.Context())
					require.NoError(t, err)
					require.Equal(t, policy.Allowed, r.Verdict)
				}
			})
		})
	}
}

// One of two Waits of a ticket that gives up leaves the other to be called.
func TestWaitTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(memstore.Options{})
		c := charge(slots(1, 2), "a", 1)
		holder, g := enter(t, s, c), enter(t, s, c)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if _, err := g.wait(ctx); err != context.Canceled {
				t.Error(err)
			}
		}()
		done := make(chan policy.Verdict)
		go func() {
			r, err := g.wait(t.Context())
			if err != nil {
				t.Error(err)
			}
			done <- r.Verdict
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.Equal(t, 1, s.Calls())
		holder.leave(t)
		require.Equal(t, policy.Allowed, <-done)
		require.Zero(t, s.Calls())
	})
}

// A clock that stands still just before a lease ends is not asked all the time,
// and however often it is, nobody is to be called when the wait has ended.
func TestWaitOnAStandingClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		clock := newClock()
		s := memstore.New(memstore.Options{Now: func() time.Time {
			asked.Add(1)
			return clock.Now()
		}})
		c := charge(slots(1, 2), "a", 1)
		enter(t, s, c)
		clock.advance(9*time.Second - time.Microsecond)
		g := enter(t, s, c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := g.wait(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Less(t, asked.Load(), int64(1100))
		require.Greater(t, asked.Load(), int64(900))
		require.Zero(t, s.Calls())
	})
}

// When a clock leaps over the ends of leases, the next to come finds out for all.
func TestWaitWhenTheClockLeaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, clock := newStore(t, 0)
		c := charge(slots(1, 9), "a", 1)
		enter(t, s, c)
		began := time.Now()
		var group sync.WaitGroup
		for range 3 {
			g := enter(t, s, c)
			group.Go(func() {
				if r, err := g.wait(t.Context()); err != nil || r.Verdict != policy.Refused {
					t.Error(r, err)
				}
			})
		}
		synctest.Wait()
		clock.advance(9 * time.Second)
		require.Equal(t, policy.Allowed, enter(t, s, c).Verdict)
		group.Wait()
		require.Zero(t, time.Since(began))
	})
}

// Joint decisions take all or none, a place in the queue included.
func TestQueuedHoldsTheRest(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	slot, rate := charge(slots(1, 1), "a", 1), charge(policy.PerHour(6), "b", 2)
	require.Equal(t, policy.Allowed, take(t, s, rate, slot).Verdict)
	d := take(t, s, rate, slot)
	require.Equal(t, policy.Queued, d.Verdict)
	require.Equal(t, []policy.Verdict{policy.Allowed, policy.Queued}, []policy.Verdict{d.Results[0].Verdict, d.Results[1].Verdict})
	require.Equal(t, int64(4), used(t, s, rate))
	require.Equal(t, policy.Refused, take(t, s, rate, slot).Verdict, "the queue is full")
	require.Equal(t, int64(4), used(t, s, rate))

	other := charge(slots(1, 1), "new", 1)
	require.Equal(t, policy.Refused, take(t, s, charge(rate.Limit, "b", 3), other).Verdict)
	require.Zero(t, used(t, s, other), "the rate refused")
	own, _ := s.States()
	require.Equal(t, 2, own)
}

// States with slots make no room: new keys share the slots of one.
func TestSlotsAreNotEvicted(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 2)
	held := charge(slots(5, 1), "held", 1)
	holder := enter(t, s, held)
	rate := policy.PerHour(100)
	take(t, s, charge(rate, "a", 1))
	take(t, s, charge(rate, "b", 1))
	require.Zero(t, used(t, s, charge(rate, "a", 0)), "a rate makes room")
	require.Equal(t, int64(1), used(t, s, held))

	two := enter(t, s, charge(slots(5, 1), "held too", 1)) // for b
	require.False(t, two.Results[0].Overflow)
	for i := range 3 {
		d := take(t, s, charge(rate, "new "+strconv.Itoa(i), 1))
		require.True(t, d.Results[0].Overflow)
	}
	holder.leave(t) // nobody has it, so it makes room
	require.False(t, take(t, s, charge(rate, "c", 1)).Results[0].Overflow)

	s, c := newStore(t, 1)
	enter(t, s, held)
	require.True(t, take(t, s, charge(rate, "d", 1)).Results[0].Overflow)
	c.advance(9*time.Second - time.Microsecond)
	require.True(t, take(t, s, charge(rate, "d", 1)).Results[0].Overflow)
	c.advance(time.Microsecond)
	require.False(t, take(t, s, charge(rate, "d", 1)).Results[0].Overflow, "as does one whose leases have ended")
}

func TestSlotsOverflow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(memstore.Options{MaxStates: 1})
		full := enter(t, s, charge(slots(1, 0), "full", 1))
		one := enter(t, s, charge(slots(1, 2), "one", 1))
		require.True(t, one.Results[0].Overflow)
		require.Equal(t, policy.Allowed, one.Verdict)
		two := enter(t, s, charge(slots(1, 2), "two", 7))
		require.Equal(t, policy.Queued, two.Verdict)
		require.Equal(t, int64(1), two.Results[0].Queue)
		require.True(t, two.renew(t).Overflow)
		require.Equal(t, policy.Allowed, one.renew(t).Verdict)
		require.Equal(t, policy.Refused, enter(t, s, charge(slots(1, 1), "three", 1)).Verdict)

		// There is room again; who shares goes on to.
		full.leave(t)
		own := enter(t, s, charge(slots(1, 2), "two", 1))
		require.False(t, own.Results[0].Overflow)
		require.Equal(t, policy.Allowed, own.Verdict)
		done := make(chan policy.Result)
		go func() {
			r, err := two.wait(t.Context())
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
		synctest.Wait()
		require.Equal(t, 1, s.Calls())
		began := time.Now()
		one.leave(t)
		r := <-done
		require.Zero(t, time.Since(began))
		require.Equal(t, policy.Allowed, r.Verdict)
		require.True(t, r.Overflow)
		two.leave(t)
		require.Equal(t, policy.Refused, two.renew(t).Verdict)
		require.Equal(t, policy.Allowed, own.renew(t).Verdict)

		holder := enter(t, s, charge(slots(1, 2), "five", 1))
		require.True(t, holder.Results[0].Overflow)
		last := enter(t, s, charge(slots(1, 2), "six", 1))
		closed := make(chan error)
		go func() {
			_, err := last.wait(t.Context())
			closed <- err
		}()
		synctest.Wait()
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-closed, policy.ErrClosed)
		require.Zero(t, time.Since(began))
	})
}

// A state that nobody is in is forgotten in passing.
func TestForgetsEmptySlots(t *testing.T) {
	t.Parallel()
	s, c := newStore(t, 0)
	for i := range 10_000 {
		g := enter(t, s, charge(slots(1, 0), strconv.Itoa(i), 1))
		if i%2 == 0 {
			g.leave(t)
		}
		c.advance(10 * time.Millisecond) // 450 held at a time
	}
	own, _ := s.States()
	require.Less(t, own, 3000)
}

// A slot that is taken and freed again allocates nothing.
func TestRepeatedSlotAllocatesNothing(t *testing.T) {
	s, c := newStore(t, 0)
	ctx := context.Background()
	for name, charges := range map[string][]policy.Charge{
		"alone":         {charge(slots(2, 2), "a", 1)},
		"with a rate":   {charge(slots(2, 2), "b", 1), charge(policy.PerHour(1e9), "b", 1)},
		"of three keys": {charge(slots(2, 2), "c", 1), charge(slots(2, 0), "d", 1), charge(policy.PerHour(1e9), "e", 1)},
	} {
		var d policy.Decision
		settlements := make([]policy.Settlement, 0, len(charges))
		ticket := policy.NewTicket()
		once := func() {
			if err := s.Take(ctx, ticket, charges, &d); err != nil || d.Verdict != policy.Allowed {
				t.Error(d, err)
			}
			settlements = settlements[:0]
			for i := range charges {
				if charges[i].Limit.Lease() > 0 {
					settlements = append(settlements, policy.Settlement{Charge: charges[i], Receipt: d.Results[i].Receipt})
				}
			}
			if err := s.Settle(ctx, ticket, settlements); err != nil {
				t.Error(err)
			}
			c.advance(time.Second)
		}
		once()
		require.Zero(t, testing.AllocsPerRun(200, once), name)

		require.NoError(t, s.Take(ctx, ticket, charges, &d))
		renewals := []policy.Renewal{{Ticket: ticket, Charge: charges[0]}}
		require.Zero(t, testing.AllocsPerRun(200, func() {
			if err := s.Renew(ctx, renewals); err != nil {
				t.Error(err)
			}
		}), name)
		require.Equal(t, policy.Allowed, renewals[0].Result.Verdict)
	}
}

// Of five hundred who come, ten are inside at a time, and one after the other
// comes in: at each moment those who have been inside are the first.
func TestFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const all, at = 500, 10
		s := memstore.New(memstore.Options{})
		c := charge(policy.Concurrency(at).WithQueue(all-at, time.Minute), "a", 1)
		var guests [all]guest
		var inside [all]atomic.Bool
		leave := make([]chan struct{}, all)
		var group sync.WaitGroup
		for i := range guests {
			guests[i], leave[i] = enter(t, s, c), make(chan struct{})
			group.Go(func() {
				if r, err := guests[i].wait(t.Context()); err != nil || r.Verdict != policy.Allowed {
					t.Error(i, r, err)
				}
				inside[i].Store(true)
				<-leave[i]
				guests[i].leave(t)
			})
		}
		require.Equal(t, policy.Refused, enter(t, s, c).Verdict)
		began := time.Now()
		order := rand.Perm(at) // of those inside who leaves next
		for gone := range all {
			synctest.Wait()
			for i := range guests {
				require.Equal(t, i < min(gone+at, all), inside[i].Load(), "guest %d when %d have gone", i, gone)
			}
			close(leave[order[gone%at]])
			order[gone%at] = gone + at
			if gone+at >= all { // nobody comes any more
				order[gone%at] = -1
			}
		}
		group.Wait()
		require.Zero(t, time.Since(began))
		empty(t, s, c)
	})
}

// The same in a hurry: never more than ten, and everybody is served.
func TestCrowd(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	const all, at = 500, 10
	s := memstore.New(memstore.Options{})
	c := charge(policy.Concurrency(at).WithQueue(all-at, time.Minute), "a", 1)
	var inside, most, served atomic.Int64
	var group sync.WaitGroup
	for range all {
		group.Go(func() {
			g := enter(t, s, c)
			if g.Verdict == policy.Queued {
				if r, err := g.wait(t.Context()); err != nil || r.Verdict != policy.Allowed {
					t.Error(r, err)
				}
			} else if g.Verdict != policy.Allowed {
				t.Error(g.Decision)
			}
			now := inside.Add(1)
			for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
			}
			time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
			served.Add(1)
			inside.Add(-1)
			g.leave(t)
		})
	}
	group.Wait()
	require.Equal(t, int64(all), served.Load())
	require.LessOrEqual(t, most.Load(), int64(at))
	empty(t, s, c)
	require.NoError(t, s.Close())
}

// Ten thousand requests go at any point of their way, and leave nothing.
func TestLeavingAnywhere(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	const requests, workers = 10_000, 100
	s := memstore.New(memstore.Options{MaxStates: 20})
	limit := policy.Concurrency(5).WithQueue(50, time.Minute).WithLease(50 * time.Millisecond)
	var next atomic.Int64
	var saw [5]atomic.Int64 // verdicts
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for i := next.Add(1); i <= requests; i = next.Add(1) {
				g := guest{store: s, ticket: policy.NewTicket(), charge: charge(limit, strconv.FormatInt(i%30, 10), 1)}
				if i%3 > 0 {
					g.charge.Key = "hot"
				}
				rate := charge(policy.PerDay(1_000_000), g.charge.Key, 1)
				charges := []policy.Charge{g.charge, rate}[:1+rand.IntN(2)]
				if err := s.Take(t.Context(), g.ticket, charges, &g.Decision); err != nil {
					t.Error(err)
					return
				}
				saw[g.Verdict].Add(1)
				if g.Verdict == policy.Refused {
					continue
				}
				g.stay(t)
				for range 1 + rand.IntN(2) {
					g.leave(t)
				}
			}
		})
	}
	group.Wait()
	require.NotZero(t, saw[policy.Allowed].Load())
	require.NotZero(t, saw[policy.Queued].Load())
	empty(t, s, charge(limit, "hot", 0))
	for i := range 30 {
		empty(t, s, charge(limit, strconv.Itoa(i), 0))
	}
	require.NoError(t, s.Close())
}

// stay waits, for a while or until it is served, and renews now and then.
func (g *guest) stay(t *testing.T) {
	if g.Verdict == policy.Queued && rand.IntN(4) > 0 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(20_000))*time.Microsecond)
		defer cancel()
		if rand.IntN(5) == 0 {
			cancel()
		}
		if r, err := g.wait(ctx); err != nil && err != ctx.Err() || err == nil && r.Verdict == policy.Queued {
			t.Error(r, err)
		}
	}
	switch rand.IntN(4) {
	case 0:
		g.renew(t)
	case 1:
		time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
	}
}
