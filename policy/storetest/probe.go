package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stint-go/stint/policy"
)

// A probe drives the stores of a bench for one case. It keeps what first went
// wrong; from then on its methods do nothing and return zero values.
type probe struct {
	*Bench
	clock *clock
	turn  int
	err   error
}

// taken is an allowed or queued Take, for a later settle.
type taken struct {
	policy.Decision
	ticket  policy.Ticket
	charges []policy.Charge
}

// RetryAfter is that of the decision, for a value that has no address.
func (t taken) RetryAfter() time.Duration { return t.Decision.RetryAfter() }

func (p *probe) failf(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

// store returns the next store: each step is another process's.
func (p *probe) store() policy.Store {
	p.turn++
	return p.Stores[p.turn%len(p.Stores)]
}

func (p *probe) advance(d time.Duration) { p.clock.advance(d) }

// align moves the clock to offset into the next window.
func (p *probe) align(window, offset time.Duration) {
	w, now := window.Microseconds(), p.clock.micro()
	p.clock.set(now - now%w + w + offset.Microseconds())
}

// take takes the charges, whatever the answer.
func (p *probe) take(charges ...policy.Charge) taken {
	if p.err != nil {
		return zero(charges)
	}
	t := taken{ticket: policy.NewTicket(), charges: charges}
	if err := p.store().Take(context.Background(), t.ticket, charges, &t.Decision); err != nil {
		p.failf("Take of %s: error %w", describe(charges), err)
		return zero(charges)
	}
	return p.shaped("Take", t)
}

// admit takes the charges, which must be allowed.
func (p *probe) admit(charges ...policy.Charge) taken {
	t := p.take(charges...)
	p.expect("Take", t, policy.Allowed)
	return t
}

// refuse takes the charges, which must be refused.
func (p *probe) refuse(charges ...policy.Charge) taken {
	t := p.take(charges...)
	p.expect("Take", t, policy.Refused)
	return t
}

// queue takes the charges, which must be queued.
func (p *probe) queue(charges ...policy.Charge) taken {
	t := p.take(charges...)
	p.expect("Take", t, policy.Queued)
	return t
}

func (p *probe) peek(charges ...policy.Charge) taken {
	if p.err != nil {
		return zero(charges)
	}
	t := taken{charges: charges}
	if err := p.store().Peek(context.Background(), charges, &t.Decision); err != nil {
		p.failf("Peek of %s: error %w", describe(charges), err)
		return zero(charges)
	}
	return p.shaped("Peek", t)
}

// used wants the charge's limit to have that much used.
func (p *probe) used(want int64, c policy.Charge) {
	c.Units = 0
	if got := p.peek(c).Results[0].Used; got != want {
		p.failf("%s under key %.40q has %d used, want %d", c.Limit, c.Key, got, want)
	}
}

// patience is how long a store may take for what it does after it has answered.
// A correct one is never waited for that long.
var patience = 5 * time.Second

// eventually is used for what a store may still have under way.
func (p *probe) eventually(want int64, c policy.Charge) { p.eventuallyOccupied(want, 0, c) }

// eventuallyOccupied is occupied in the end.
func (p *probe) eventuallyOccupied(held, waiting int64, c policy.Charge) {
	c.Units = 0
	for deadline := time.Now().Add(patience); p.err == nil; time.Sleep(time.Millisecond) {
		r := p.peek(c).Results[0]
		if r.Used == held && r.Queue == waiting {
			return
		}
		if time.Now().After(deadline) {
			p.failf("%s under key %.40q has %d used and %d waiting after %v, want %d and %d",
				c.Limit, c.Key, r.Used, r.Queue, patience, held, waiting)
		}
	}
}

// settle corrects what was taken, charge by charge.
func (p *probe) settle(t taken, totals ...int64) {
	if p.err != nil {
		return
	}
	if err := p.store().Settle(context.Background(), t.ticket, t.settlements(totals...)); err != nil {
		p.failf("Settle of %s to %v: error %w", describe(t.charges), totals, err)
	}
}

func (t taken) settlements(totals ...int64) []policy.Settlement {
	s := make([]policy.Settlement, len(totals))
	for i, total := range totals {
		s[i] = policy.Settlement{Charge: t.charges[i], Receipt: t.Results[i].Receipt, Total: total}
	}
	return s
}

func (p *probe) reset(charges ...policy.Charge) {
	if p.err != nil {
		return
	}
	if err := p.store().Reset(context.Background(), charges); err != nil {
		p.failf("Reset of %s: error %w", describe(charges), err)
	}
}

// same wants two answers to be equal in everything but the receipts.
func (p *probe) same(what string, got, want taken) {
	if diff := difference(&got.Decision, &want.Decision); diff != "" {
		p.failf("%s of %s: %s", what, describe(got.charges), diff)
	}
}

func (p *probe) expect(what string, t taken, want policy.Verdict) {
	if t.Verdict != want {
		p.failf("%s of %s: %v, want %v; %v", what, describe(t.charges), t.Verdict, want, t.Results)
	}
}

// wantError wants an error, and one that is target if that is not nil.
func (p *probe) wantError(what string, err, target error) {
	switch {
	case err == nil:
		p.failf("%s: no error", what)
	case target != nil && !errors.Is(err, target):
		p.failf("%s: error %w, want %w", what, err, target)
	}
}

// renew renews the lease of one charge of a Take.
func (p *probe) renew(t taken, i int) policy.Result {
	if p.err != nil {
		return policy.Result{}
	}
	renewals := []policy.Renewal{{Ticket: t.ticket, Charge: t.charges[i]}}
	if err := p.store().Renew(context.Background(), renewals); err != nil {
		p.failf("Renew of %s: error %w", describe(t.charges[i:i+1]), err)
	}
	return renewals[0].Result
}

// stands renews the lease of the first charge, and wants it to stand like that: in
// the queue at that place, or anywhere if it is none.
func (p *probe) stands(t taken, want policy.Verdict, place int64) {
	r := p.renew(t, 0)
	switch {
	case p.err != nil:
	case r.Verdict != want:
		p.failf("Renew of %s: %v, want %v; %+v", describe(t.charges[:1]), r.Verdict, want, r)
	case want == policy.Queued && r.Queue != place:
		p.failf("Renew of %s: place %d in the queue, want %d", describe(t.charges[:1]), r.Queue, place)
	}
}

// leave frees the slot of the first charge, or its place, by itself.
func (p *probe) leave(t taken) {
	if p.err != nil {
		return
	}
	settlements := t.settlements(0)
	if err := p.store().Settle(context.Background(), t.ticket, settlements); err != nil {
		p.failf("Settle of %s to 0: error %w", describe(t.charges[:1]), err)
	}
}

// occupied wants the limit's slots to be so many held, and so many waited for.
func (p *probe) occupied(held, waiting int64, c policy.Charge) {
	c.Units = 0
	if r := p.peek(c).Results[0]; p.err == nil && (r.Used != held || r.Queue != waiting) {
		p.failf("%s under key %.40q has %d slots held and %d waited for, want %d and %d", c.Limit, c.Key, r.Used, r.Queue, held, waiting)
	}
}

// shaped wants a decision to be one: a verdict that follows from those of its
// results, of which there is one per charge, about the limit of that charge.
func (p *probe) shaped(what string, t taken) taken {
	want := policy.Allowed
	for i := range t.Results {
		want = joint(want, t.Results[i].Verdict)
	}
	if len(t.Results) != len(t.charges) {
		p.failf("%s of %d charges: %d results", what, len(t.charges), len(t.Results))
		return zero(t.charges)
	}
	p.expect(what, t, want)
	for i, r := range t.Results {
		l := t.charges[i].Limit
		// Nobody knows when a slot comes free, or somebody's try.
		waits := r.Verdict == policy.Refused && !slotted(&t.charges[i]) && (r.Blocked || l.Algorithm() != policy.AlgorithmLockout)
		if r.Limit != l.N() || r.Capacity != l.Capacity() || (r.RetryAfter > 0) != waits {
			p.failf("%s of %s: result %d is %+v", what, describe(t.charges), i, r)
		}
	}
	return t
}

func zero(charges []policy.Charge) taken {
	return taken{charges: charges, Decision: policy.Decision{Results: make([]policy.Result, max(len(charges), 1))}}
}

// difference says where two decisions differ, "" if nowhere. Receipts are the
// store's own affair.
func difference(got, want *policy.Decision) string {
	switch {
	case got.Verdict != want.Verdict:
		return fmt.Sprintf("%v, want %v; %v, want %v", got.Verdict, want.Verdict, got.Results, want.Results)
	case !got.Now.Equal(want.Now):
		return fmt.Sprintf("decided at %v, want %v", got.Now.UnixMicro(), want.Now.UnixMicro())
	case len(got.Results) != len(want.Results):
		return fmt.Sprintf("%d results, want %d", len(got.Results), len(want.Results))
	}
	for i := range got.Results {
		g, w := got.Results[i], want.Results[i]
		g.Receipt, w.Receipt = policy.Receipt{}, policy.Receipt{}
		if g != w {
			return fmt.Sprintf("result %d is\n    %+v, want\n    %+v", i, g, w)
		}
	}
	return ""
}

func describe(charges []policy.Charge) string {
	s := ""
	for i, c := range charges {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("%d of %q (%s) scope %q key %.40q", c.Units, c.Limit.Name(), c.Limit, c.Scope, c.Key)
		if c.Partition != "" {
			s += fmt.Sprintf(" in %.40q", c.Partition)
		}
	}
	return "[" + s + "]"
}

// charge asks for units of a limit under a key, in the scope of the suite.
func charge(l policy.Limit, key string, units int64) policy.Charge {
	return policy.Charge{Limit: l, Scope: policy.NewScope("storetest", "rule"), Key: key, Units: units}
}

func in(partition string, c policy.Charge) policy.Charge {
	c.Partition = partition
	return c
}

// every returns a limit of each algorithm that counts units.
func every(n int64, window time.Duration) []policy.Limit {
	return []policy.Limit{
		policy.TokenBucket(n, window), policy.SlidingWindow(n, window),
		policy.SlidingLog(n, window), policy.FixedWindow(n, window),
	}
}

// with returns the charges with other units.
func with(units int64, charges ...policy.Charge) []policy.Charge {
	charges = slices.Clone(charges)
	for i := range charges {
		charges[i].Units = units
	}
	return charges
}
