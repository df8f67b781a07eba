package main

import (
	"bytes"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestRun measures every kind of row for a moment: the table is whole, and
// each contender answers as the row says, or run fails.
func TestRun(t *testing.T) {
	t.Parallel()
	requireRedis(t)
	var out bytes.Buffer
	if err := run(t.Context(), &out, false, "keys=1000/goroutines=64", 1, 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	table := out.String()[strings.Index(out.String(), "| |"):]
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if want := 2 + 4*4; len(lines) != want { // 1, 3, 6 limits and refused, for 2 layers on 2 backends
		t.Errorf("%d lines, want %d:\n%s", len(lines), want, table)
	}
	for _, line := range lines {
		if n := strings.Count(line, "|"); n != 15 {
			t.Errorf("%d bars, want 15: %s", n, line)
		}
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	if got, want := len(rows(false)), 2*2*(1+2+2+2+1); got != want {
		t.Errorf("%d rows, want %d", got, want)
	}
	if got, want := len(rows(true)), 2*2*3*3*3*2; got != want {
		t.Errorf("%d rows in full, want %d", got, want)
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	if got := median([]float64{9, 1, 3}); got != 3 {
		t.Errorf("median of 9, 1, 3: %v", got)
	}
	if got := median([]float64{9, 1, 3, 5}); got != 4 {
		t.Errorf("median of 9, 1, 3, 5: %v", got)
	}
}

// BenchmarkDecision measures the rows of the table one by one. For figures to
// compare, run the program: it lets the contenders take turns.
func BenchmarkDecision(b *testing.B) {
	requireRedis(b)
	server, err := startRedis()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.stop)
	for _, r := range rows(false) {
		b.Run(r.String(), func(b *testing.B) {
			stint, peer, err := contenders(server, r)
			if err != nil {
				b.Fatal(err)
			}
			for _, c := range []*contender{stint, peer} {
				b.Run(c.name, func(b *testing.B) { c.benchmark(b, r) })
				if err := c.close(); err != nil {
					b.Error(err)
				}
			}
		})
	}
}

func (c *contender) benchmark(b *testing.B, r row) {
	b.ReportAllocs()
	if r.goroutines == 1 {
		decide, walk := c.decider(), newWalk(r, 0)
		for b.Loop() {
			if err := r.asExpected(decide(walk.next())); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	var goroutine atomic.Int64
	b.SetParallelism((r.goroutines + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		decide, walk := c.decider(), newWalk(r, int(goroutine.Add(1)))
		for pb.Next() {
			if err := r.asExpected(decide(walk.next())); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
