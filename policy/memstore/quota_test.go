package memstore_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
)

// Quotas never make room for rates, nor for each other: rates do, and new keys
// share a state when there are none left.
func TestQuotasMakeNoRoom(t *testing.T) {
	t.Parallel()
	const room = 4
	s, c := newStore(t, room)
	quota, rate := policy.Quota(1000, policy.Monthly), policy.PerHour(1000)
	for i := range 2 {
		take(t, s, charge(quota, fmt.Sprint("customer", i), 1)) // of all the least of its share
		take(t, s, charge(rate, fmt.Sprint("client", i), 500))
	}
	for i := range 2 {
		require.False(t, take(t, s, charge(quota, fmt.Sprint("late", i), 1)).Results[0].Overflow, "a rate goes")
	}
	for i := range 10 {
		require.True(t, take(t, s, charge(rate, fmt.Sprint("flood", i), 1)).Results[0].Overflow)
		require.True(t, take(t, s, charge(quota, fmt.Sprint("flood", i), 1)).Results[0].Overflow)
	}
	for _, key := range []string{"customer0", "customer1", "late0", "late1"} {
		require.Equal(t, int64(1), used(t, s, charge(quota, key, 0)), key)
	}
	require.ErrorContains(t, s.SetUsage(t.Context(), charge(quota, "import", 0), 5), "no room")
	require.NoError(t, s.SetUsage(t.Context(), charge(quota, "import", 0), 0), "nothing needs no room")

	// The counts of a month are kept through the next, and then make room.
	_, end := quota.Period().Bounds(c.Now())
	_, after := quota.Period().Bounds(end)
	c.advance(after.Sub(c.Now()) - time.Microsecond)
	usage, err := s.Usage(t.Context(), []policy.Charge{charge(quota, "customer0", 0)})
	require.NoError(t, err)
	require.Equal(t, int64(1), usage[0].Previous)
	require.True(t, take(t, s, charge(rate, "flood", 1)).Results[0].Overflow)
	c.advance(time.Microsecond)
	require.False(t, take(t, s, charge(rate, "calm", 1)).Results[0].Overflow)
}

// A key of an unlimited quota has a state whatever it takes first.
func TestUnlimitedHasRoom(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t, 0)
	unlimited := charge(policy.Quota(policy.Unlimited, policy.Daily), "k", math.MaxInt64)
	require.Equal(t, policy.Allowed, take(t, s, unlimited, charge(policy.PerHour(5), "k", 1)).Verdict)
	require.Equal(t, int64(1<<50), used(t, s, unlimited))
}
