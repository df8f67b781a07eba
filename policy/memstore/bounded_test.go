package memstore_test

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

func TestShards(t *testing.T) {
	t.Parallel()
	for maxStates, want := range map[int]int{-1: 64, 0: 64, 1: 1, 2047: 1, 2048: 2, 5000: 4, 100_000: 64, 1 << 40: 64} {
		s := memstore.New(memstore.Options{MaxStates: maxStates})
		require.Equal(t, want, s.Shards(), "MaxStates %d", maxStates)
	}
}

// What has drained goes first, however much it had used.
func TestEvictsDrainedFirst(t *testing.T) {
	t.Parallel()
	s, c := newStore(t, 3)
	second, hour := policy.FixedWindow(10, time.Second), policy.FixedWindow(10, time.Hour)
	take(t, s, charge(hour, "a", 1))
	take(t, s, charge(second, "drained", 10))
	take(t, s, charge(hour, "b", 2))
	c.advance(time.Second)
	require.False(t, take(t, s, charge(hour, "c", 5)).Results[0].Overflow)
	require.Equal(t, []int64{1, 2, 5}, []int64{
		used(t, s, charge(hour, "a", 0)), used(t, s, charge(hour, "b", 0)), used(t, s, charge(hour, "c", 0)),
	})
}

// Then goes what has used the least of its share, and of two alike the one that
// has changed longest ago.
func TestEvictsLeastUsed(t *testing.T) {
	t.Parallel()
	s, c := newStore(t, 4)
	small, large := policy.PerHour(10), policy.PerHour(1000).Named("large")
	all := []policy.Charge{charge(small, "half", 5), charge(large, "third", 333), charge(small, "tenth", 1), charge(large, "tenth, later", 100)}
	left := func() (keys []string) {
		for _, ch := range all {
			if used(t, s, ch) > 0 {
				keys = append(keys, ch.Key)
			}
		}
		return keys
	}
	for _, ch := range all {
		take(t, s, ch)
		c.advance(time.Millisecond)
	}
	for i, want := range [][]string{{"half", "third", "tenth, later"}, {"half", "third"}, {"half"}, nil} {
		take(t, s, charge(small, "new "+strconv.Itoa(i), 9))
		require.Equal(t, want, left())
		own, shared := s.States()
		require.Equal(t, 4, own)
		require.Zero(t, shared)
	}
}

// A state that refuses stays, and new keys share a state until there is room.
func TestOverflow(t *testing.T) {
	t.Parallel()
	s, c := newStore(t, 8)
	l := policy.FixedWindow(2, time.Hour)
	key := func(i int) string { return "refused " + strconv.Itoa(i) }
	for i := range 8 {
		require.Equal(t, policy.Allowed, take(t, s, charge(l, key(i), 2)).Verdict)
		c.advance(time.Second)
	}
	first, second := charge(l, "new 1", 1), charge(l, "new 2", 1)
	require.True(t, peek(t, s, first).Results[0].Overflow)
	require.Zero(t, peek(t, s, first).Results[0].Receipt)
	d := take(t, s, first)
	require.Equal(t, policy.Allowed, d.Verdict)
	require.True(t, d.Results[0].Overflow)
	require.Equal(t, int64(1), take(t, s, charge(l, "new 0", 0)).Results[0].Remaining-1, "nothing asked needs no room")
	d = take(t, s, second)
	require.Equal(t, int64(2), d.Results[0].Used, "they share")
	require.Equal(t, peek(t, s, first), peek(t, s, charge(l, "new 3", 1)))
	d2 := take(t, s, charge(l, "new 3", 1))
	require.Equal(t, policy.Refused, d2.Verdict)
	require.True(t, d2.Results[0].Overflow)
	require.Equal(t, d2.RetryAfter(), time.Hour-8*time.Second)

	other := take(t, s, charge(policy.FixedWindow(2, time.Hour).Named("other"), "new 1", 1))
	require.Equal(t, int64(1), other.Results[0].Used, "each limit has a shared state of its own")
	settle(t, s, second, d.Results[0], 0)
	require.Equal(t, int64(1), peek(t, s, first).Results[0].Used, "it can be given back")

	for i := range 8 {
		d := take(t, s, charge(l, key(i), 1))
		require.Equal(t, policy.Refused, d.Verdict, "nobody got out")
		require.False(t, d.Results[0].Overflow)
	}
	own, shared := s.States()
	require.Equal(t, []int{8, 2}, []int{own, shared})

	// Two new keys in one request are two charges on one state.
	d = take(t, s, first, charge(l, "new 9", 1))
	require.Equal(t, policy.Refused, d.Verdict)
	require.Equal(t, d.Results[0], d.Results[1])

	require.NoError(t, s.Reset(t.Context(), []policy.Charge{charge(l, key(3), 0)}))
	d = take(t, s, first)
	require.False(t, d.Results[0].Overflow, "there is room again")
	require.Equal(t, int64(1), d.Results[0].Used)
	require.Equal(t, int64(2), used(t, s, charge(l, key(4), 0)))
}

// Room comes as soon as a state no longer refuses, by time, settling or new
// numbers.
func TestOverflowEnds(t *testing.T) {
	t.Parallel()
	l := policy.TokenBucket(4, 4*time.Hour)
	full := charge(l, "full", 4)
	for name, end := range map[string]func(t *testing.T, s *memstore.Store, c *clock, r policy.Result){
		"time": func(_ *testing.T, _ *memstore.Store, c *clock, _ policy.Result) { c.advance(time.Hour) },
		"settling": func(t *testing.T, s *memstore.Store, _ *clock, r policy.Result) {
			settle(t, s, full, r, 3)
		},
		"new numbers": func(t *testing.T, s *memstore.Store, _ *clock, _ policy.Result) {
			take(t, s, charge(policy.TokenBucket(5, 4*time.Hour), "full", 0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c := newStore(t, 1)
			r := take(t, s, full).Results[0]
			require.True(t, take(t, s, charge(l, "new", 1)).Results[0].Overflow)
			c.advance(time.Hour - time.Microsecond)
			c.advance(-time.Hour + time.Microsecond)
			require.True(t, take(t, s, charge(l, "new", 1)).Results[0].Overflow)
			end(t, s, c, r)
			require.False(t, peek(t, s, charge(l, "new", 1)).Results[0].Overflow)
			require.False(t, take(t, s, charge(l, "new", 1)).Results[0].Overflow)
		})
	}
}

// By its lowered numbers a state refuses, and so it stays.
func TestLoweredLimitIsNotEvicted(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 1)
	take(t, s, charge(policy.PerHour(100), "a", 50))
	require.Equal(t, policy.Refused, take(t, s, charge(policy.PerHour(10), "a", 1)).Verdict)
	require.True(t, take(t, s, charge(policy.PerHour(10), "b", 1)).Results[0].Overflow)

	s, _ = newStore(t, 1)
	none := charge(policy.PerDay(1), "a", 0)
	take(t, s, charge(policy.PerHour(100), "a", 50), none)
	require.Equal(t, policy.Refused, take(t, s, charge(policy.PerHour(10), "a", 1), none).Verdict)
	require.True(t, take(t, s, charge(policy.PerHour(10), "b", 1)).Results[0].Overflow, "refused jointly")
}

// Shared states that have drained are forgotten, too.
func TestForgetsDrainedOverflow(t *testing.T) {
	t.Parallel()
	s, c := newStore(t, 1)
	take(t, s, charge(policy.FixedWindow(1, 24*time.Hour), "refused", 1))
	for i := range 1000 {
		l := policy.FixedWindow(1, time.Second).Named("limit-" + strconv.Itoa(i))
		require.True(t, take(t, s, charge(l, "a", 1)).Results[0].Overflow)
		c.advance(100 * time.Millisecond) // ten alive at a time
		_, shared := s.States()
		require.LessOrEqual(t, shared, 64)
	}
}

// A request's own states make no room for each other.
func TestRequestKeepsItsStates(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 2)
	minute, hour, day := policy.PerMinute(100), policy.PerHour(100), policy.PerDay(100)
	take(t, s, charge(minute, "a", 1))
	take(t, s, charge(minute, "b", 9))
	d := take(t, s, charge(minute, "a", 1), charge(hour, "a", 1), charge(day, "a", 1))
	require.Equal(t, []bool{false, false, true}, []bool{d.Results[0].Overflow, d.Results[1].Overflow, d.Results[2].Overflow})
	require.Equal(t, int64(2), used(t, s, charge(minute, "a", 0)))
	require.Equal(t, int64(1), used(t, s, charge(hour, "a", 0)))
	require.Zero(t, used(t, s, charge(minute, "b", 0)))
}

// What has drained is forgotten long before the store is full.
func TestForgetsDrained(t *testing.T) {
	t.Parallel()
	s, c := newStore(t, 0)
	l := policy.FixedWindow(10, time.Second)
	for i := range 300_000 {
		take(t, s, charge(l, strconv.Itoa(i), 1))
		c.advance(100 * time.Microsecond) // 10,000 alive at a time
	}
	own, _ := s.States()
	require.Less(t, own, 30_000)
}

// Millions of random keys neither fill memory nor free anyone who is refused.
func TestFlood(t *testing.T) {
	s, c := newStore(t, 100_000)
	l := policy.FixedWindow(100, time.Hour)
	const refused = 1000
	for i := range refused {
		take(t, s, charge(l, strconv.Itoa(i), 100))
	}
	heap := heapInUse()
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			var d policy.Decision
			var key [12]byte
			random := rand.New(rand.NewPCG(rand.Uint64(), 1))
			charges := []policy.Charge{{Limit: l, Units: 1}}
			for i := range flood / 2 {
				binary.NativeEndian.PutUint64(key[:], random.Uint64())
				charges[0].Key = string(key[:])
				if err := s.Take(t.Context(), policy.Ticket{}, charges, &d); err != nil || d.Verdict != policy.Allowed {
					t.Error(err, d)
					return
				}
				if i%100 == 0 {
					c.advance(time.Microsecond)
				}
			}
		})
	}
	group.Wait()
	own, shared := s.States()
	require.LessOrEqual(t, own, 100_000)
	require.Greater(t, own, 80_000)
	require.Zero(t, shared)
	grown := heapInUse() - heap
	t.Logf("%d keys: %d states, heap grew by %d kB", flood, own, grown/1024)
	require.Less(t, grown, int64(100_000*400))
	for i := range refused {
		require.Equal(t, policy.Refused, peek(t, s, charge(l, strconv.Itoa(i), 1)).Verdict)
	}
}

// A flood of keys that are all refused shares states, cheaply.
func TestFloodOfRefused(t *testing.T) {
	s, c := newStore(t, 100_000)
	l := policy.FixedWindow(1, time.Hour)
	heap := heapInUse()
	began := time.Now()
	overflows := 0
	for i := range flood / 10 {
		d := take(t, s, charge(l, "key "+strconv.Itoa(i), 1))
		if d.Results[0].Overflow {
			overflows++
		}
		c.advance(time.Microsecond)
	}
	own, shared := s.States()
	require.LessOrEqual(t, own, 100_000)
	require.Equal(t, 1, shared)
	require.Greater(t, overflows, flood/10-110_000)
	require.Less(t, heapInUse()-heap, int64(100_000*400))
	t.Logf("%d keys in %v", flood/10, time.Since(began))
	require.Less(t, time.Since(began), time.Minute)
}

// Tickets are bounded as states are.
func TestTicketsAreBounded(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 10)
	c := charge(policy.PerHour(100), "a", 1)
	r := take(t, s, c).Results[0]
	for range 10_000 {
		settle(t, s, c, r, 1)
	}
	require.LessOrEqual(t, s.Tickets(), 2*1024)
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
