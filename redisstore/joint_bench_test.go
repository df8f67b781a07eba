package redisstore_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// BenchmarkJoint sets a joint take of a rate and a slot beside that of the rate
// alone, as callers feel it: the time until so many goroutines have decided up to
// 2,048 requests of as many keys. The two take turns, 32 times and more, and what was
// taken is given back between. It reports the median times of a request in microseconds, and
// the median ratio over the rounds.
func BenchmarkJoint(b *testing.B) {
	for _, goroutines := range []int{1, 8, 64} {
		b.Run(fmt.Sprint("goroutines=", goroutines), func(b *testing.B) { benchmarkJoint(b, goroutines) })
	}
}

func benchmarkJoint(b *testing.B, goroutines int) {
	requests := min(2048, 256*goroutines)
	store := redisstore.Options{Timeout: 5 * time.Second}.New(redistest.Start(b).Client(b))
	defer store.Close()
	rate, slot := policy.SlidingWindow(1_000_000_000, time.Hour), policy.Concurrency(10).WithLease(time.Hour)
	cases := [2][]policy.Limit{{rate}, {rate, slot}}
	round := func(limits []policy.Limit) (micros float64) {
		tickets, charges, decisions := make([]policy.Ticket, requests), make([][]policy.Charge, requests), make([]policy.Decision, requests)
		for i := range requests {
			tickets[i] = policy.NewTicket()
			for _, l := range limits {
				charges[i] = append(charges[i], policy.Charge{Limit: l, Scope: policy.NewScope("bench", "rule"), Key: fmt.Sprint(len(limits), "key", i), Units: 1})
			}
		}
		each := func(do func(i int) error) {
			var wg sync.WaitGroup
			for g := range goroutines {
				wg.Go(func() {
					for i := g; i < requests; i += goroutines {
						if err := do(i); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		}
		runtime.GC() // of what the benchmark itself made
		start := time.Now()
		each(func(i int) error { return store.Take(context.Background(), tickets[i], charges[i], &decisions[i]) })
		micros = float64(time.Since(start).Nanoseconds()) / 1000 / float64(requests)
		each(func(i int) error {
			var back []policy.Settlement
			for j, c := range charges[i] {
				back = append(back, policy.Settlement{Charge: c, Receipt: decisions[i].Results[j].Receipt})
			}
			return store.Settle(context.Background(), tickets[i], back)
		})
		return micros
	}
	var micros [2][]float64
	var ratios []float64
	for b.Loop() {
		for range 32 { // a median of few rounds says little
			first := len(ratios) % 2 // who comes first, which matters
			for _, i := range []int{first, 1 - first} {
				micros[i] = append(micros[i], round(cases[i]))
			}
			ratios = append(ratios, micros[1][len(ratios)]/micros[0][len(ratios)])
		}
	}
	median := func(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(micros[0]), "rate-µs")
	b.ReportMetric(median(micros[1]), "both-µs")
	b.ReportMetric(median(ratios), "ratio")
}
