package redisstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// BenchmarkTake decides requests on a private Redis: limits on one key of
// keys, from so many goroutines. Peers are beside it in _examples/bench.
func BenchmarkTake(b *testing.B) {
	srv := redistest.Start(b)
	for _, limits := range []int{1, 3, 6} {
		for _, keys := range []int{1, 1000, 100_000} {
			for _, goroutines := range []int{1, 64, 512} {
				for _, refused := range []bool{false, true} {
					name := fmt.Sprintf("limits=%d/keys=%d/goroutines=%d/refused=%v", limits, keys, goroutines, refused)
					b.Run(name, func(b *testing.B) { benchmarkTake(b, srv, limits, keys, goroutines, refused) })
				}
			}
		}
	}
}

func benchmarkTake(b *testing.B, srv *redistest.Server, limits, keys, goroutines int, refused bool) {
	store := redisstore.Options{Namespace: b.Name()}.New(srv.Client(b))
	defer store.Close()
	n := int64(1_000_000_000)
	if refused {
		n = 1
	}
	windows := []time.Duration{time.Minute, time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour, 366 * 24 * time.Hour}
	all := make([]policy.Limit, limits)
	for i := range all {
		all[i] = policy.SlidingWindow(n, windows[i])
	}
	scope := policy.NewScope("bench", "per_key")
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprint("key", i)
	}
	b.ReportAllocs()
	b.SetParallelism(max(1, goroutines/runtime.GOMAXPROCS(0)))
	body := func(pb interface{ Next() bool }) {
		charges := make([]policy.Charge, limits)
		var d policy.Decision
		for pb.Next() {
			key := names[rand.IntN(keys)]
			for i := range charges {
				charges[i] = policy.Charge{Limit: all[i], Scope: scope, Key: key, Units: 1}
			}
			if err := store.Take(context.Background(), policy.NewTicket(), charges, &d); err != nil {
				b.Error(err)
				return
			}
		}
	}
	if goroutines == 1 {
		body(looper{b})
		return
	}
	b.RunParallel(func(pb *testing.PB) { body(pb) })
}

type looper struct{ b *testing.B }

func (l looper) Next() bool { return l.b.Loop() }

// BenchmarkSlots sets requests with a slot beside those without: 64 goroutines on
// so many keys. Ratios are within one run:
//
//	rate          a rate alone
//	rate+slot     and a slot, which is kept
//	rate, settle  a rate, and a settle of it that gives it back
//	both, settle  a rate and a slot, and a settle that gives both back
//	both, leave   a rate and a slot, and a settle of the slot alone
func BenchmarkSlots(b *testing.B) {
	srv := redistest.Start(b)
	rate := policy.SlidingWindow(1_000_000_000, time.Hour)
	slot := policy.Concurrency(policy.MaxSlots).WithLease(time.Hour)
	for _, keys := range []int{1, 1000, 100_000} {
		for _, bc := range []struct {
			name   string
			limits []policy.Limit
			settle int // so many of the last limits
		}{
			{"rate", []policy.Limit{rate}, 0},
			{"rate+slot", []policy.Limit{rate, slot}, 0},
			{"rate,settle", []policy.Limit{rate}, 1},
			{"both,settle", []policy.Limit{rate, slot}, 2},
			{"both,leave", []policy.Limit{rate, slot}, 1},
		} {
			if keys == 1 && bc.name == "rate+slot" {
				continue // soon full
			}
			b.Run(fmt.Sprintf("keys=%d/%s", keys, bc.name), func(b *testing.B) {
				store := redisstore.Options{Namespace: policy.NewTicket().String(), Timeout: 5 * time.Second}.New(srv.Client(b))
				defer store.Close()
				names := make([]string, keys)
				for i := range names {
					names[i] = fmt.Sprint("key", i)
				}
				b.SetParallelism(64 / runtime.GOMAXPROCS(0))
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					charges := make([]policy.Charge, len(bc.limits))
					settlements := make([]policy.Settlement, bc.settle)
					var d policy.Decision
					for pb.Next() {
						key := names[rand.IntN(keys)]
						for i, l := range bc.limits {
							charges[i] = policy.Charge{Limit: l, Scope: scope, Key: key, Units: 1}
						}
						ticket := policy.NewTicket()
						err := store.Take(context.Background(), ticket, charges, &d)
						if err == nil && bc.settle > 0 {
							for i := range settlements {
								j := len(charges) - bc.settle + i
								settlements[i] = policy.Settlement{Charge: charges[j], Receipt: d.Results[j].Receipt}
							}
							err = store.Settle(context.Background(), ticket, settlements)
						}
						if err != nil || d.Verdict != policy.Allowed {
							b.Error(d.Verdict, err)
							return
						}
					}
				})
			})
		}
	}
}

// BenchmarkRenew renews ten thousand leases of one process at a time, on so many
// keys. It reports the time per renewal.
func BenchmarkRenew(b *testing.B) {
	srv := redistest.Start(b)
	for _, keys := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			store := redisstore.Options{Namespace: policy.NewTicket().String(), Timeout: 5 * time.Second}.New(srv.Client(b))
			defer store.Close()
			renewals := make([]policy.Renewal, policy.MaxSlots)
			for i := range renewals {
				slot := charge(policy.Concurrency(policy.MaxSlots), fmt.Sprint("key", i%keys))
				renewals[i] = policy.Renewal{Ticket: policy.NewTicket(), Charge: slot}
			}
			var wg sync.WaitGroup
			for g := range 64 {
				wg.Go(func() {
					var d policy.Decision
					for i := g; i < len(renewals); i += 64 {
						if err := store.Take(context.Background(), renewals[i].Ticket, []policy.Charge{renewals[i].Charge}, &d); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			for b.Loop() {
				if err := store.Renew(context.Background(), renewals); err != nil {
					b.Fatal(err)
				}
			}
			for i := range renewals {
				if renewals[i].Result.Verdict != policy.Allowed {
					b.Fatal(i, renewals[i].Result.Verdict)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(renewals)), "µs/renewal")
		})
	}
}
