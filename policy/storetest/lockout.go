package storetest

import (
	"math"
	"slices"
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 16, and what else a lock-out promises.
var lockoutCases = []Case{
	{Number: 5, Name: "a block ends to the microsecond", check: blockEnds},
	{Number: 9, Name: "a block is seen by who only looks", check: blockIsSeen},
	{Number: 11, Name: "past blocks are remembered, and forgotten", check: blocksGrow},
	{Number: 16, Name: "failures while blocked", check: failsWhileBlocked},
	{Number: 16, Name: "tries at once are no more than failures", check: triesAtOnce},
	{Number: 16, Name: "a failure is told, and counts then", check: failuresAreTold},
	{Number: 17, Name: "changed numbers of a lock-out", check: lockoutChanges},
}

// lockout picks the numbers of a lock-out: few failures, so that there are blocks.
func (w *world) lockout(window time.Duration) policy.Limit {
	lengths := []time.Duration{time.Second, time.Hour, policy.MinWindow, 1_000_003 * time.Microsecond, 24 * time.Hour, policy.MaxWindow}
	var blocks []time.Duration
	for range w.pick("blocks", 4) {
		blocks = append(blocks, lengths[w.pick("block", int64(len(lengths)))])
	}
	slices.Sort(blocks)
	return policy.Lockout(1+w.pick("failures", 5), window, blocks...)
}

// fail admits the charges, each of which is a failure then.
func (p *probe) fail(charges ...policy.Charge) {
	t := p.admit(charges...)
	totals := make([]int64, len(charges))
	for i := range totals {
		totals[i] = max(1, charges[i].Units)
	}
	p.settle(t, totals...)
}

// blocked wants the charge to be refused for failures, and returns for how long.
func (p *probe) blocked(c policy.Charge) time.Duration {
	r := p.refuse(c).Results[0]
	if p.err == nil && (!r.Blocked || r.Remaining != 0 || r.Used != r.Capacity) {
		p.failf("%s under key %.40q: %+v, want a block", c.Limit, c.Key, r)
	}
	return r.RetryAfter
}

// about wants a block to be at most a 32nd longer than said.
func (p *probe) about(want, got time.Duration) {
	if got < want || got > want+want/32 {
		p.failf("a block of %v, want %v or up to a 32nd more", got, want)
	}
}

func lockouts() []policy.Limit {
	return []policy.Limit{
		policy.Lockout(3, time.Minute, time.Hour, 4*time.Hour, 24*time.Hour),
		policy.Lockout(3, 24*time.Hour, time.Second, 2*time.Second).Named("short"),
		policy.Lockout(3, policy.MaxWindow, policy.MaxWindow).Named("long"),
	}
}

func blockEnds(p *probe) {
	for _, l := range lockouts() {
		c := charge(l, "k", 1)
		for i := range 3 {
			p.used(int64(i), c)
			p.fail(c)
		}
		wait := p.blocked(c)
		p.about(l.Blocks()[0], wait)
		p.advance(wait - time.Microsecond)
		p.blocked(c)
		p.advance(time.Microsecond)
		p.used(0, c)
		p.admit(with(3, c)...)
	}
}

func blockIsSeen(p *probe) {
	for _, l := range lockouts() {
		c, rate := charge(l, "k", 0), charge(policy.PerHour(10).Named("rate"), "k", 1)
		for range 3 {
			p.fail(c) // nothing is taken at the door
		}
		p.reset(rate)
		p.blocked(c)
		peek := p.peek(c)
		p.expect("Peek", peek, policy.Refused)
		p.same("Take", p.refuse(c), peek)
		t := p.refuse(c, rate)
		p.used(0, rate)
		if b := t.Binding(); p.err == nil && b != 0 {
			p.failf("result %d binds, want the block's", b)
		}
		p.expect("Take of too much", p.take(with(4, c)...), policy.Refused)
		other := c
		other.Key = "other"
		p.admit(other)
		p.reset(c) // an operator's
		p.admit(c)
		p.used(0, c)
	}
}

func blocksGrow(p *probe) {
	l := lockouts()[0]
	c := charge(l, "k", 1)
	lockOut := func(want time.Duration) {
		for range 3 {
			p.fail(c)
		}
		wait := p.blocked(c)
		p.about(want, wait)
		p.advance(wait)
	}
	const day = 24 * time.Hour
	lockOut(time.Hour)
	lockOut(4 * time.Hour)
	lockOut(day)
	lockOut(day)
	p.advance(day + time.Second)
	lockOut(4 * time.Hour)
	p.advance(day) // which counts from the second in which the block ended
	lockOut(day)
	p.advance(2*day + time.Second)
	lockOut(time.Hour)
	p.advance(day - time.Second)
	lockOut(4 * time.Hour)
	p.reset(c)
	lockOut(time.Hour)
	p.advance(365 * day)
	lockOut(time.Hour)
}

func failsWhileBlocked(p *probe) {
	for _, l := range lockouts() {
		c := charge(l, "k", 1)
		late, looks := p.admit(c), []taken{p.admit(with(0, c)...), p.admit(with(0, c)...), p.admit(with(0, c)...)}
		p.fail(with(0, c)...)
		p.fail(c)
		p.fail(with(0, c)...)
		wait := p.blocked(c)
		half := (wait / 2).Truncate(time.Microsecond)
		p.advance(half)
		p.blocked(c)
		p.settle(late, 1)
		p.settle(looks[0], 1)
		p.settle(looks[1], math.MaxInt64)
		if left := p.blocked(c); left != wait-half {
			p.failf("%s: %v of a block are left, want %v: failures have changed it", l, left, wait-half)
		}
		p.advance(wait - half)
		p.used(0, c)
		for i := range 3 {
			p.used(int64(i), c)
			p.fail(c)
		}
		if blocks := l.Blocks(); len(blocks) > 1 {
			p.about(blocks[1], p.blocked(c))
		}
		p.blocked(c)
		p.settle(looks[2], 0)
		p.blocked(c)
	}
}

func triesAtOnce(p *probe) {
	for _, l := range lockouts() {
		c := charge(l, "k", 1)
		p.align(time.Minute, 0)
		a, b, d := p.admit(c), p.admit(c), p.admit(c)
		if r := p.refuse(c).Results[0]; p.err == nil && (r.Blocked || r.RetryAfter != 0) {
			p.failf("%s, full of tries: %+v, want no block and no wait", l, r)
		}
		p.admit(with(0, c)...) // who only looks
		p.settle(a, 0)
		a = p.admit(c)
		p.refuse(c)
		p.settle(b, 1)
		p.refuse(c)
		p.settle(d, 1)
		p.refuse(c)
		p.used(3, c)
		p.settle(a, 0)
		p.used(2, c)
		p.admit(c) // and never settled
		p.advance(l.Window() - time.Microsecond)
		p.refuse(c)
		p.advance(time.Microsecond)
		p.used(0, c)
		p.admit(c)
		p.reset(c)
	}
}

func failuresAreTold(p *probe) {
	for _, l := range lockouts() {
		c := charge(l, "k", 1)
		old := p.admit(c)
		p.advance(l.Window())
		p.used(0, c)
		p.settle(old, 1) // its window is over, and it fails now
		p.used(1, c)
		back := p.admit(c)
		p.used(2, c)
		p.settle(back, 0)
		p.settle(back, 1) // a ticket counts once
		p.used(1, c)
		p.advance(l.Window() - time.Microsecond)
		p.used(1, c)
		p.advance(time.Microsecond)
		p.used(0, c)
		stale := p.admit(c)
		p.advance(l.Window())
		p.admit(c)
		p.settle(stale, 0) // gives back nothing of this window
		p.used(1, c)
		p.settle(p.admit(with(0, c)...), 7) // more than it takes
		p.blocked(c)
		p.reset(c)
	}
}

func lockoutChanges(p *probe) {
	c := charge(policy.Lockout(5, time.Hour, time.Hour, 2*time.Hour), "k", 1)
	for range 3 {
		p.fail(c)
	}
	more := c
	more.Limit = policy.Lockout(10, time.Hour, time.Minute, 3*time.Hour)
	p.used(3, more)
	p.settle(p.admit(with(0, more)...), 7)
	p.about(time.Minute, p.blocked(more))
	p.blocked(c) // one block, whoever asks
	p.advance(p.blocked(c))
	p.fail(c)
	fewer := c
	fewer.Limit = policy.Lockout(1, time.Hour, time.Hour, 2*time.Hour)
	p.refuse(fewer)
	p.settle(p.admit(with(0, fewer)...), 0)
	p.used(1, fewer)
	p.fail(with(0, fewer)...)
	p.about(2*time.Hour, p.blocked(fewer))
	// Past blocks are remembered as long as a try is under way, and by the numbers
	// that hold then.
	c.Limit = policy.Lockout(1, time.Hour, time.Second, time.Hour).Named("memory")
	p.fail(c)
	p.advance(p.blocked(c))
	p.advance(time.Hour - time.Second)
	p.admit(c)
	p.advance(30 * time.Minute)
	c.Limit = policy.Lockout(1, time.Hour, time.Second, 24*time.Hour).Named("memory")
	p.fail(with(0, c)...)
	p.about(24*time.Hour, p.blocked(c))
	other := c
	other.Limit = policy.Lockout(1, time.Hour+time.Microsecond, time.Hour).Named(c.Limit.Name())
	p.used(0, other)
}
