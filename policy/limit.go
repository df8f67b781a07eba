package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unique"
)

// Bounds of a limit's numbers. They keep every sum that a decision needs below
// 2^53, where the integers of a Lua script, which are doubles, are still exact.
const (
	// MaxUnits is the largest number and the largest burst of a limit.
	MaxUnits = 1_000_000_000_000

	// MaxLog is the largest number of a [SlidingLog].
	MaxLog = 10_000

	// MaxSlots is the largest number of a [Concurrency], and the longest queue.
	MaxSlots = 10_000

	// MinLease and MaxLease bound the lease of a slot, and MaxLease the wait for
	// one.
	MinLease = 10 * time.Millisecond
	MaxLease = time.Hour

	// MinWindow and MaxWindow bound the window of a limit.
	MinWindow = time.Millisecond
	MaxWindow = 366 * 24 * time.Hour

	// maxDrain bounds how long a full bucket may take to refill. One that counts
	// refusals may hold twice as much, and has to refill before maxInstant.
	maxDrain = 40 * MaxWindow
)

// A Limit is how much is allowed: an algorithm and its numbers.
//
// Limits are made by constructors ([TokenBucket], [SlidingWindow],
// [SlidingLog], [FixedWindow], [Quota], [Concurrency], [Lockout] and the shorthands
// [PerSecond] to [PerDay]) and refined by methods that return a changed copy. A
// Limit is an immutable, comparable value, safe for concurrent use. The zero Limit is invalid, and
// so is one whose numbers are out of bounds: [Limit.Validate] says why.
type Limit struct {
	n         int64
	burst     int64                  // token bucket only: its size
	window    int64                  // microseconds; 0 for slots and quotas
	id        uint64                 // hash of name, algorithm, and window or period
	details   unique.Handle[details] // what few decisions need: limits are copied a lot
	algorithm Algorithm
	refused   bool // CountRefused
	reduced   bool // Scaled: details have the whole numbers
	invalid   bool // details say why
}

// details are what a limit has besides.
type details struct {
	name    string
	problem string // why the limit is invalid
	n       int64  // whole, of limits that can be scaled
	burst   int64  // whole, of limits that can be scaled
	lease   int64  // slots only: microseconds
	queue   int64  // slots only: how many may wait
	wait    int64  // slots only: how long, in microseconds
	period  Period // quotas only
	blocks  unique.Handle[blocks]
}

// also returns the limit's details, of which the zero Limit has none.
func (l *Limit) also() details {
	if l.details == (unique.Handle[details]{}) {
		return details{}
	}
	return l.details.Value()
}

// An Algorithm tells how a [Limit] counts.
type Algorithm uint8

// The algorithms. The zero Algorithm is that of the zero, invalid Limit.
const (
	AlgorithmTokenBucket Algorithm = iota + 1
	AlgorithmSlidingWindow
	AlgorithmSlidingLog
	AlgorithmFixedWindow
	AlgorithmConcurrency
	AlgorithmQuota
	AlgorithmLockout
)

// String returns the algorithm's name as people write it: "sliding window".
func (a Algorithm) String() string {
	switch a {
	case AlgorithmTokenBucket:
		return "token bucket"
	case AlgorithmSlidingWindow:
		return "sliding window"
	case AlgorithmSlidingLog:
		return "sliding log"
	case AlgorithmFixedWindow:
		return "fixed window"
	case AlgorithmConcurrency:
		return "concurrency"
	case AlgorithmQuota:
		return "quota"
	case AlgorithmLockout:
		return "lock-out"
	}
	return "Algorithm(" + strconv.Itoa(int(a)) + ")"
}

// PerSecond allows n in any second, counted by a [SlidingWindow].
func PerSecond(n int64) Limit { return SlidingWindow(n, time.Second) }

// PerMinute allows n in any minute, counted by a [SlidingWindow].
func PerMinute(n int64) Limit { return SlidingWindow(n, time.Minute) }

// PerHour allows n in any hour, counted by a [SlidingWindow].
func PerHour(n int64) Limit { return SlidingWindow(n, time.Hour) }

// PerDay allows n in any 24 hours, counted by a [SlidingWindow].
func PerDay(n int64) Limit { return SlidingWindow(n, 24*time.Hour) }

func newLimit(a Algorithm, n int64, window time.Duration) Limit {
	l := Limit{algorithm: a, n: n, burst: n, window: int64(window / time.Microsecond), details: unique.Make(details{n: n, burst: n})}
	switch {
	case n < 1 || n > MaxUnits:
		l.fail("number %d: write one from 1 to %d", n, int64(MaxUnits))
	case a == AlgorithmSlidingLog && n > MaxLog:
		l.fail("number %d: a sliding log holds at most %d; write SlidingWindow, whose state is two counts", n, MaxLog)
	case window < MinWindow || window > MaxWindow:
		l.fail("window %v: write one from %v to %v, with a number to match", window, MinWindow, MaxWindow)
	case window%time.Microsecond != 0:
		l.fail("window %v: write whole microseconds", window)
	}
	l.name(defaultNames[a] + "-" + shortDuration(window))
	return l.checkDrain()
}

var defaultNames = [...]string{
	AlgorithmTokenBucket:   "bucket",
	AlgorithmSlidingWindow: "window",
	AlgorithmSlidingLog:    "log",
	AlgorithmFixedWindow:   "fixed",
	AlgorithmLockout:       "lockout",
}

// Named returns the limit under another name. State is kept under the names of
// limiter, rule and limit, never under a limit's numbers: a limit whose numbers
// change keeps its usage, one whose name, algorithm, window or period changes
// starts afresh. The default name tells algorithm and window, as in "window-1m".
//
// A name is 1 to 64 letters, digits, and characters of "-_./".
func (l Limit) Named(name string) Limit {
	if err := CheckName(name); err != nil {
		l.fail("%v", err)
	}
	l.name(name)
	return l
}

// CountRefused returns the limit with its own refusals charged as well, up to
// twice its capacity, so that a client that goes on knocking stays out longer.
// Without it, which is the default, a refusal changes nothing.
func (l Limit) CountRefused() Limit {
	switch l.algorithm {
	case AlgorithmConcurrency:
		l.fail("it counts who is inside, and refusals never are: write no CountRefused")
	case AlgorithmLockout:
		l.fail("what it refuses changes nothing: write no CountRefused")
	}
	l.refused = true
	return l
}

// Validate returns nil if the limit can be used, and otherwise an error that
// names the number at fault and says what to write instead.
func (l Limit) Validate() error {
	if l.algorithm == 0 {
		return errors.New("policy: zero Limit: write one with a constructor, such as PerMinute(60)")
	}
	if l.invalid {
		return fmt.Errorf("policy: %s limit %q: %s", l.algorithm, l.Name(), l.also().problem)
	}
	return nil
}

func (l *Limit) valid() bool { return l.algorithm != 0 && !l.invalid }

// fail makes the limit invalid, for the first reason that there is.
func (l *Limit) fail(format string, args ...any) {
	if !l.invalid {
		d := l.also()
		d.problem = fmt.Sprintf(format, args...)
		l.invalid, l.details = true, unique.Make(d)
	}
}

// Algorithm returns how the limit counts.
func (l Limit) Algorithm() Algorithm { return l.algorithm }

// Name returns the limit's name, "window-1m" for PerMinute(60).
func (l Limit) Name() string { return l.also().name }

// N returns the documented number: 60 for PerMinute(60), whatever its burst.
func (l Limit) N() int64 { return l.n }

// Capacity returns the most that the limit can admit at one instant: the burst
// of a token bucket, the number of any other limit.
func (l Limit) Capacity() int64 { return l.burst }

// Window returns the time in which the number is allowed: a minute for
// PerMinute(60). It is 0 for a limit that knows no such time, as a quota, which
// has a [Period].
func (l Limit) Window() time.Duration { return time.Duration(l.window) * time.Microsecond }

// CountsRefused tells whether the limit charges its own refusals.
func (l Limit) CountsRefused() bool { return l.refused }

// ID identifies the limit's state among those of a scope: a hash of its name,
// algorithm, and window or period.
func (l Limit) ID() uint64 { return l.id }

// String returns the limit as a person writes it: "60 per minute",
// "200 per second, burst 400", "1 per 12 minutes, fixed window".
func (l Limit) String() string {
	if l.algorithm == 0 {
		return "no limit"
	}
	switch l.algorithm {
	case AlgorithmConcurrency:
		return l.describeConcurrency()
	case AlgorithmLockout:
		return l.describeLockout()
	}
	s := strconv.FormatInt(l.n, 10) + " per " + longDuration(l.Window())
	switch l.algorithm {
	case AlgorithmQuota:
		s = l.describeQuota()
	case AlgorithmSlidingWindow:
	case AlgorithmTokenBucket:
		s += ", burst " + strconv.FormatInt(l.burst, 10)
	default:
		s += ", " + l.algorithm.String()
	}
	if l.refused {
		s += ", refusals counted"
	}
	if l.reduced {
		s += ", reduced from " + strconv.FormatInt(l.Whole().n, 10)
	}
	return s
}

// CheckName returns an error if name cannot name a limiter, a rule or a limit.
// Names appear in header fields, metrics and stored keys, so they are 1 to 64
// letters, digits, and characters of "-_./".
func CheckName(name string) error {
	if len(name) == 0 || len(name) > 64 {
		return fmt.Errorf("name %.80q: write 1 to 64 letters, digits, or any of -_./", name)
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '_', c == '.', c == '/':
		default:
			return fmt.Errorf("name %q: write letters, digits, or any of -_./", name)
		}
	}
	return nil
}

// checkDrain refuses buckets that would take longer to refill than a stored
// instant can express.
func (l Limit) checkDrain() Limit {
	if !l.invalid {
		if full, _ := mulDiv(l.burst, l.window, l.n); full > int64(maxDrain/time.Microsecond) {
			l.fail("burst %d at %d per %s takes over forty years to refill: write a smaller burst",
				l.burst, l.n, longDuration(l.Window()))
		}
	}
	return l
}

// name names the limit, and identifies it anew.
func (l *Limit) name(name string) {
	d := l.also()
	d.name = name
	l.details = unique.Make(d)
	b := make([]byte, 0, 96)
	b = append(b, byte(l.algorithm))
	b = binary.BigEndian.AppendUint64(b, uint64(l.window))
	if l.algorithm == AlgorithmQuota {
		b = d.period.appendIdentity(b)
	}
	b = append(b, name...)
	l.id = hash64(b)
}

func hash64(b []byte) uint64 {
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}

// shortDuration writes 90s as "90s", a minute as "1m", a day as "1d".
func shortDuration(d time.Duration) string {
	for _, u := range durationUnits {
		if d >= u.d && d%u.d == 0 {
			return strconv.FormatInt(int64(d/u.d), 10) + u.short
		}
	}
	return d.String()
}

// longDuration writes a minute as "minute", 12 of them as "12 minutes".
func longDuration(d time.Duration) string {
	for _, u := range durationUnits {
		switch {
		case d == u.d && u.long != "":
			return u.long
		case d > u.d && d%u.d == 0 && u.long != "":
			return strconv.FormatInt(int64(d/u.d), 10) + " " + u.long + "s"
		}
	}
	return d.String()
}

var durationUnits = [...]struct {
	d     time.Duration
	short string
	long  string
}{
	{24 * time.Hour, "d", "day"},
	{time.Hour, "h", "hour"},
	{time.Minute, "m", "minute"},
	{time.Second, "s", "second"},
	{time.Millisecond, "ms", ""},
	{time.Microsecond, "us", ""},
}
