package redisstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
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
