package memstore_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// A repeated decision allocates nothing, allowed or refused, taken or peeked.
func TestRepeatedTakeAllocatesNothing(t *testing.T) {
	limits := []policy.Limit{policy.PerSecond(1e9), policy.TokenBucket(1e9, time.Minute), policy.FixedWindow(1e9, time.Hour)}
	for i := range 13 {
		limits = append(limits, policy.PerDay(1e9).Named("day"+strconv.Itoa(i)))
	}
	request := func(n int, key func(int) string) (charges []policy.Charge) {
		for i, l := range limits[:n] {
			charges = append(charges, charge(l, key(i), 1))
		}
		return charges
	}
	one := func(int) string { return "an API key of some length" }
	each := func(i int) string { return "key " + strconv.Itoa(i) }
	for name, charges := range map[string][]policy.Charge{
		"one limit": request(1, one), "three limits": request(3, one), "sixteen limits": request(16, one),
		"three keys": request(3, each), "sixteen keys": request(16, each),
		"refused":         {charge(policy.FixedWindow(1, 300*24*time.Hour), "a", 1)},
		"refused jointly": append(request(3, each), charge(policy.FixedWindow(1, 300*24*time.Hour), "a", 1)),
		"penalised":       {charge(policy.FixedWindow(1, 300*24*time.Hour).CountRefused(), "a", 1)},
	} {
		t.Run(fmt.Sprint(name), func(t *testing.T) {
			s := memstore.New(memstore.Options{})
			ctx := t.Context()
			var d policy.Decision
			take := func() {
				if err := s.Take(ctx, policy.Ticket{}, charges, &d); err != nil {
					t.Error(err)
				}
			}
			take()
			require.Equal(t, policy.Allowed, d.Verdict)
			require.Zero(t, testing.AllocsPerRun(200, take), "take")
			require.Zero(t, testing.AllocsPerRun(200, func() {
				if err := s.Peek(ctx, charges, &d); err != nil {
					t.Error(err)
				}
			}), "peek")
		})
	}
}
