package storetest

import (
	"math"
	"time"

	"github.com/stint-go/stint/policy"
)

// A source makes the choices of a random run. Smaller numbers make simpler runs,
// for one that shrinks.
type source interface {
	// pick returns a number from 0 to n-1.
	pick(what string, n int64) int64
}

// A world is what the operations of one random run are about: few keys and few
// limits, so that they meet.
type world struct {
	source
	limits []policy.Limit
	keys   []string
	places []string // of the keys, by index
	scopes []policy.Scope
	steady bool // numbers do not change and the clock does not go back
	crowd  bool // a few slots, that many want
}

// newWorld chooses a world. Where partitions are decided apart, it is either one
// partition or a steady world: a refused Take is undone there, which is the same
// as if it had not been only as long as clock and numbers go on as they were.
func newWorld(src source, partitioned bool) *world {
	w := &world{source: src}
	w.crowd = w.pick("crowd", 4) == 3
	for range 1 + w.pick("keys", w.most(4)) {
		w.keys = append(w.keys, w.oddKey(len(w.keys)))
	}
	const own, one, two = 0, 1, 2
	mode := w.pick("partitions", 3)
	w.steady = partitioned && mode != one && len(w.keys) > 1
	for i, key := range w.keys {
		switch mode {
		case own:
			w.places = append(w.places, []string{"", key}[i%2])
		case one:
			w.places = append(w.places, "tenant")
		case two:
			w.places = append(w.places, []string{"{tenant", "tenant}"}[i%2])
		}
	}
	w.scopes = []policy.Scope{policy.NewScope("random", "a"), policy.NewScope("random", "b"), {}}[:1+w.pick("scopes", w.most(3))]
	for range 1 + w.pick("limits", w.most(6)) {
		a := policy.Algorithm(1 + w.pick("algorithm", int64(policy.AlgorithmLockout)))
		if w.crowd && len(w.limits) == 0 {
			a = policy.AlgorithmConcurrency
		}
		var l policy.Limit
		if a == policy.AlgorithmQuota {
			l = w.quota(w.period())
		} else {
			l = w.limit(a, w.window())
		}
		w.limits = append(w.limits, l.Named(string(rune('a'+len(w.limits)))))
	}
	return w
}

// most bounds what there is of something: in a crowd, by two.
func (w *world) most(n int64) int64 {
	if w.crowd {
		return min(n, 2)
	}
	return n
}

func (w *world) oddKey(i int) string {
	keys := []string{
		"k", "k2", "k:3", "{k}", "{k", "k}", "\x00", "\r\n", "%7Bk%7D", "日本", "\xff\xfe", "k\x00k", "tenant", "{}", "1:k", "", " ",
	}
	// Each key has a part of the list to itself, and so they differ.
	const each = 4
	return keys[int64(i)*each+w.pick("key", each)]
}

func (w *world) window() time.Duration {
	windows := []time.Duration{
		time.Second, time.Minute, time.Hour, 24 * time.Hour, time.Millisecond, 7 * time.Millisecond, 90 * time.Second,
		1_000_003 * time.Microsecond, 86_399_999_999 * time.Microsecond, 30 * 24 * time.Hour, policy.MaxWindow,
		policy.MaxWindow - time.Microsecond,
	}
	return windows[w.pick("window", int64(len(windows)))]
}

// slots picks the numbers of a limit of slots: few, so that there is a queue.
func (w *world) slots() policy.Limit {
	leases := []time.Duration{time.Second, 10 * time.Second, policy.MinLease, 1_000_003 * time.Microsecond, policy.MaxLease}
	l := policy.Concurrency(1 + w.pick("slots", 3)).WithLease(leases[w.pick("lease", int64(len(leases)))])
	if length := w.pick("queue", 4); length > 0 {
		l = l.WithQueue(length, time.Minute)
	}
	return l
}

// number picks one from 1 to largest, small ones as often as huge ones.
func (w *world) number(largest int64) int64 {
	scales := []int64{3, 20, 100, 1000, 100_000, 10_000_000, 1_000_000_000, policy.MaxUnits}
	scale := min(scales[w.pick("scale", int64(len(scales)))], largest)
	if w.pick("number is round", 4) == 3 {
		return scale
	}
	return 1 + w.pick("number", scale)
}

// limit picks numbers for an algorithm and a window.
func (w *world) limit(a policy.Algorithm, window time.Duration) policy.Limit {
	var l policy.Limit
	switch a {
	case policy.AlgorithmTokenBucket:
		l = policy.TokenBucket(w.number(policy.MaxUnits), window)
		if w.pick("burst", 2) == 1 {
			if b := l.WithBurst(w.number(policy.MaxUnits)); b.Validate() == nil {
				l = b
			}
		}
	case policy.AlgorithmSlidingWindow:
		l = policy.SlidingWindow(w.number(policy.MaxUnits), window)
	case policy.AlgorithmSlidingLog:
		l = policy.SlidingLog(w.number(policy.MaxLog), window)
	case policy.AlgorithmConcurrency:
		return w.slots()
	case policy.AlgorithmLockout:
		return w.lockout(window)
	default:
		l = policy.FixedWindow(w.number(policy.MaxUnits), window)
	}
	if w.pick("count refused", 3) == 2 {
		l = l.CountRefused()
	}
	if w.pick("scaled", 3) == 2 {
		l = l.Scaled(w.factor())
	}
	return l
}

// factor picks what a limit is scaled by, in millionths.
func (w *world) factor() int64 {
	factors := []int64{policy.Whole / 2, policy.Whole, 1, policy.Whole - 1, policy.Whole / 3, policy.Whole / 10}
	return factors[w.pick("factor", int64(len(factors)))]
}

// change gives a limit other numbers.
func (w *world) change() {
	i := w.pick("limit", int64(len(w.limits)))
	l := &w.limits[i]
	if scaled := l.Scaled(w.factor()); scaled != *l && w.pick("scale it", 2) == 1 {
		*l = scaled
		return
	}
	if l.Algorithm() == policy.AlgorithmQuota {
		*l = w.quota(l.Period()).Named(l.Name())
		return
	}
	*l = w.limit(l.Algorithm(), l.Window()).Named(l.Name())
}

// charges picks 1 to 6 charges, with units around what the oracle has room for,
// and one queue at most.
func (w *world) charges(o *oracle, now int64) []policy.Charge {
	var charges []policy.Charge
	for range 1 + w.pick("charges", 6) {
		k := w.pick("key", int64(len(w.keys)))
		c := policy.Charge{
			Limit:     w.limits[w.pick("limit", int64(len(w.limits)))],
			Scope:     w.scopes[w.pick("scope", int64(len(w.scopes)))],
			Key:       w.keys[k],
			Partition: w.places[k],
		}
		c.Units = w.units(c.Limit, o.peek(now, []policy.Charge{c}).Results[0].Remaining)
		if charges = append(charges, c); policy.CheckCharges(charges) != nil {
			charges = charges[:len(charges)-1]
		}
	}
	return charges
}

func (w *world) units(l policy.Limit, room int64) int64 {
	if l.N() == policy.Unlimited {
		return w.someUnits()
	}
	if l.IsReduced() && w.pick("beyond the scale", 4) == 3 {
		return l.Capacity() + w.pick("up to the whole", l.Largest()-l.Capacity()+1)
	}
	switch w.pick("units", 24) {
	default:
		return 1 + w.pick("few", min(3, l.Capacity()))
	case 8, 9, 10, 11, 12:
		return 1 + w.pick("some", l.Capacity())
	case 13, 14, 15, 16:
		return 1 + w.pick("a part", max(1, l.Capacity()/8))
	case 17, 18, 19:
		return room
	case 20:
		return room + 1
	case 21:
		return []int64{l.Capacity(), l.Largest()}[w.pick("whole", 2)]
	case 22:
		return 0
	case 23:
		return []int64{l.Largest() + 1, policy.MaxUnits + 1, 1 << 53, math.MaxInt64}[w.pick("too many", 4)]
	}
}

// total picks what a charge of units should have taken.
func (w *world) total(c *policy.Charge) int64 {
	if c.Limit.N() == policy.Unlimited {
		return w.someUnits()
	}
	units := min(c.Units, policy.MaxUnits) // of slots they may be any number
	switch w.pick("total", 12) {
	default:
		return 0
	case 4, 5, 6:
		return w.pick("less", units+1)
	case 7:
		return units
	case 8, 9, 10:
		return units + 1 + w.pick("more", c.Limit.Capacity())
	case 11:
		return []int64{policy.MaxUnits, 1 << 50, 1<<53 + 1, math.MaxInt64}[w.pick("far more", 4)]
	}
}

// step picks how far the clock moves on: anywhere, or to an instant at which
// something changes, a microsecond more or less. In a crowd it mostly moves
// within leases.
func (w *world) step(now int64, last *policy.Decision, o *oracle) int64 {
	var d int64
	ends := o.leases(now)
	switch way := w.pick("way", 8); {
	case len(ends) == 0 || way < 2, way < 6 && !w.crowd:
		d = w.leap(now, last)
	default:
		d = ends[w.pick("whose lease", int64(len(ends)))] - now
		if way >= 4 {
			d += w.pick("beside", 3) - 1
		} else {
			d = 1 + w.pick("before it ends", d)
		}
	}
	if d < 0 || now+d >= endOfTime {
		return 1
	}
	return d
}

func (w *world) leap(now int64, last *policy.Decision) (d int64) {
	window, end := span(w.limits[w.pick("limit", int64(len(w.limits)))], now)
	beside := func(d int64) int64 { return d + w.pick("beside", 3) - 1 }
	var r policy.Result
	if n := len(last.Results); n > 0 {
		r = last.Results[w.pick("result", int64(n))]
	}
	switch w.pick("step", 12) {
	case 0:
		d = 1 + w.pick("microseconds", 10)
	case 1:
		d = w.pick("a millisecond", 1000)
	case 2:
		d = w.pick("seconds", 3_000_000)
	case 3, 4:
		d = w.pick("within a window", window)
	case 5:
		d = beside(end - now)
	case 6, 7:
		d = beside(r.RetryAfter.Microseconds())
	case 8:
		d = beside(r.NextAfter.Microseconds())
	case 9:
		d = beside(r.ResetAfter.Microseconds())
	case 10:
		d = w.pick("windows", 3*window)
	case 11:
		d = w.pick("days", int64(10*24*time.Hour/time.Microsecond))
	}
	return d
}

// endOfTime is where random clocks stop, before stored instants are at an end
// for any window.
var endOfTime = time.Date(2085, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
