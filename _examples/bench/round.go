package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A duel is the outcome of a row.
type duel struct {
	stint, peer score
	peerName    string
	ratio       float64 // stint's decisions a second over the peer's
}

// A score is what a contender did in a round, or the median over rounds.
type score struct {
	perSecond float64
	allocs    float64 // per decision, of the whole process
}

// String returns three cells of the table.
func (s score) String() string {
	return fmt.Sprintf("%s | %s | %.1f", grouped(s.perSecond), grouped(1e9/s.perSecond), s.allocs)
}

// compare lets stint and its peer take turns.
func compare(ctx context.Context, server *redisServer, r row, rounds int, length time.Duration) (duel, error) {
	stint, peer, err := contenders(server, r)
	if err != nil {
		return duel{}, err
	}
	var a, b []score
	var ratios []float64
	for range rounds {
		var x, y score
		if x, err = stint.round(ctx, r, length); err != nil {
			break
		}
		if y, err = peer.round(ctx, r, length); err != nil {
			break
		}
		a, b, ratios = append(a, x), append(b, y), append(ratios, x.perSecond/y.perSecond)
	}
	if err := errors.Join(err, stint.close(), peer.close()); err != nil {
		return duel{}, err
	}
	return duel{stint: medianScore(a), peer: medianScore(b), peerName: peer.name, ratio: median(ratios)}, nil
}

// round runs the contender for a while on the row's goroutines.
func (c *contender) round(ctx context.Context, r row, length time.Duration) (score, error) {
	if err := ctx.Err(); err != nil {
		return score{}, err
	}
	var (
		stop   atomic.Bool
		wg     sync.WaitGroup
		counts = make([]int, r.goroutines)
		errs   = make([]error, r.goroutines)
		before runtime.MemStats
		after  runtime.MemStats
	)
	deciders := make([]func(int) (bool, error), r.goroutines)
	for g := range deciders {
		deciders[g] = c.decider()
	}
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	timer := time.AfterFunc(length, func() { stop.Store(true) })
	defer timer.Stop()
	for g, decide := range deciders {
		wg.Go(func() {
			walk, n := newWalk(r, g), 0
			for !stop.Load() {
				if errs[g] = r.asExpected(decide(walk.next())); errs[g] != nil {
					break
				}
				n++
			}
			counts[g] = n
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	runtime.ReadMemStats(&after)

	if err := errors.Join(errs...); err != nil {
		return score{}, fmt.Errorf("%s: %w", c.name, err)
	}
	total := 0.0
	for _, n := range counts {
		total += float64(n)
	}
	return score{
		perSecond: total / elapsed.Seconds(),
		allocs:    float64(after.Mallocs-before.Mallocs) / total,
	}, nil
}

// A walk visits all keys of a row in a scattered order, each goroutine from a
// place of its own.
type walk struct{ at, keys int }

func newWalk(r row, goroutine int) walk { return walk{at: goroutine * 104_729 % r.keys, keys: r.keys} }

func (w *walk) next() int {
	const step = 7_919 // a prime, and no divisor of the number of keys
	w.at = (w.at + step) % w.keys
	return w.at
}

func medianScore(scores []score) score {
	var perSecond, allocs []float64
	for _, s := range scores {
		perSecond, allocs = append(perSecond, s.perSecond), append(allocs, s.allocs)
	}
	return score{perSecond: median(perSecond), allocs: median(allocs)}
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

// grouped writes 1234567 as "1,234,567".
func grouped(f float64) string {
	s := strconv.FormatInt(int64(f+0.5), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
