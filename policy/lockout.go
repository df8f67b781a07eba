package policy

import (
	"strconv"
	"strings"
	"time"
	"unique"
)

// Bounds of a [Lockout].
const (
	// MaxFailures is the largest number of failures that a lock-out waits for.
	MaxFailures = 10_000

	// MaxBlocks is the most blocks that it has.
	MaxBlocks = 8
)

// Lockout blocks a key after n failures within a window: for the first of the
// blocks, after further n failures for the second, and so on; the last one is
// repeated. Each is at least as long as the one before. Without blocks they are an
// hour, 4 hours and a day.
//
//	admitted at t  <=>  not blocked at t, and tries + units <= n
//
// A charge is a try that may turn out to be a failure, and Settle says so: its
// total is how many failures there were. That is always to be told, also where it
// is what was taken.
//
//   - Units that are taken hold the door: of any number of tries at once, n are
//     admitted. A total of zero gives them back. As many as are held and have
//     failed fill the window, and what is beyond is refused without RetryAfter: it
//     may be admitted as soon as somebody's try turns out well. What is never
//     settled, as by a process that died, counts as a try until the window ends,
//     and starts no block.
//   - A charge of no units takes nothing, and is refused while the key is blocked,
//     unlike that of other limits. Its failures are added by Settle, so that there
//     may be as many more as are in flight.
//
// A failure counts when it is told, whatever the receipt, unless the key is blocked
// then: failures while blocked change nothing. The n-th starts the block, which ends
// the window. A block is up to a 32nd longer than said, by the instant at which it
// starts, so that not all end together.
//
// A window begins with the first try or failure in it, and ends a window later. So n
// failures within it always block, and nobody is blocked for fewer; around its end
// there can be up to 2n - 2 within one window's time that do not block. Who keeps to
// fewer than n a window is never blocked, by this or by an exact log.
//
// Past blocks are forgotten one by one: each time that the longest block, or the
// window if that is longer, has passed since the last one's end. Then the next block
// is one shorter. Changed blocks apply to the next block, not to one that holds.
func Lockout(n int64, window time.Duration, blocks ...time.Duration) Limit {
	if len(blocks) == 0 {
		blocks = []time.Duration{time.Hour, 4 * time.Hour, 24 * time.Hour}
	}
	l := newLimit(AlgorithmLockout, n, window)
	if n > MaxFailures {
		l.fail("number %d: a lock-out waits for %d failures at most", n, MaxFailures)
	}
	l.setBlocks(blocks)
	return l
}

func (l *Limit) setBlocks(lengths []time.Duration) {
	if len(lengths) > MaxBlocks {
		l.fail("%d blocks: write %d at most, the last of which is repeated", len(lengths), MaxBlocks)
		return
	}
	b := blocks{n: len(lengths)}
	for i, length := range lengths {
		switch {
		case length < MinWindow || length > MaxWindow || length%time.Microsecond != 0:
			l.fail("block %v: write one from %v to %v, in whole microseconds", length, MinWindow, MaxWindow)
		case i > 0 && length < lengths[i-1]:
			l.fail("block %v after one of %v: write blocks that grow, or stay", length, lengths[i-1])
		}
		b.lengths[i] = int64(length / time.Microsecond)
	}
	d := l.also()
	d.blocks = unique.Make(b)
	l.details = unique.Make(d)
}

// Blocks returns the blocks of a [Lockout], as written, and nil for other limits.
func (l Limit) Blocks() []time.Duration {
	if l.algorithm != AlgorithmLockout || l.invalid {
		return nil
	}
	b := l.blocks()
	lengths := make([]time.Duration, b.n)
	for i := range lengths {
		lengths[i] = time.Duration(b.lengths[i]) * time.Microsecond
	}
	return lengths
}

// blocks are how long a lock-out blocks, in microseconds.
type blocks struct {
	n       int
	lengths [MaxBlocks]int64
}

func (l *Limit) blocks() blocks { return l.also().blocks.Value() }

// memory is how long it takes until a past block is forgotten.
func (b *blocks) memory(window int64) int64 { return max(window, b.lengths[b.n-1]) }

// Of a lock-out's state, A is the number of tries in the window, failures among
// them, plus that of the failures times aFailure. B is the end of the window or, if
// A is zero, that of a block. C is the level, the index of the next block, plus the
// second in which the last block ended times aSecond: from then on it fades.
const (
	aFailure = 1 << 20
	aSecond  = 16
)

func (l *Limit) advanceLockout(s *State, now int64) {
	if now >= s.B {
		s.A, s.B = 0, 0
	}
}

// blocked tells whether an advanced state is that of a blocked key.
func (l *Limit) blocked(s *State) bool {
	return l.algorithm == AlgorithmLockout && s.A == 0 && s.B > s.At
}

func (l *Limit) usedLockout(s *State) int64 {
	if l.blocked(s) {
		return l.n
	}
	return s.A % aFailure
}

func (l *Limit) addLockout(s *State, units int64) {
	if s.A == 0 {
		s.B = s.At + l.window
	}
	s.A += units
	s.Until = l.drainedAtLockout(s)
}

func (l *Limit) settleLockout(s *State, receipt Receipt, taken, failed int64) bool {
	held := taken > 0 && s.A > 0 && receipt.At >= s.B-l.window
	if l.blocked(s) || failed == 0 && !held {
		return false
	}
	tries, failures := s.A%aFailure, s.A/aFailure
	if held {
		tries = max(failures, tries-taken)
	}
	failed = min(failed, l.n)
	tries, failures = tries+failed, failures+failed
	switch {
	case failed > 0 && failures >= l.n:
		l.block(s)
	case tries == 0:
		s.A, s.B = 0, 0
	default:
		if s.A == 0 {
			s.B = s.At + l.window
		}
		s.A = tries + failures*aFailure
	}
	s.Until = l.drainedAtLockout(s)
	return true
}

// block starts the next block.
func (l *Limit) block(s *State) {
	b := l.blocks()
	memory := b.memory(l.window)
	level, fades := s.C%aSecond, s.C/aSecond*1_000_000
	if s.At > fades {
		level = max(0, level-(s.At-fades)/memory)
	}
	last := int64(b.n - 1)
	length := b.lengths[min(level, last)]
	// A hash of the instant, from 0 to 1023. Products stay below 2^53.
	longer := s.At % (1 << 20) * 40503 / 64 % 1024
	s.A, s.B, s.C = 0, s.At+length+length/32*longer/1024, 0
	if next := min(level+1, last); next > 0 {
		s.C = next + (s.B+999_999)/1_000_000*aSecond
	}
}

func (l *Limit) drainedAtLockout(s *State) int64 {
	until := max(s.At, s.B)
	if level := s.C % aSecond; level > 0 {
		b := l.blocks()
		until = max(until, s.C/aSecond*1_000_000+level*b.memory(l.window))
	}
	return min(until, maxInstant)
}

func (l *Limit) describeLockout() string {
	s := strconv.FormatInt(l.n, 10) + " failures per " + longDuration(l.Window())
	if l.n == 1 {
		s = strings.Replace(s, "failures", "failure", 1)
	}
	if l.invalid {
		return s
	}
	for i, length := range l.Blocks() {
		if i == 0 {
			s += ", then blocked for "
		} else {
			s += ", "
		}
		s += shortDuration(length)
	}
	return s
}
