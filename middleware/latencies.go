package middleware

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// latencies count durations in buckets, eight to every doubling, from a
// microsecond to a quarter of an hour: so that a quantile is right to a tenth. To
// add one is one atomic addition, in different places for different durations.
type latencies [lastOctave - firstOctave][perOctave]atomic.Uint32

const (
	firstOctave = 10 // 2^10 ns are a microsecond
	lastOctave  = 40
	perOctave   = 8
)

func (l *latencies) add(d time.Duration) { l.addMany(d, 1) }

func (l *latencies) addMany(d time.Duration, n int64) {
	ns := min(uint64(max(d, 1<<firstOctave)), 1<<lastOctave-1)
	octave := bits.Len64(ns) - 1
	l[octave-firstOctave][ns>>(octave-3)&(perOctave-1)].Add(uint32(n))
}

func (l *latencies) count() (n int64) {
	for i := range l {
		for j := range l[i] {
			n += int64(l[i][j].Load())
		}
	}
	return n
}

// empty returns a quantile, in nanoseconds, and begins anew. It is 0 of nothing.
func (l *latencies) empty(quantile float64) float64 {
	var counts [len(l) * perOctave]int64
	total := int64(0)
	for i := range counts {
		counts[i] = int64(l[i/perOctave][i%perOctave].Swap(0))
		total += counts[i]
	}
	rest := quantile * float64(total)
	for i, n := range counts {
		if float64(n) < rest || n == 0 {
			rest -= float64(n)
			continue
		}
		width := math.Exp2(float64(i/perOctave + firstOctave - 3))
		return width * (float64(perOctave+i%perOctave) + rest/float64(n))
	}
	return 0
}
