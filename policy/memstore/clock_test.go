package memstore_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// noon is when clocks begin.
var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// A clock is set by hand.
type clock struct{ micros atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.micros.Store(noon.UnixMicro())
	return c
}

func (c *clock) Now() time.Time          { return time.UnixMicro(c.micros.Load()) }
func (c *clock) advance(d time.Duration) { c.micros.Add(d.Microseconds()) }

func newStore(t *testing.T, maxStates int) (*memstore.Store, *clock) {
	t.Helper()
	c := newClock()
	s := memstore.New(memstore.Options{MaxStates: maxStates, Now: c.Now})
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, c
}

func take(t *testing.T, s policy.Store, charges ...policy.Charge) policy.Decision {
	t.Helper()
	var d policy.Decision
	require.NoError(t, s.Take(t.Context(), policy.NewTicket(), charges, &d))
	return d
}

func peek(t *testing.T, s policy.Store, charges ...policy.Charge) policy.Decision {
	t.Helper()
	var d policy.Decision
	require.NoError(t, s.Peek(t.Context(), charges, &d))
	return d
}

func settle(t *testing.T, s policy.Store, c policy.Charge, r policy.Result, total int64) {
	t.Helper()
	require.NoError(t, s.Settle(t.Context(), policy.NewTicket(), []policy.Settlement{{Charge: c, Receipt: r.Receipt, Total: total}}))
}

func charge(l policy.Limit, key string, units int64) policy.Charge {
	return policy.Charge{Limit: l, Key: key, Units: units}
}

func used(t *testing.T, s policy.Store, c policy.Charge) int64 {
	t.Helper()
	c.Units = 0
	return peek(t, s, c).Results[0].Used
}
