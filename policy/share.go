package policy

import "unique"

// Share returns one of so many equal shares of the limit, for processes that count
// each by themselves while their Store is away: the number, the burst and the length of
// a queue are divided, and rounded down, so that all shares together never admit
// more than the limit. Name, window and lease stay as they are.
//
//	PerMinute(100).Share(3)                        // 33 per minute
//	TokenBucket(10, time.Second).WithBurst(100).Share(4)  // 2 per second, burst 25
//
// It is false if there is no such share: of a [Quota], whose count no process knows
// alone, of a share that rounds to nothing, and of less than one share.
func (l Limit) Share(of int) (Limit, bool) {
	if of < 1 || !l.valid() || l.algorithm == AlgorithmQuota {
		return Limit{}, false
	}
	n := int64(of)
	l.n, l.burst = l.n/n, l.burst/n
	if l.n < 1 || l.burst < 1 {
		return Limit{}, false
	}
	d := l.also()
	if d.n, d.burst = d.n/n, d.burst/n; l.reduced { // these are the whole's
		l.reduced = l.n < d.n || l.burst < d.burst
	}
	if d.queue /= n; d.queue == 0 {
		d.wait = 0
	}
	l.details = unique.Make(d)
	if l = l.checkDrain(); !l.valid() {
		return Limit{}, false
	}
	return l, true
}
