package memstore_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
)

// A model does with the pure transitions, one charge after another, what the
// store does.
type model map[string]policy.State

func place(c *policy.Charge) string {
	return strings.Join([]string{c.Key, c.Place(), c.Limit.Name(), c.Limit.Algorithm().String()}, "\x00\x00")
}

func (m model) take(charges []policy.Charge, now int64, taking bool) (policy.Verdict, []policy.Result) {
	sums, firsts := map[string]int64{}, map[string]int{}
	for i := range charges {
		p := place(&charges[i])
		if sums[p] += charges[i].Units; slices.IndexFunc(charges, func(c policy.Charge) bool { return place(&c) == p }) == i {
			firsts[p] = i
		}
	}
	verdict, results := policy.Allowed, make([]policy.Result, len(charges))
	for p, i := range firsts {
		if charges[i].Limit.Peek(m[p], now, sums[p]).Verdict != policy.Allowed {
			verdict = policy.Refused
		}
	}
	for i := range charges {
		p := place(&charges[i])
		first := firsts[p]
		l := charges[first].Limit
		switch {
		case first != i:
			results[i] = results[first]
			continue
		case taking && (verdict == policy.Allowed || l.Peek(m[p], now, sums[p]).Verdict == policy.Refused):
			m[p], results[i] = l.Take(m[p], now, sums[p])
		default:
			results[i] = l.Peek(m[p], now, sums[p])
		}
	}
	return verdict, results
}

func TestStoreEqualsModel(t *testing.T) {
	t.Parallel()
	limits := []policy.Limit{
		policy.PerSecond(5), policy.PerSecond(7), policy.PerMinute(20).CountRefused(), policy.TokenBucket(3, time.Second).WithBurst(9),
		policy.TokenBucket(1, time.Second), policy.FixedWindow(6, 2*time.Second), policy.SlidingLog(4, time.Second), policy.SlidingLog(8, time.Minute).CountRefused(),
	}
	places := []policy.Charge{{Key: "a"}, {Key: "b"}, {Key: "a", Partition: "b"}, {Key: ""}, {Key: strings.Repeat("long", 50)}, {Key: "b", Partition: "b"}}
	drawCharge := func(t *rapid.T) policy.Charge {
		c := rapid.SampledFrom(places).Draw(t, "place")
		c.Limit = rapid.SampledFrom(limits).Draw(t, "limit")
		c.Units = rapid.Int64Range(0, 7).Draw(t, "units")
		return c
	}
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		s, c := newStore(outer, 0)
		m := model{}
		var taken []policy.Settlement
		for range rapid.IntRange(1, 40).Draw(t, "ops") {
			c.advance(time.Duration(rapid.Int64Range(-100_000, 1_500_000).Draw(t, "µs")) * time.Microsecond)
			now := c.Now().UnixMicro()
			charges := rapid.SliceOfN(rapid.Custom(drawCharge), 1, 5).Draw(t, "charges")
			var d policy.Decision
			switch op := rapid.IntRange(0, 9).Draw(t, "op"); {
			case op == 0:
				require.NoError(t, s.Reset(outer.Context(), charges))
				for i := range charges {
					delete(m, place(&charges[i]))
				}
				taken = nil
			case op <= 2:
				require.NoError(t, s.Peek(outer.Context(), charges, &d))
				verdict, results := m.take(charges, now, false)
				require.Equal(t, verdict, d.Verdict)
				require.Equal(t, results, d.Results)
			case op <= 4 && len(taken) > 0:
				settlement := taken[0]
				taken = taken[1:]
				settlement.Total = rapid.Int64Range(0, 9).Draw(t, "total")
				require.NoError(t, s.Settle(outer.Context(), policy.NewTicket(), []policy.Settlement{settlement}))
				p := place(&settlement.Charge)
				m[p], _ = settlement.Charge.Limit.Settle(m[p], now, settlement.Receipt, settlement.Charge.Units, settlement.Total)
			default:
				require.NoError(t, s.Take(outer.Context(), policy.NewTicket(), charges, &d))
				verdict, results := m.take(charges, now, true)
				require.Equal(t, verdict, d.Verdict)
				require.Equal(t, results, d.Results)
				require.Equal(t, now, d.Now.UnixMicro())
				for i := range charges {
					if verdict == policy.Allowed {
						taken = append(taken, policy.Settlement{Charge: charges[i], Receipt: results[i].Receipt})
					}
				}
			}
		}
	})
}
