package storetest_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/storetest"
)

// lockoutMutants are stores whose lock-outs are wrong, and the cases that must
// notice. Random says whether random operations must as well.
var lockoutMutants = map[string]struct {
	cases  []string
	random bool
	change func(*counts)
}{
	"prolongs a block by failures": {[]string{"failures while blocked"}, true, fixing(func(f *fault) {
		if f.blocked && f.total > 0 {
			f.s.B, f.s.Until = f.s.B+1_000_000, f.s.Until+1_000_000
		}
	})},
	"keeps failures while blocked for later": {[]string{"failures while blocked"}, true, fixing(func(f *fault) {
		if f.blocked && f.total > 0 {
			f.s.C++ // a level
		}
	})},
	"ends a block when a try turns out well": {[]string{"failures while blocked"}, true, fixing(func(f *fault) {
		if f.blocked && f.total == 0 {
			f.s.B = 0
		}
	})},
	"prolongs a block by refusals": {[]string{"failures while blocked"}, true, func(c *counts) {
		take := c.take
		c.take = func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result) {
			s, r := take(l, s, now, units)
			if r.Blocked {
				s.B, s.Until = s.B+1_000_000, s.Until+1_000_000
			}
			return s, r
		}
	}},
	"ends a block a microsecond early": {[]string{"a block ends to the microsecond"}, true, shifting(time.Microsecond)},
	"ends a block a microsecond late":  {[]string{"a block ends to the microsecond"}, true, shifting(-time.Microsecond)},
	"lets in who only looks": {[]string{"a block is seen by who only looks"}, true, func(c *counts) {
		take, peek := c.take, c.peek
		let := func(r policy.Result, units int64) policy.Result {
			if r.Blocked && units == 0 {
				r.Verdict, r.Blocked, r.RetryAfter = policy.Allowed, false, 0
			}
			return r
		}
		c.take = func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result) {
			s, r := take(l, s, now, units)
			return s, let(r, units)
		}
		c.peek = func(l policy.Limit, s policy.State, now, units int64) policy.Result {
			return let(peek(l, s, now, units), units)
		}
	}},
	"forgets past blocks": {[]string{"past blocks are remembered, and forgotten"}, true, fixing(func(f *fault) {
		if f.blocked {
			return
		}
		f.s.C = 0
	})},
	"forgets no past block": {[]string{"past blocks are remembered, and forgotten"}, false, fixing(func(f *fault) {
		if f.s.C > 0 {
			f.s.C = f.s.C%16 + f.now/1_000_000*16
		}
	})},
	"takes nothing at the door": {[]string{"tries at once are no more than failures"}, true, func(c *counts) {
		take := c.take
		c.take = func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result) {
			after, r := take(l, s, now, units)
			if isLockout(l) {
				return s, r
			}
			return after, r
		}
	}},
	"starts a block by tries": {[]string{"tries at once are no more than failures"}, true, func(c *counts) {
		take := c.take
		c.take = func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result) {
			s, r := take(l, s, now, units)
			if isLockout(l) && r.Verdict == policy.Allowed && units > 0 {
				s, _ = l.Settle(s, now, r.Receipt, units, units)
			}
			return s, r
		}
	}},
	"passes over a failure that is what was taken": {[]string{"failures while blocked"}, true, fixing(func(f *fault) {
		f.skip = f.taken == f.total
	})},
	"loses failures whose window is over": {[]string{"a failure is told, and counts then"}, true, fixing(func(f *fault) {
		f.skip = f.taken > 0 && f.receipt.At < f.now-f.l.Window().Microseconds()+1
	})},
	"gives back what another window has": {[]string{"a failure is told, and counts then"}, true, fixing(func(f *fault) {
		f.receipt.At = f.now
	})},
	"keeps a block for each number": {[]string{"changed numbers of a lock-out"}, true, func(c *counts) {
		name := c.name
		c.name = func(ch *policy.Charge) string {
			if isLockout(ch.Limit) {
				return name(ch) + string(rune('a'+ch.Limit.N()))
			}
			return name(ch)
		}
	}},
}

func isLockout(l policy.Limit) bool { return l.Algorithm() == policy.AlgorithmLockout }

// A fault is what a mutant may do to a lock-out's state before it is settled.
type fault struct {
	l                 policy.Limit
	s                 policy.State
	now, taken, total int64
	receipt           policy.Receipt
	blocked, skip     bool
}

func fixing(change func(*fault)) func(*counts) {
	return func(c *counts) {
		fix := c.fix
		c.fix = func(l policy.Limit, s policy.State, now int64, r policy.Receipt, taken, total int64) policy.State {
			if !isLockout(l) {
				return fix(l, s, now, r, taken, total)
			}
			f := &fault{l: l, s: s, now: now, taken: taken, total: total, receipt: r, blocked: l.Peek(s, now, 0).Blocked}
			if change(f); f.skip {
				return f.s
			}
			return fix(l, f.s, now, f.receipt, taken, total)
		}
	}
}

// shifting sets the clock of lock-outs ahead by some microseconds, but for what
// they say of waits.
func shifting(by time.Duration) func(*counts) {
	return func(c *counts) {
		take, peek := c.take, c.peek
		c.take = func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result) {
			if !isLockout(l) {
				return take(l, s, now, units)
			}
			s, r := take(l, s, now+by.Microseconds(), units)
			if r.Blocked {
				r.RetryAfter += by
			}
			return s, r
		}
		c.peek = func(l policy.Limit, s policy.State, now, units int64) policy.Result {
			if !isLockout(l) {
				return peek(l, s, now, units)
			}
			r := peek(l, s, now+by.Microseconds(), units)
			if r.Blocked {
				r.RetryAfter += by
			}
			return r
		}
	}
}

func TestLockoutMutants(t *testing.T) {
	t.Parallel()
	for name, m := range lockoutMutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := reference(2, m.change)
			for _, want := range m.cases {
				i := slices.IndexFunc(storetest.Cases(), func(c storetest.Case) bool { return c.Name == want })
				if i < 0 {
					t.Fatalf("there is no case %q", want)
				}
				if storetest.Cases()[i].Check(t, h) == nil {
					t.Errorf("case %q does not notice", want)
				}
			}
			const seeds, ops = 5, 20_000
			noticed := !m.random
			for seed := uint64(1); seed <= seeds && !noticed; seed++ {
				noticed = storetest.Random(t, seed, ops, h) != nil
			}
			if !noticed {
				t.Errorf("%d times %d random operations do not notice", seeds, ops)
			}
		})
	}
}
