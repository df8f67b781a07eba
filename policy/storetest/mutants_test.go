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
	"says never of what only the whole limit holds": {[]int{5, 8}, true, func(c *counts) {
		c.peek = func(l policy.Limit, s policy.State, now, units int64) policy.Result {
			r := l.Peek(s, now, units)
			if l.IsReduced() && units > l.Capacity() {
				r.Verdict, r.RetryAfter, r.Reduced = policy.Never, 0, false
			}
			return r
		}
		c.take = func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result) {
			after, r := l.Take(s, now, units)
			if l.IsReduced() && units > l.Capacity() {
				return s, c.peek(l, s, now, units)
			}
			return after, r
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

// A pureStep is one of the transitions that belong to a ticket.
type pureStep = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result)

// slotMutants are stores whose slots are wrong, and the cases that must notice.
// Random says whether random operations must as well.
var slotMutants = map[string]struct {
	cases  []string
	random bool
	change func(*counts)
}{
	"ends leases a microsecond early": {[]string{"a lease ends to the microsecond", "a renewed slot stays its holder's"}, true, func(c *counts) {
		leases(c, func(l policy.Limit) policy.Limit { return l.WithLease(l.Lease() - time.Microsecond) })
	}},
	"ends leases a microsecond late": {[]string{"a lease ends to the microsecond", "a renewed slot stays its holder's"}, true, func(c *counts) {
		leases(c, func(l policy.Limit) policy.Limit { return l.WithLease(l.Lease() + time.Microsecond) })
	}},
	"renews nothing": {[]string{"a renewed slot stays its holder's", "many renewals at once"}, true, func(c *counts) {
		renew := c.renew
		c.renew = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
			before := s
			before.Leases = slices.Clone(s.Leases)
			s, r := renew(l, s, now, t)
			if r.Verdict != policy.Refused {
				return l.Enter(before, now, t) // who is there already keeps what it has
			}
			return s, r
		}
	}},
	"says of a lost slot that it is held": {[]string{"a lost slot is reported, and not had again", "wait for what is lost"}, true, func(c *counts) {
		renew := c.renew
		c.renew = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
			s, r := renew(l, s, now, t)
			r.Verdict = min(r.Verdict, policy.Queued)
			if r.Verdict == policy.Queued && r.Queue == 0 {
				r.Verdict = policy.Allowed
			}
			return s, r
		}
	}},
	"renews a lost slot by taking it again": {[]string{"a lost slot is reported, and not had again"}, true, func(c *counts) {
		renew := c.renew
		c.renew = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
			s, r := renew(l, s, now, t)
			if r.Verdict == policy.Refused {
				return l.Enter(s, now, t)
			}
			return s, r
		}
	}},
	"renews sixty-four at most": {[]string{"many renewals at once"}, false, func(c *counts) { c.quirk.renewsMany = policy.MaxCharges }},
	"renews whatever it is given": {[]string{"what has no slot is not renewed"}, false, func(c *counts) {
		c.quirk.renewsAll = true
		c.renew = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
			if l.Algorithm() != policy.AlgorithmConcurrency {
				return s, policy.Result{Verdict: policy.Refused}
			}
			return l.Renew(s, now, t)
		}
	}},
	"takes a slot for each unit": {[]string{"a request takes one slot, whatever its units"}, true, func(c *counts) {
		units := c.units
		c.units = func(charges []policy.Charge, i int) int64 {
			if n := units(charges, i); slotted(&charges[i]) && n > charges[i].Limit.N() {
				return 0
			}
			return units(charges, i)
		}
	}},
	"lets newcomers overtake": {[]string{"in the order of arrival", "wait in the order of arrival"}, true, func(c *counts) {
		enter := c.enter
		c.enter = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
			s, r := enter(l, s, now, t)
			if last := len(s.Leases) - 1; r.Verdict == policy.Queued && last >= 0 && s.Leases[last].Ticket == t {
				s.Leases = slices.Insert(s.Leases[:last], int(s.A), s.Leases[last])
			}
			return s, r
		}
	}},
	"lets newcomers have what the dead leave": {[]string{"the slot of a holder who died is granted"}, true, func(c *counts) {
		enter := c.enter
		c.enter = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
			alive := func(lease policy.Lease) bool { return lease.Until > now }
			held := slices.ContainsFunc(s.Leases[:min(s.A, int64(len(s.Leases)))], alive)
			if waits := slices.ContainsFunc(s.Leases[min(s.A, int64(len(s.Leases))):], alive); held || !waits {
				return enter(l, s, now, t)
			}
			s, _ = l.Renew(s, now, t)
			s.Leases = slices.Insert(s.Leases, 0, policy.Lease{Ticket: t, Until: now + l.Lease().Microseconds()})
			return s, l.Report(policy.State{At: now, A: 1}, now, 1, policy.Allowed, true)
		}
	}},
	"has a place more in its queue": {[]string{"the queue is bounded"}, true, func(c *counts) {
		longer := func(l policy.Limit) policy.Limit {
			if length, wait := l.Queue(); length > 0 {
				return l.WithQueue(length+1, wait)
			}
			return l
		}
		enter, peek := c.enter, c.peek
		c.enter = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
			return enter(longer(l), s, now, t)
		}
		c.peek = func(l policy.Limit, s policy.State, now, units int64) policy.Result {
			return peek(longer(l), s, now, units)
		}
	}},
	"does not end places in its queue": {[]string{"waiters are leased like holders"}, true, func(c *counts) {
		enter := c.enter
		c.enter = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
			s, r := enter(l, s, now, t)
			if r.Verdict == policy.Queued {
				s, _ = l.WithLease(policy.MaxLease).Renew(s, now, t)
			}
			return s, r
		}
	}},
	"takes nothing but the place of a queued request": {[]string{"a queued request holds its other charges", "wait until another leaves"}, true, func(c *counts) {
		c.quirk.queueAlone = true
	}},
	"keeps the place of a refused request": {[]string{"a refusal takes no place in a queue"}, true, func(c *counts) { c.quirk.keepsPlace = true }},
	"frees no slot while somebody waits": {[]string{"in the order of arrival", "wait until another leaves", "a slot settled to zero comes free, once"}, true, func(c *counts) {
		leave := c.leave
		c.leave = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
			if held := s.Leases[:s.A]; int(s.A) < len(s.Leases) && slices.ContainsFunc(held, func(l policy.Lease) bool { return l.Ticket == t }) {
				return s, policy.Result{Verdict: policy.Allowed}
			}
			return leave(l, s, now, t)
		}
	}},
	"frees the first slot, whoever leaves": {[]string{"a slot settled to zero comes free, once"}, true, func(c *counts) {
		leave := c.leave
		c.leave = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
			if len(s.Leases) > 0 {
				t = s.Leases[0].Ticket
			}
			return leave(l, s, now, t)
		}
	}},
	"frees slots whatever the total":     {[]string{"a slot settled to zero comes free, once"}, true, func(c *counts) { c.quirk.leaveTotals = true }},
	"frees slots once per ticket":        {[]string{"slots and units are settled apart"}, true, func(c *counts) { c.quirk.leaveOnce = true }},
	"counts a ticket that settles slots": {[]string{"slots and units are settled apart"}, true, func(c *counts) { c.quirk.slotsCount = true }},
	"takes slots when asked to peek":     {[]string{"peek takes no slot, and no place"}, true, func(c *counts) { c.quirk.peekCommits = true }},
	"undoes no slot in other partitions": {[]string{"a slot in another partition"}, true, func(c *counts) {
		c.apart = true
		c.quirk.noUndo = true
	}},
	"evicts when a number is lowered": {[]string{"changed numbers of slots evict nobody"}, true, func(c *counts) {
		fewer := func(step pureStep) pureStep {
			return func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
				s.A = min(s.A, l.N())
				return step(l, s, now, t)
			}
		}
		c.enter, c.renew, c.leave = fewer(c.enter), fewer(c.renew), fewer(c.leave)
	}},
	"goes by the clock when it is set back": {[]string{"a clock set back ends no lease, and none too late"}, true, func(c *counts) {
		renew := c.renew
		c.renew = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
			s.At = min(s.At, now)
			return renew(l, s, now, t)
		}
	}},
	"keeps the slot of a caller that left": {[]string{"a Take whose caller left"}, false, func(c *counts) {
		c.quirk.goneSlots = true
	}},
	"wakes nobody":                     {[]string{"wait until another leaves", "wait in the order of arrival"}, false, func(c *counts) { c.quirk.noWake = true }},
	"looks when something has changed": {[]string{"wait for what was granted already"}, false, func(c *counts) { c.quirk.waitLate = true }},
	"looks only when it has been told": {[]string{"wait for a holder who died", "wait for what is lost"}, false, func(c *counts) { c.quirk.waitDeaf = true }},
	"grants in the order of leaving": {[]string{"wait in the order of arrival"}, true, func(c *counts) {
		leave := c.leave
		c.leave = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
			if waiting := s.Leases[s.A:]; len(waiting) > 1 {
				slices.Reverse(waiting)
			}
			return leave(l, s, now, t)
		}
	}},
	"says of a wait that ended that it was lost": {[]string{"wait until the context ends"}, false, func(c *counts) { c.quirk.waitRefuses = true }},
	"gives up the place of a wait that ended":    {[]string{"wait until the context ends"}, false, func(c *counts) { c.quirk.waitLeaves = true }},
	"waits on when it is closed":                 {[]string{"close"}, false, func(c *counts) { c.quirk.waitStays = true }},
	"lets requests meet two queues":              {[]string{"one queue at most"}, false, func(c *counts) { c.quirk.noCheck = true; c.forgive() }},
	"decides slots under two locks":              {[]string{"slots at once"}, false, func(c *counts) { c.quirk.unlocked = true }},
	"gives reservations back whole": {[]string{"reservations held open are no more than the bucket"}, true, func(c *counts) {
		c.fix = func(l policy.Limit, s policy.State, now int64, r policy.Receipt, taken, total int64) policy.State {
			if l.Algorithm() == policy.AlgorithmTokenBucket {
				r.At = now
			}
			s, _ = l.Settle(s, now, r, taken, total)
			return s
		}
	}},
}

// leases gives the limits of slots another lease.
func leases(c *counts, other func(policy.Limit) policy.Limit) {
	enter, renew := c.enter, c.renew
	c.enter = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
		return enter(other(l), s, now, t)
	}
	c.renew = func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result) {
		return renew(other(l), s, now, t)
	}
}

// TestSlotMutants wants each to be noticed by its cases.
func TestSlotMutants(t *testing.T) {
	t.Parallel()
	noticed := map[string]bool{}
	for name, m := range slotMutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := reference(2, m.change)
			for _, want := range m.cases {
				i := slices.IndexFunc(storetest.Cases(), func(c storetest.Case) bool { return c.Name == want })
				if i < 0 {
					t.Fatalf("there is no case %q", want)
				}
				// One that is a matter of luck is given several chances.
				tries := 1
				if strings.HasSuffix(name, "under two locks") {
					tries = 50
				}
				var err error
				for ; err == nil && tries > 0; tries-- {
					err = storetest.Cases()[i].Check(t, h)
				}
				switch {
				case err == nil:
					t.Errorf("case %q does not notice", want)
				case errors.Is(err, storetest.ErrNotApplicable):
					t.Error(err)
				default:
					t.Logf("%s: %v", want, err)
				}
			}
			const ops = 10_000
			if m.random && storetest.Random(t, 1, ops, h) == nil {
				t.Errorf("%d random operations do not notice", ops)
			}
		})
		for _, c := range m.cases {
			noticed[c] = true
		}
	}
	for _, c := range storetest.Cases() {
		if (c.Number == 14 || c.Number == 15) && !noticed[c.Name] {
			t.Errorf("no mutant is for the case %q", c.Name)
		}
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
			const ops = 10_000
			if m.random && storetest.Random(t, 1, ops, h) == nil {
				t.Errorf("%d random operations do not notice", ops)
			}
		})
	}
}
