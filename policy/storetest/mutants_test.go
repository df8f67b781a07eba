package storetest_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/storetest"
)

type nowFunc = func() time.Time

// mutants are stores that break a sentence each, and the numbers of sentences
// whose cases must notice. Random says whether random operations must as well.
var mutants = map[string]struct {
	sentences []int
	random    bool
	change    func(*counts)
}{
	"keeps what a refused request took":          {[]int{1}, true, func(c *counts) { c.quirk.keepOnRefusal = true }},
	"decides charges one by one under two locks": {[]int{2, 19}, false, func(c *counts) { c.quirk.unlocked = true }},
	"does not undo other partitions":             {[]int{3}, true, func(c *counts) { c.apart, c.quirk.noUndo = true, true }},
	"goes by its own clock":                      {[]int{4}, true, func(c *counts) { c.quirk.ownClock = true }},
	"waits a microsecond too long": {[]int{5}, true, func(c *counts) {
		c.peek = func(l policy.Limit, s policy.State, now, units int64) policy.Result {
			r := l.Peek(s, now, units)
			if r.Verdict == policy.Refused {
				r.RetryAfter += time.Microsecond
			}
			return r
		}
	}},
	"says when the next unit comes a microsecond early": {[]int{5}, true, func(c *counts) {
		c.peek = func(l policy.Limit, s policy.State, now, units int64) policy.Result {
			r := l.Peek(s, now, units)
			r.NextAfter -= time.Microsecond
			return r
		}
	}},
	"rounds waits up to milliseconds": {[]int{5}, true, func(c *counts) {
		c.take = func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result) {
			s, r := l.Take(s, now, units)
			r.RetryAfter = (r.RetryAfter + time.Millisecond - 1).Truncate(time.Millisecond)
			return s, r
		}
	}},
	"forgets to sum": {[]int{6}, true, func(c *counts) {
		c.units = func(charges []policy.Charge, i int) int64 { return charges[i].Units }
	}},
	"sums over scopes": {[]int{6}, true, func(c *counts) {
		c.units = func(charges []policy.Charge, i int) int64 {
			units := int64(0)
			for _, other := range charges {
				if other.Key == charges[i].Key && other.Limit.ID() == charges[i].Limit.ID() {
					units += max(0, min(other.Units, 1<<50))
				}
			}
			return units
		}
	}},
	"lets sums overflow": {[]int{8}, true, func(c *counts) {
		c.units = func(charges []policy.Charge, i int) int64 {
			units := int64(0)
			for j := range charges {
				if charges[j].SameState(&charges[i]) {
					units += charges[j].Units
				}
			}
			return max(units, 0)
		}
	}},
	"does not count refusals": {[]int{7}, true, func(c *counts) {
		c.take = func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result) {
			after, r := l.Take(s, now, units)
			if r.Verdict != policy.Allowed {
				return s, l.Peek(s, now, units)
			}
			return after, r
		}
	}},
	"counts refusals without end": {[]int{7}, true, func(c *counts) {
		c.take = func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result) {
			after, r := l.Take(s, now, units)
			if r.Verdict == policy.Refused && l.CountsRefused() && r.Used >= 2*l.Capacity() {
				after, _ = l.Settle(after, now, policy.Receipt{At: now}, 0, units)
				r = l.Peek(after, now, units)
			}
			return after, r
		}
	}},
	"says never of a wait": {[]int{8}, true, func(c *counts) {
		c.peek = func(l policy.Limit, s policy.State, now, units int64) policy.Result {
			r := l.Peek(s, now, units)
			if r.Verdict == policy.Never {
				r.Verdict, r.RetryAfter = policy.Refused, time.Second
			}
			return r
		}
	}},
	"takes when asked to peek":         {[]int{9}, true, func(c *counts) { c.quirk.peekCommits = true }},
	"settles as often as it is told":   {[]int{10}, true, func(c *counts) { c.quirk.settleForever = true }},
	"forgets tickets after 30 seconds": {[]int{10}, false, func(c *counts) { c.quirk.ticketSeconds = 30 }},
	"settles into the window of now":   {[]int{10}, true, func(c *counts) { c.quirk.chargeBySettle = true }},
	"refuses settlements beyond the limit": {[]int{10}, true, func(c *counts) {
		c.fix = func(l policy.Limit, s policy.State, now int64, r policy.Receipt, taken, total int64) policy.State {
			after, result := l.Settle(s, now, r, taken, total)
			if total > taken && result.Used > l.Capacity() {
				return s
			}
			return after
		}
	}},
	"gives back what has refilled": {[]int{10}, true, func(c *counts) {
		c.fix = func(l policy.Limit, s policy.State, now int64, r policy.Receipt, taken, total int64) policy.State {
			if l.Algorithm() == policy.AlgorithmTokenBucket {
				r = policy.Receipt{At: now, A: 1 << 40}
			}
			s, _ = l.Settle(s, now, r, taken, total)
			return s
		}
	}},
	"gives back to the bucket as if it had been empty": {[]int{10}, true, func(c *counts) {
		c.fix = func(l policy.Limit, s policy.State, now int64, r policy.Receipt, taken, total int64) policy.State {
			r.A, r.B = 0, 0
			s, _ = l.Settle(s, now, r, taken, total)
			return s
		}
	}},
	"forgets states a millisecond early": {[]int{11}, true, func(c *counts) {
		early := func(s policy.State, now int64) policy.State {
			if now >= s.Until-1000 {
				return policy.State{}
			}
			return s
		}
		c.take = func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result) {
			return l.Take(early(s, now), now, units)
		}
		c.peek = func(l policy.Limit, s policy.State, now, units int64) policy.Result {
			return l.Peek(early(s, now), now, units)
		}
	}},
	"keeps states for a month at most": {[]int{11}, true, func(c *counts) {
		late := func(s policy.State, now int64) policy.State {
			if now >= s.At+int64(31*24*time.Hour/time.Microsecond) {
				return policy.State{}
			}
			return s
		}
		c.take = func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result) {
			return l.Take(late(s, now), now, units)
		}
		c.peek = func(l policy.Limit, s policy.State, now, units int64) policy.Result {
			return l.Peek(late(s, now), now, units)
		}
	}},
	"ends a quota's period a microsecond late": {[]int{5}, true, func(c *counts) {
		take, peek := c.take, c.peek
		c.take = func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result) {
			return take(l, s, late(l, now), units)
		}
		c.peek = func(l policy.Limit, s policy.State, now, units int64) policy.Result {
			return peek(l, s, late(l, now), units)
		}
	}},
	"has a limit for unlimited quotas": {[]int{8}, true, func(c *counts) {
		c.peek = func(l policy.Limit, s policy.State, now, units int64) policy.Result {
			r := l.Peek(s, now, units)
			if l.N() == policy.Unlimited && units > policy.MaxUnits {
				r.Verdict = policy.Never
			}
			return r
		}
	}},
	"settles the billing period of now": {[]int{10}, true, func(c *counts) {
		c.fix = func(l policy.Limit, s policy.State, now int64, r policy.Receipt, taken, total int64) policy.State {
			if l.Algorithm() == policy.AlgorithmQuota {
				r.B = 1 << 52
			}
			s, _ = l.Settle(s, now, r, taken, total)
			return s
		}
	}},
	"forgets the billing period before": {[]int{11}, false, func(c *counts) {
		c.take = func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result) {
			s, r := l.Take(s, now, units)
			if l.Algorithm() == policy.AlgorithmQuota {
				s.C = 0
			}
			return s, r
		}
	}},
	"starts a quota afresh with its plan": {[]int{17}, true, func(c *counts) {
		name := c.name
		c.name = func(ch *policy.Charge) string {
			if ch.Limit.Algorithm() == policy.AlgorithmQuota {
				return name(ch) + ch.Limit.String()
			}
			return name(ch)
		}
	}},
	"adds where usage is set": {[]int{17}, false, func(c *counts) {
		c.set = func(l policy.Limit, s policy.State, now, used int64) policy.State {
			return l.SetUsage(s, now, used+l.Usage(s, now).Used)
		}
	}},
	"does not check charges": {[]int{12}, false, func(c *counts) { c.quirk.noCheck = true; c.forgive() }},
	"does not check settlements": {[]int{12}, false, func(c *counts) {
		c.quirk.noSettleCheck = true
		c.fix = func(_ policy.Limit, s policy.State, _ int64, _ policy.Receipt, _, _ int64) policy.State { return s }
	}},
	"pays no heed to contexts":           {[]int{12}, false, func(c *counts) { c.quirk.ignoreContext = true }},
	"refuses when the context is done":   {[]int{12}, false, func(c *counts) { c.quirk.refuseError = true }},
	"keeps what a caller that left took": {[]int{13}, false, func(c *counts) { c.quirk.ignoreGone = true }},
	"starts afresh when numbers change": {[]int{17}, true, func(c *counts) {
		name := c.name
		c.name = func(ch *policy.Charge) string { return name(ch) + " " + ch.Limit.String() }
	}},
	"keeps state by name alone": {[]int{17}, false, func(c *counts) {
		c.name = func(ch *policy.Charge) string {
			return strings.Join([]string{ch.Place(), ch.Key, ch.Scope.String(), ch.Limit.Name()}, "\x00\x00\x01")
		}
	}},
	"joins keys with a colon": {[]int{18}, false, func(c *counts) {
		c.name = func(ch *policy.Charge) string { return ch.Place() + ":" + ch.Key + ":" + string(rune(ch.ID())) }
	}},
	"folds case": {[]int{18}, false, func(c *counts) {
		name := c.name
		c.name = func(ch *policy.Charge) string { return strings.ToLower(name(ch)) }
	}},
	"cuts keys at NUL": {[]int{18}, true, func(c *counts) {
		name := c.name
		c.name = func(ch *policy.Charge) string {
			cut := *ch
			cut.Key, _, _ = strings.Cut(ch.Key, "\x00")
			return name(&cut)
		}
	}},
	"reads keys as UTF-8": {[]int{18}, false, func(c *counts) {
		name := c.name
		c.name = func(ch *policy.Charge) string {
			valid := *ch
			valid.Key = strings.ToValidUTF8(ch.Key, "\ufffd")
			return name(&valid)
		}
	}},
	"drops braces": {[]int{18}, true, func(c *counts) {
		name := c.name
		c.name = func(ch *policy.Charge) string {
			bare := *ch
			bare.Key = strings.Trim(ch.Key, "{}")
			return name(&bare)
		}
	}},
	"cuts long keys": {[]int{18}, false, func(c *counts) {
		name := c.name
		c.name = func(ch *policy.Charge) string {
			short := *ch
			short.Key = ch.Key[:min(len(ch.Key), 1<<16)]
			return name(&short)
		}
	}},
	"pays no heed to partitions": {[]int{18}, false, func(c *counts) {
		c.name = func(ch *policy.Charge) string { return ch.Key + " " + string(rune(ch.ID())) }
	}},
	"takes no partition for another than the key's": {[]int{18}, false, func(c *counts) {
		name := c.name
		c.name = func(ch *policy.Charge) string { return name(ch) + " in " + ch.Partition }
	}},
	"resets all of a key":          {[]int{18}, true, func(c *counts) { c.quirk.resetKey = true }},
	"leaves a goroutine":           {[]int{19}, false, func(c *counts) { c.quirk.leak = true }},
	"goes on when closed":          {[]int{19}, false, func(c *counts) { c.quirk.neverClosed = true }},
	"writes to earlier decisions":  {[]int{19}, false, func(c *counts) { c.quirk.keepsDecision = true }},
	"leaves numbers in a decision": {[]int{19}, true, func(c *counts) { c.quirk.reuse = true }},
}

// late sets the clock back a microsecond at the beginning of a quota's period.
func late(l policy.Limit, now int64) int64 {
	if l.Algorithm() != policy.AlgorithmQuota {
		return now
	}
	if start, _ := l.Period().Bounds(time.UnixMicro(now)); start.UnixMicro() == now {
		return now - 1
	}
	return now
}

// forgive lets transitions pass over charges that they panic at.
func (c *counts) forgive() {
	c.take = func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result) {
		if units < 0 || l.Validate() != nil {
			return s, policy.Result{Verdict: policy.Allowed}
		}
		return l.Take(s, now, units)
	}
	c.peek = func(l policy.Limit, s policy.State, now, units int64) policy.Result {
		if units < 0 || l.Validate() != nil {
			return policy.Result{Verdict: policy.Allowed}
		}
		return l.Peek(s, now, units)
	}
}

// TestMutants wants every mutant to be noticed.
func TestMutants(t *testing.T) {
	t.Parallel()
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := reference(2, m.change)
			var noticed []int
			for _, c := range storetest.Cases() {
				if !slices.Contains(m.sentences, c.Number) || slices.Contains(noticed, c.Number) {
					continue
				}
				if err := c.Check(t, h); err != nil && !errors.Is(err, storetest.ErrNotApplicable) {
					noticed = append(noticed, c.Number)
				}
			}
			if !slices.Equal(noticed, m.sentences) {
				t.Errorf("noticed by the cases of sentences %v, want %v", noticed, m.sentences)
			}
			const ops = 5000
			if m.random && storetest.Random(t, 1, ops, h) == nil {
				t.Errorf("%d random operations do not notice", ops)
			}
		})
	}
}
