package policy_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
)

func TestChargeID(t *testing.T) {
	t.Parallel()
	base := policy.Charge{Limit: policy.PerMinute(60), Scope: policy.NewScope("api", "per_key"), Key: "a", Units: 1}
	seen := map[uint64]string{}
	for name, change := range map[string]func(*policy.Charge){
		"base":              func(*policy.Charge) {},
		"another rule":      func(c *policy.Charge) { c.Scope = policy.NewScope("api", "per_ip") },
		"another limiter":   func(c *policy.Charge) { c.Scope = policy.NewScope("web", "per_key") },
		"names cut apart":   func(c *policy.Charge) { c.Scope = policy.NewScope("apip", "er_key") },
		"no scope":          func(c *policy.Charge) { c.Scope = policy.Scope{} },
		"another window":    func(c *policy.Charge) { c.Limit = policy.PerHour(60) },
		"another algorithm": func(c *policy.Charge) { c.Limit = policy.FixedWindow(60, time.Minute) },
		"another name":      func(c *policy.Charge) { c.Limit = c.Limit.Named("soft") },
	} {
		c := base
		change(&c)
		id := c.ID()
		require.NotZero(t, id)
		require.Less(t, id, uint64(1)<<52, "52 bits")
		require.Empty(t, seen[id], name)
		seen[id] = name
	}
	same := base
	same.Limit, same.Units, same.Key = policy.PerMinute(1), 9, "b"
	require.Equal(t, base.ID(), same.ID(), "numbers and keys are no part of it")
	require.Equal(t, "api/per_key", base.Scope.String())
}

func TestChargeSameState(t *testing.T) {
	t.Parallel()
	charge := func(key, partition string) *policy.Charge {
		return &policy.Charge{Limit: policy.PerMinute(1), Key: key, Partition: partition}
	}
	require.Equal(t, "a", charge("a", "").Place())
	require.Equal(t, "p", charge("a", "p").Place())
	require.True(t, charge("a", "").SameState(charge("a", "a")))
	require.False(t, charge("a", "").SameState(charge("b", "")))
	require.False(t, charge("a", "p").SameState(charge("a", "q")))
	require.False(t, charge("a", "p").SameState(charge("p", "a")))
	hour := charge("a", "")
	hour.Limit = policy.PerHour(1)
	require.False(t, charge("a", "").SameState(hour))
}

func TestCheckCharges(t *testing.T) {
	t.Parallel()
	good := policy.Charge{Limit: policy.PerMinute(1), Scope: policy.NewScope("api", "per_key"), Units: 0}
	require.NoError(t, policy.CheckCharges(nil))
	many := make([]policy.Charge, policy.MaxCharges)
	for i := range many {
		many[i] = good
	}
	require.NoError(t, policy.CheckCharges(many))
	require.ErrorContains(t, policy.CheckCharges(append(many, good)), "65 charges in one request: write at most 64")
	bad := good
	bad.Units = -1
	require.EqualError(t, policy.CheckCharges([]policy.Charge{good, bad}),
		"policy: charge 1 (api/per_key): negative units: give units back with Settle")
	bad = good
	bad.Limit = policy.Limit{}
	require.ErrorContains(t, policy.CheckCharges([]policy.Charge{bad}), "charge 0 (api/per_key): policy: zero Limit")
}

func TestTicket(t *testing.T) {
	t.Parallel()
	a, b := policy.NewTicket(), policy.NewTicket()
	require.NotEqual(t, a, b)
	require.Len(t, a.String(), 32)
	require.Equal(t, "0102"+"0000000000000000000000000000", policy.Ticket{1, 2}.String())
}

// The tickets that follow one another differ, and keep the random half.
func TestTicketNext(t *testing.T) {
	seen := map[policy.Ticket]bool{}
	first := policy.NewTicket()
	for ticket := first; len(seen) < 1000; ticket = ticket.Next() {
		require.False(t, seen[ticket])
		require.Equal(t, first[:8], ticket[:8])
		seen[ticket] = true
	}
}
