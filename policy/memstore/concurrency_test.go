package memstore_test

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// Whatever the interleaving, a limit admits exactly its number.
func TestConcurrentTakes(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	var admitted [3]atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := range 300 {
				which := i % len(admitted)
				key := strconv.Itoa(which)
				d := take(t, s, charge(policy.PerHour(500), key, 1), charge(policy.PerDay(int64(100*(which+1))), key, 1))
				if d.Verdict == policy.Allowed {
					admitted[which].Add(1)
				}
			}
		})
	}
	group.Wait()
	for i := range admitted {
		require.Equal(t, int64(100*(i+1)), admitted[i].Load())
	}
}

// Requests over the same keys in any order neither block each other for good
// nor lose a unit, while states are evicted, settled, reset and forgotten.
func TestConcurrentEverything(t *testing.T) {
	t.Parallel()
	for _, maxStates := range []int{8, 2000, 0} {
		t.Run(strconv.Itoa(maxStates), func(t *testing.T) {
			t.Parallel()
			s := memstore.New(memstore.Options{MaxStates: maxStates})
			var group sync.WaitGroup
			for range 4 {
				group.Go(func() { hammer(t, s) })
			}
			group.Wait()
			require.NoError(t, s.Close())
		})
	}
}

func hammer(t *testing.T, s *memstore.Store) {
	var d policy.Decision
	ctx := t.Context()
	for range 1500 {
		charges := make([]policy.Charge, rand.IntN(6))
		for j := range charges {
			charges[j] = charge(policy.PerHour(5), strconv.Itoa(rand.IntN(50)), rand.Int64N(4))
			if rand.IntN(2) == 0 {
				charges[j].Limit = policy.SlidingLog(5, 1000*1000*10).CountRefused()
			}
		}
		ticket := policy.NewTicket()
		err := s.Take(ctx, ticket, charges, &d)
		if err == nil && d.Verdict == policy.Allowed {
			settlements := make([]policy.Settlement, len(charges))
			for j := range charges {
				settlements[j] = policy.Settlement{Charge: charges[j], Receipt: d.Results[j].Receipt, Total: rand.Int64N(4)}
			}
			err = s.Settle(ctx, ticket, settlements)
		}
		if err == nil {
			err = s.Peek(ctx, charges, &d)
		}
		if err == nil && rand.IntN(10) == 0 {
			err = s.Reset(ctx, charges)
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// Close while others take: they are answered or told, and nothing panics.
func TestCloseWhileTaking(t *testing.T) {
	t.Parallel()
	for range 50 {
		s := memstore.New(memstore.Options{})
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				var d policy.Decision
				for i := range 50 {
					err := s.Take(t.Context(), policy.Ticket{}, []policy.Charge{charge(policy.PerHour(5), strconv.Itoa(i), 1), charge(policy.PerHour(5), "x", 0)}, &d)
					if err != nil {
						if err != policy.ErrClosed {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		group.Go(func() { s.Close() })
		group.Wait()
	}
}
