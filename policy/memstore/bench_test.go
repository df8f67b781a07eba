package memstore_test

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

func BenchmarkTake(b *testing.B) {
	windows := []time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour, 2 * time.Hour, 2 * time.Minute}
	for _, verdict := range []policy.Verdict{policy.Allowed, policy.Refused} {
		for _, keys := range []int{1, 1000, 100_000} {
			for _, limits := range []int{1, 3, 6} {
				requests := make([][]policy.Charge, keys)
				for k := range requests {
					for _, w := range windows[:limits] {
						c := policy.Charge{Limit: policy.SlidingWindow(1_000_000_000, w), Key: "key-" + strconv.Itoa(k), Units: 1}
						if verdict == policy.Refused {
							c.Limit, c.Units = policy.SlidingWindow(1, 300*24*time.Hour).Named(w.String()), 1
						}
						requests[k] = append(requests[k], c)
					}
				}
				name := fmt.Sprintf("%s/keys=%d/limits=%d", verdict, keys, limits)
				b.Run(name, func(b *testing.B) { benchmarkTake(b, requests, verdict) })
				b.Run(name+"/parallel", func(b *testing.B) { benchmarkParallel(b, requests, verdict) })
			}
		}
	}
}

func benchmarkTake(b *testing.B, requests [][]policy.Charge, want policy.Verdict) {
	store, ctx := memstore.New(memstore.Options{}), b.Context()
	var d policy.Decision
	for _, r := range requests {
		store.Take(ctx, policy.Ticket{}, r, &d)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		store.Take(ctx, policy.Ticket{}, requests[i], &d)
		if i++; i == len(requests) {
			i = 0
		}
	}
	if d.Verdict != want {
		b.Fatal(d.Verdict)
	}
}

func benchmarkParallel(b *testing.B, requests [][]policy.Charge, want policy.Verdict) {
	store, ctx := memstore.New(memstore.Options{}), b.Context()
	var first policy.Decision
	for _, r := range requests {
		store.Take(ctx, policy.Ticket{}, r, &first)
	}
	var start atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var d policy.Decision
		i := int(start.Add(7919)) % len(requests)
		for pb.Next() {
			store.Take(ctx, policy.Ticket{}, requests[i], &d)
			if i++; i == len(requests) {
				i = 0
			}
		}
		if d.Verdict != want && d.Verdict != policy.Unknown {
			b.Error(d.Verdict)
		}
	})
}

// BenchmarkNewKeys takes under a key never seen each time, in a full store.
func BenchmarkNewKeys(b *testing.B) {
	store, ctx := memstore.New(memstore.Options{MaxStates: 100_000}), b.Context()
	var d policy.Decision
	charges := []policy.Charge{{Limit: policy.PerHour(100), Units: 1}}
	next := func(i int) {
		charges[0].Key = strconv.Itoa(i)
		store.Take(ctx, policy.Ticket{}, charges, &d)
	}
	for i := range 100_000 {
		next(i)
	}
	b.ReportAllocs()
	i := 100_000
	for b.Loop() {
		next(i)
		i++
	}
}
