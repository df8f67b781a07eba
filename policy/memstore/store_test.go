package memstore_test

import (
	"context"
	"crypto/sha256"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

func TestAllOrNone(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	minute, hour := charge(policy.PerMinute(10), "a", 4), charge(policy.PerHour(5), "b", 4)
	d := take(t, s, minute, hour)
	require.Equal(t, policy.Allowed, d.Verdict)
	require.Equal(t, noon.UnixMicro(), d.Now.UnixMicro())
	require.Equal(t, []int64{6, 1}, []int64{d.Results[0].Remaining, d.Results[1].Remaining})

	d = take(t, s, minute, hour)
	require.Equal(t, policy.Refused, d.Verdict)
	require.Equal(t, policy.Allowed, d.Results[0].Verdict, "refused by the other")
	require.Equal(t, int64(4), d.Results[0].Used, "as it stays")
	require.Zero(t, d.Results[0].Receipt)
	require.Equal(t, policy.Refused, d.Results[1].Verdict)
	require.Equal(t, peek(t, s, minute, hour), d, "a refusal is what Peek tells")

	fresh := charge(policy.PerMinute(10), "new", 1)
	own, _ := s.States()
	require.Equal(t, policy.Refused, take(t, s, fresh, hour).Verdict)
	after, _ := s.States()
	require.Equal(t, own, after, "a refused request makes no state")
	require.Zero(t, used(t, s, fresh))
}

func TestDuplicatesAreSummed(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	l := policy.PerMinute(10)
	same := charge(l, "a", 3)
	same.Partition = "a" // the key's own place, spelt out
	d := take(t, s, charge(l, "a", 4), charge(policy.PerHour(100), "a", 1), same)
	require.Equal(t, policy.Allowed, d.Verdict)
	require.Equal(t, int64(7), d.Results[0].Used)
	require.Equal(t, d.Results[0], d.Results[2])

	settle(t, s, same, d.Results[2], 0)
	require.Equal(t, int64(4), used(t, s, same))
	settle(t, s, charge(l, "a", 4), d.Results[0], 0)
	require.Zero(t, used(t, s, same))

	d = take(t, s, charge(l, "a", 6), charge(l, "a", 5))
	require.Equal(t, policy.Refused, d.Verdict)
	require.Equal(t, policy.Never, d.Results[0].Verdict)
	require.Equal(t, d.Results[0], d.Results[1])
	d = take(t, s, charge(l, "a", math.MaxInt64), charge(l, "a", math.MaxInt64), charge(l, "b", 1))
	require.Equal(t, policy.Never, d.Results[1].Verdict, "sums do not overflow")
	require.Zero(t, used(t, s, charge(l, "b", 0)))
}

func TestChargesApart(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	l := policy.PerMinute(10)
	long := strings.Repeat("k", 129)
	apart := []policy.Charge{
		{Limit: l, Key: "a"}, {Limit: l, Key: ""}, {Limit: l, Key: "", Partition: "a"}, {Limit: l, Key: "a", Partition: "b"},
		{Limit: l, Key: "b", Partition: "a"}, {Limit: l, Key: "a\x00"}, {Limit: l, Key: "{a}"}, {Limit: l, Key: "\xff\xfe"},
		{Limit: l, Key: "a", Scope: policy.NewScope("api", "r")}, {Limit: l.Named("x"), Key: "a"}, {Limit: policy.PerHour(10), Key: "a"},
		{Limit: l, Key: long}, {Limit: l, Key: long + "k"}, {Limit: l, Key: long[1:]}, {Limit: l, Key: "a", Partition: long},
		{Limit: l, Key: long, Partition: "a"}, {Limit: l, Key: long, Partition: long + "k"}, {Limit: l, Key: strings.Repeat("k", 1<<20)},
	}
	// What a long key is kept as is no name of its own.
	digest := sha256.Sum256([]byte(long))
	apart = append(apart, policy.Charge{Limit: l, Key: string(digest[:])}, policy.Charge{Limit: l, Key: "a", Partition: string(digest[:])})
	for i := range apart {
		apart[i].Units = 1 + int64(i%9)
		require.Equal(t, policy.Allowed, take(t, s, apart[i]).Verdict)
	}
	for i := range apart {
		require.Equal(t, apart[i].Units, used(t, s, apart[i]), "charge %d", i)
		for j := range i {
			require.False(t, apart[i].SameState(&apart[j]), "%d and %d", i, j)
		}
	}
	own, _ := s.States()
	require.Len(t, apart, own)
	together := charge(l, long, 0)
	together.Partition = long
	require.Equal(t, int64(3), used(t, s, together), "a long partition may be the key, too")
}

// A store keeps no part of a key's memory.
func TestKeysAreCopied(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	header := []byte("secret=abc; and much more")
	key := string(header[7:10])
	take(t, s, charge(policy.PerMinute(5), key, 2))
	require.Equal(t, int64(2), used(t, s, charge(policy.PerMinute(5), "abc", 0)))
}

func TestManyCharges(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	for _, n := range []int{0, 1, 2, 3, 4, 15, 16, 17, policy.MaxCharges} {
		charges := make([]policy.Charge, n)
		for i := range charges {
			charges[i] = charge(policy.PerHour(1000).Named("n"+strings.Repeat("x", n%50)), string(rune('a'+i)), int64(i))
		}
		d := take(t, s, charges...)
		require.Equal(t, policy.Allowed, d.Verdict)
		require.Len(t, d.Results, n)
		for i, r := range d.Results {
			require.Equal(t, int64(i), r.Used)
		}
	}
	var d policy.Decision
	tooMany := make([]policy.Charge, policy.MaxCharges+1)
	require.ErrorContains(t, s.Take(t.Context(), policy.Ticket{}, tooMany, &d), "write at most 64")
}

func TestCountRefused(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	counts, other := charge(policy.PerMinute(2).CountRefused(), "a", 1), charge(policy.PerHour(2), "a", 1)
	for range 2 {
		take(t, s, counts, other)
	}
	for i := range int64(4) {
		d := take(t, s, other, counts)
		require.Equal(t, policy.Refused, d.Verdict)
		require.Equal(t, min(4, 3+i), d.Results[1].Used, "its refusal is charged")
		require.Equal(t, int64(2), used(t, s, other), "the other's is not")
	}
	// One that would have been allowed pays nothing for another's refusal.
	free := charge(policy.PerMinute(2).CountRefused(), "free", 1)
	require.Equal(t, policy.Refused, take(t, s, free, other).Verdict)
	require.Zero(t, used(t, s, free))
	// And alone, on the short way.
	alone := charge(policy.PerMinute(1).CountRefused(), "alone", 1)
	take(t, s, alone)
	require.Equal(t, int64(2), take(t, s, alone).Results[0].Used)
	require.Equal(t, int64(2), used(t, s, alone))
}

func TestRetryAfterIsExact(t *testing.T) {
	t.Parallel()
	for _, l := range []policy.Limit{policy.PerMinute(7), policy.TokenBucket(7, time.Minute).WithBurst(3), policy.FixedWindow(7, time.Minute), policy.SlidingLog(7, time.Minute)} {
		t.Run(l.String(), func(t *testing.T) {
			t.Parallel()
			s, c := newStore(t, 0)
			charges := []policy.Charge{charge(l, "a", 2), charge(policy.PerHour(8), "b", 2)}
			for range 8 {
				c.advance(time.Second)
				d := take(t, s, charges...)
				if d.Verdict != policy.Refused {
					continue
				}
				c.advance(d.RetryAfter() - time.Microsecond)
				require.Equal(t, policy.Refused, peek(t, s, charges...).Verdict)
				require.Equal(t, policy.Refused, take(t, s, charges...).Verdict)
				c.advance(time.Microsecond)
				require.Equal(t, policy.Allowed, take(t, s, charges...).Verdict)
			}
		})
	}
}

func TestZeroUnits(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	full := charge(policy.PerMinute(1), "a", 1)
	take(t, s, full)
	d := take(t, s, charge(full.Limit, "a", 0), charge(full.Limit, "b", 0))
	require.Equal(t, policy.Allowed, d.Verdict)
	require.Equal(t, int64(1), d.Results[0].Used)
	own, _ := s.States()
	require.Equal(t, 1, own, "nothing is kept of nothing")
}

func TestPeekChangesNothing(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	a, b := charge(policy.PerMinute(3).CountRefused(), "a", 2), charge(policy.PerHour(3), "b", 2)
	d := peek(t, s, a, b)
	require.Equal(t, policy.Allowed, d.Verdict)
	require.Zero(t, d.Results[0].Used)
	own, _ := s.States()
	require.Zero(t, own)
	take(t, s, a)
	for range 3 {
		d = peek(t, s, a, b)
		require.Equal(t, policy.Refused, d.Verdict)
		require.Equal(t, int64(2), d.Results[0].Used)
		require.Zero(t, d.Results[1].Used)
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	s, c := newStore(t, 10)
	l := charge(policy.PerMinute(10), "a", 6)
	d := take(t, s, l)
	ticket := policy.NewTicket()
	total := func(n int64) []policy.Settlement {
		return []policy.Settlement{{Charge: l, Receipt: d.Results[0].Receipt, Total: n}}
	}
	require.NoError(t, s.Settle(t.Context(), ticket, nil))
	require.Error(t, s.Settle(t.Context(), ticket, total(-1)))
	bad := total(1)
	bad[0].Charge.Limit = policy.Limit{}
	require.ErrorContains(t, s.Settle(t.Context(), ticket, bad), "zero Limit")
	require.ErrorContains(t, s.Settle(t.Context(), ticket, make([]policy.Settlement, 65)), "write at most 64")
	require.Equal(t, int64(6), used(t, s, l))

	require.NoError(t, s.Settle(t.Context(), ticket, total(2)))
	require.Equal(t, int64(2), used(t, s, l))
	for range 4 {
		c.advance(15 * time.Second)
		require.NoError(t, s.Settle(t.Context(), ticket, total(0)))
	}
	require.Equal(t, int64(2), used(t, s, l), "it counts once, for a minute")
	require.Equal(t, 1, s.Tickets())

	d = take(t, s, l)
	require.NoError(t, s.Settle(t.Context(), policy.NewTicket(), total(40)))
	require.Equal(t, int64(42), used(t, s, l), "it never refuses")
	c.advance(3 * time.Minute)
	settle(t, s, l, d.Results[0], 6)
	require.Equal(t, 1, s.Tickets(), "old tickets are forgotten")
}

// Of a state that is gone nothing is given back, and a charge makes it anew.
func TestSettleForgotten(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	l := charge(policy.PerMinute(10), "a", 6)
	d := take(t, s, l)
	require.NoError(t, s.Reset(t.Context(), []policy.Charge{l}))
	settle(t, s, l, d.Results[0], 0)
	own, _ := s.States()
	require.Zero(t, own)
	settle(t, s, l, d.Results[0], 8)
	require.Equal(t, int64(2), used(t, s, l))
}

func TestReset(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	minute, hour, other := charge(policy.PerMinute(10), "a", 6), charge(policy.PerHour(10), "a", 6), charge(policy.PerMinute(10), "b", 6)
	take(t, s, minute, hour, other)
	require.NoError(t, s.Reset(t.Context(), []policy.Charge{minute, minute, charge(policy.PerDay(1), "none", 1)}))
	require.Equal(t, []int64{0, 6, 6}, []int64{used(t, s, minute), used(t, s, hour), used(t, s, other)})
	require.Equal(t, int64(6), take(t, s, minute).Results[0].Used)
	require.NoError(t, s.Reset(t.Context(), []policy.Charge{hour, minute}))
	own, _ := s.States()
	require.Equal(t, 1, own)
	require.Error(t, s.Reset(t.Context(), make([]policy.Charge, 1)))
}

func TestChangedNumbers(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	require.Equal(t, int64(20), take(t, s, charge(policy.PerMinute(100), "a", 80)).Results[0].Remaining)
	require.Equal(t, int64(120), peek(t, s, charge(policy.PerMinute(200), "a", 0)).Results[0].Remaining)
	require.Equal(t, policy.Refused, take(t, s, charge(policy.PerMinute(50), "a", 1)).Verdict)
	require.Equal(t, int64(119), take(t, s, charge(policy.PerMinute(200), "a", 1)).Results[0].Remaining)
}

func TestDoneContextTakesNothing(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := charge(policy.PerMinute(10), "a", 6)
	var d policy.Decision
	require.ErrorIs(t, s.Take(ctx, policy.Ticket{}, []policy.Charge{c}, &d), context.Canceled)
	require.ErrorIs(t, s.Peek(ctx, []policy.Charge{c}, &d), context.Canceled)
	require.Zero(t, used(t, s, c))
	taken := take(t, s, c)
	require.ErrorIs(t, s.Reset(ctx, []policy.Charge{c}), context.Canceled)
	require.ErrorIs(t, s.Settle(ctx, policy.Ticket{}, []policy.Settlement{{Charge: c, Receipt: taken.Results[0].Receipt}}), context.Canceled)
	require.Equal(t, int64(6), used(t, s, c))
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := memstore.New(memstore.Options{})
	c := charge(policy.PerMinute(10), "a", 6)
	d := take(t, s, c)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	ctx, charges := t.Context(), []policy.Charge{c}
	require.ErrorIs(t, s.Take(ctx, policy.Ticket{}, charges, &d), policy.ErrClosed)
	require.ErrorIs(t, s.Take(ctx, policy.Ticket{}, []policy.Charge{c, c}, &d), policy.ErrClosed)
	require.ErrorIs(t, s.Peek(ctx, charges, &d), policy.ErrClosed)
	require.ErrorIs(t, s.Reset(ctx, charges), policy.ErrClosed)
	require.ErrorIs(t, s.Settle(ctx, policy.Ticket{}, []policy.Settlement{{Charge: c}}), policy.ErrClosed)
	own, shared := s.States()
	require.Zero(t, own+shared+s.Tickets())
}

// Without a clock of its own the store goes by time.Now.
func TestRealClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(memstore.Options{})
		c := charge(policy.TokenBucket(1, time.Second), "a", 1)
		require.Equal(t, policy.Allowed, take(t, s, c).Verdict)
		d := take(t, s, c)
		require.Equal(t, policy.Refused, d.Verdict)
		require.True(t, d.Now.Equal(time.Now()))
		time.Sleep(d.RetryAfter() - time.Microsecond)
		require.Equal(t, policy.Refused, take(t, s, c).Verdict)
		time.Sleep(time.Microsecond)
		require.Equal(t, policy.Allowed, take(t, s, c).Verdict)
	})
}
