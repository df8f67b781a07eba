package redisstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

func TestModelQuick(t *testing.T) {
	srv := redistest.Start(t)
	now := time.UnixMicro(1763767567123456)
	store := redisstore.Options{Now: func() time.Time { return now }}.New(srv.Client(t))
	defer store.Close()
	high := now
	rng := rand.New(rand.NewPCG(1, 2))
	type id struct {
		key string
		id  uint64
	}
	states := map[id]policy.State{}
	type lim struct {
		alg  int
		n, b int64
		w    time.Duration
		cr   bool
	}
	mk := func(l lim) policy.Limit {
		var p policy.Limit
		switch l.alg {
		case 0:
			p = policy.TokenBucket(l.n, l.w).WithBurst(l.b)
		case 1:
			p = policy.SlidingWindow(l.n, l.w)
		case 2:
			p = policy.SlidingLog(l.n, l.w)
		default:
			p = policy.FixedWindow(l.n, l.w)
		}
		if l.cr {
			p = p.CountRefused()
		}
		return p
	}
	lims := []lim{{0, 10, 20, time.Second, false}, {0, 200000, 500000, 24 * time.Hour, true}, {1, 7, 0, time.Second, false}, {1, 200000, 0, 24 * time.Hour, true}, {2, 5, 0, time.Second, true}, {2, 50, 0, time.Minute, false}, {3, 9, 0, time.Minute, true},
		{0, 1_000_000_000_000, 1_000_000_000_000, 366 * 24 * time.Hour, false}, {1, 1_000_000_000_000, 0, 366 * 24 * time.Hour, false}}
	type taken struct {
		ch policy.Charge
		r  policy.Receipt
	}
	var log []taken
	scope := policy.NewScope("a", "b")
	for op := range 40000 {
		if rng.IntN(4) == 0 {
			steps := []time.Duration{1, 7 * time.Microsecond, 300 * time.Microsecond, 40 * time.Millisecond, time.Second, 17 * time.Second, 5 * time.Hour, -300 * time.Millisecond}
			now = now.Add(steps[rng.IntN(len(steps))] * time.Duration(1+rng.IntN(3))).Truncate(time.Microsecond)
			if now.After(high) {
				high = now
			}
			if now.Before(high.Add(-900 * time.Millisecond)) {
				now = high
			}
		}
		if rng.IntN(6) == 0 && len(log) > 0 {
			i := rng.IntN(len(log))
			x := log[i]
			log = append(log[:i], log[i+1:]...)
			total := int64(0)
			if rng.IntN(2) == 0 {
				total = rng.Int64N(x.ch.Units*2 + 2)
			}
			require.NoError(t, store.Settle(context.Background(), policy.NewTicket(), []policy.Settlement{{Charge: x.ch, Receipt: x.r, Total: total}}))
			k := id{x.ch.Key, x.ch.ID()}
			if op < 7 {
				fmt.Println(op, "settle", now.UnixMicro(), x, total)
			}
			states[k], _ = x.ch.Limit.Settle(states[k], now.UnixMicro(), x.r, x.ch.Units, total)
			continue
		}
		n := 1 + rng.IntN(4)
		var charges []policy.Charge
		for range n {
			l := lims[rng.IntN(len(lims))]
			if rng.IntN(3) == 0 {
				l.n = min(l.n*2, policy.MaxUnits)
			}
			u := int64(rng.IntN(4))
			if l.n > 1000 && rng.IntN(2) == 0 {
				u = rng.Int64N(l.n)
			}
			charges = append(charges, policy.Charge{Limit: mk(l), Scope: scope, Key: fmt.Sprint("k", rng.IntN(2)), Units: u})
		}
		// no dups
		seen := map[id]bool{}
		out := charges[:0]
		for _, c := range charges {
			if !seen[id{c.Key, c.ID()}] {
				seen[id{c.Key, c.ID()}] = true
				out = append(out, c)
			}
		}
		charges = out
		if op < 7 {
			fmt.Println(op, now.UnixMicro(), charges)
		}
		var d policy.Decision
		tk := policy.NewTicket()
		require.NoError(t, store.Take(context.Background(), tk, charges, &d))
		verdict := policy.Allowed
		for _, c := range charges {
			if c.Limit.Peek(states[id{c.Key, c.ID()}], now.UnixMicro(), c.Units).Verdict != policy.Allowed {
				verdict = policy.Refused
			}
		}
		require.Equal(t, verdict, d.Verdict, "op %d", op)
		for i, c := range charges {
			k := id{c.Key, c.ID()}
			before := fmt.Sprintf("%+v", states[k])
			ns, r := c.Limit.Take(states[k], now.UnixMicro(), c.Units)
			if verdict == policy.Allowed || r.Verdict == policy.Refused {
				states[k] = ns
			} else {
				r = c.Limit.Peek(states[k], now.UnixMicro(), c.Units)
			}
			require.Equal(t, r, d.Results[i], "op %d charge %d %v units %d now %d key %s state %s", op, i, c.Limit, c.Units, now.UnixMicro(), c.Key, before)
			if verdict == policy.Allowed && rng.IntN(2) == 0 {
				log = append(log, taken{c, d.Results[i].Receipt})
				if len(log) > 20 {
					log = log[1:]
				}
			}
		}
	}
}
