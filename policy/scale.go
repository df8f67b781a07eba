package policy

import (
	"context"
	"fmt"
	"time"
)

// Whole is the factor of a limit that is not reduced. Factors are in millionths:
// 500_000 is one half.
const Whole int64 = 1_000_000

// Scaled returns the limit at so many millionths of its numbers: n, and the burst
// of a token bucket, each rounded down, but never to less than 1. It is for a
// service that is short of capacity for a while.
//
//	PerMinute(60).Scaled(500_000)    // 30 per minute, reduced from 60
//
// A bucket's n stays large enough for the whole burst to refill within forty years.
//
// It is the same limit with other numbers, so that it finds the usage there is,
// and gives back Whole's when it is scaled back. Quotas, which were bought,
// slots and lock-outs stay as they are. To scale a scaled limit replaces its factor; to scale it
// to [Whole] ends it. A factor below 1 or above Whole makes the limit invalid.
//
// What can never be admitted is judged without the scale. A charge of more units
// than a scaled limit holds, but no more than the whole one does, waits until
// nothing is used any more, is then admitted, and charged in full: Used exceeds
// Capacity after it. A bucket and a sliding window take the longer to get over
// it, so that their rate holds on average; a log and a fixed window admit that
// much in one window.
func (l Limit) Scaled(millionths int64) Limit {
	switch {
	case millionths < 1 || millionths > Whole:
		l.fail("scaled to %d millionths: write 1 to %d", millionths, Whole)
		return l
	case !l.scales():
		return l
	}
	l = l.Whole()
	if millionths == Whole {
		return l
	}
	n, burst := scale(l.n, millionths), scale(l.burst, millionths)
	if l.algorithm == AlgorithmTokenBucket { // it may be charged all that the whole limit holds
		slowest := mulDivUp(l.burst, l.window, int64(maxDrain/time.Microsecond))
		n = max(n, min(slowest, l.n))
	}
	l.reduced = n < l.n || burst < l.burst
	l.n, l.burst = n, burst
	return l
}

// Whole returns the limit without its scale.
func (l Limit) Whole() Limit {
	if l.reduced {
		d := l.also()
		l.n, l.burst, l.reduced = d.n, d.burst, false
	}
	return l
}

// IsReduced tells whether the limit has smaller numbers than its Whole.
func (l Limit) IsReduced() bool { return l.reduced }

// Largest returns the most units that one charge can ever be admitted with: the
// Capacity of the Whole.
func (l Limit) Largest() int64 { return l.largest() }

func (l *Limit) largest() int64 {
	if l.reduced {
		return l.details.Value().burst
	}
	return l.burst
}

// scales tells whether the limit is of a kind that can be scaled.
func (l *Limit) scales() bool {
	return l.algorithm != 0 && l.algorithm != AlgorithmQuota && l.algorithm != AlgorithmConcurrency && l.algorithm != AlgorithmLockout
}

func scale(n, millionths int64) int64 {
	quo, _ := mulDiv(n, millionths, Whole)
	return max(1, quo)
}

// A Scaler keeps factors that processes share, by name: many a [Store] is one. It
// is safe for concurrent use.
type Scaler interface {
	// SetScale sets the factor of a name, for as long as it says. An error means
	// that nothing is known.
	SetScale(ctx context.Context, name string, f Factor) error

	// WatchScale calls tell with the factor of a name, once soon and then when it
	// has changed or its end has, within a second of that; it may call more often.
	// It calls again only after tell has returned, and tells nothing of a store
	// that is away. It ends with stop, which waits for a tell under way, or when
	// the store is closed.
	WatchScale(name string, tell func(Factor)) (stop func(), err error)
}

// A Factor is what limits are scaled by for a while.
type Factor struct {
	// Millionths are the factor: [Whole] where there is none.
	Millionths int64

	// Left is how much longer it holds. It says nothing of a Whole one.
	Left time.Duration
}

// MaxScale is the longest that a factor can be set for.
const MaxScale = MaxWindow

// CheckFactor returns an error unless a [Scaler] can set the factor under the name.
func CheckFactor(name string, f Factor) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("policy: scale: %w", err)
	}
	switch {
	case f.Millionths < 1 || f.Millionths > Whole:
		return fmt.Errorf("policy: scale %q: factor of %d millionths: write 1 to %d", name, f.Millionths, Whole)
	case f.Millionths < Whole && (f.Left < time.Millisecond || f.Left > MaxScale):
		return fmt.Errorf("policy: scale %q: for %v: write %v to %v", name, f.Left, time.Millisecond, MaxScale)
	}
	return nil
}
