package storetest_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/storetest"
)

// counts are what processes share: a map under a lock, and the transitions of
// package policy. The functions are what mutants replace.
type counts struct {
	mu      sync.Mutex
	now     func() time.Time
	states  map[string]policy.State
	tickets map[policy.Ticket]int64
	changed chan struct{} // closed when a slot may have come free
	apart   bool          // decide partitions apart, and undo
	stalled chan struct{} // if not nil, replies wait until it is closed

	name  func(c *policy.Charge) string
	units func(charges []policy.Charge, i int) int64
	take  func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result)
	peek  func(l policy.Limit, s policy.State, now, units int64) policy.Result
	fix   func(l policy.Limit, s policy.State, now int64, r policy.Receipt, taken, total int64) policy.State
	enter func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result)
	renew func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result)
	leave func(l policy.Limit, s policy.State, now int64, t policy.Ticket) (policy.State, policy.Result)
	set   func(l policy.Limit, s policy.State, now, used int64) policy.State
	quirk quirks
}

// quirks are the ways in which mutants differ that are no function's.
type quirks struct {
	keepOnRefusal  bool // commits the allowed charges of a refused request
	noUndo         bool // forgets to undo other partitions
	peekCommits    bool
	settleForever  bool // does not remember tickets
	ticketSeconds  int64
	noCheck        bool // does not check charges
	noSettleCheck  bool // nor settlements
	ignoreContext  bool
	ignoreGone     bool // keeps what a caller that left took
	goneSlots      bool // keeps the slots, and the places
	leak           bool // leaves a goroutine
	neverClosed    bool
	resetKey       bool // forgets all of a key
	ownClock       bool
	reuse          bool // leaves old numbers in a decision
	keepsDecision  bool
	chargeBySettle bool // settles as of now, not of the receipt
	unlocked       bool // decides and commits under two locks
	refuseError    bool // answers done contexts with a refusal
	queueAlone     bool // takes the slot alone of a queued request
	keepsPlace     bool // keeps the place of a refused request
	leaveOnce      bool // frees slots once per ticket, with its units
	slotsCount     bool // remembers tickets that settle slots alone
	leaveTotals    bool // frees slots whatever the total
	noWake         bool // Wait never looks again
	waitRefuses    bool // Wait answers done contexts with a refusal
	waitLeaves     bool // Wait gives up the place when its context ends
	waitLate       bool // Wait looks only when something has changed
	waitDeaf       bool // Wait does not look by itself
	waitStays      bool // Wait goes on when the store is closed
	renewsAll      bool // renews what it may not
	renewsMany     int  // renews no more than that
}

func newCounts(now func() time.Time) *counts {
	return &counts{
		now: now, states: map[string]policy.State{}, tickets: map[policy.Ticket]int64{},
		name: func(c *policy.Charge) string {
			return fmt.Sprint(len(c.Place()), ":", c.Place(), " ", len(c.Key), ":", c.Key, " ", c.ID())
		},
		units:   sum,
		changed: make(chan struct{}),
		take:    policy.Limit.Take,
		enter:   policy.Limit.Enter,
		renew:   policy.Limit.Renew,
		leave:   policy.Limit.Leave,
		peek:    policy.Limit.Peek,
		set:     policy.Limit.SetUsage,
		fix: func(l policy.Limit, s policy.State, now int64, r policy.Receipt, taken, total int64) policy.State {
			s, _ = l.Settle(s, now, r, taken, total)
			return s
		},
	}
}

func sum(charges []policy.Charge, i int) int64 {
	units := uint64(0)
	for j := range charges {
		if charges[j].SameState(&charges[i]) {
			units = min(units+uint64(charges[j].Units), math.MaxInt64)
		}
	}
	return int64(units)
}

// A process is a Store on shared counts.
type process struct {
	*counts
	closed bool
	end    chan struct{}
	last   *policy.Decision
}

func (p *process) admit(ctx context.Context, charges []policy.Charge) error {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed && !p.quirk.neverClosed {
		return policy.ErrClosed
	}
	if !p.quirk.ignoreContext && ctx.Err() != nil {
		return ctx.Err()
	}
	if p.quirk.noCheck {
		return nil
	}
	return policy.CheckCharges(charges)
}

func (p *process) Take(ctx context.Context, ticket policy.Ticket, charges []policy.Charge, d *policy.Decision) error {
	if err := p.admit(ctx, charges); err != nil {
		if p.quirk.refuseError && ctx.Err() != nil {
			d.Reset(len(charges))
			d.Verdict = policy.Refused
			return nil
		}
		return err
	}
	if p.quirk.leak {
		go p.linger()
	}
	p.decide(ticket, charges, d, true)
	if p.quirk.keepsDecision && len(charges) == 2 && charges[0].Partition == "" {
		if p.last != nil && len(p.last.Results) > 0 {
			p.last.Results[0].Used++
		}
		p.last = &policy.Decision{Results: d.Results}
	}
	p.mu.Lock()
	stalled := p.stalled
	p.mu.Unlock()
	if stalled == nil {
		return nil
	}
	select {
	case <-stalled:
		return nil
	case <-ctx.Done():
	}
	// The caller leaves: what it took is given back when the reply is there.
	if charges = slices.Clone(charges); d.Verdict != policy.Refused && !p.quirk.ignoreGone {
		receipts := slices.Clone(d.Results)
		go func() {
			<-stalled
			p.mu.Lock()
			defer p.mu.Unlock()
			for i := range charges {
				if !slotted(&charges[i]) || !p.quirk.goneSlots {
					p.settle(ticket, &policy.Settlement{Charge: charges[i], Receipt: receipts[i].Receipt})
				}
			}
		}()
	}
	return ctx.Err()
}

func (p *process) linger() { <-p.end }

func (p *process) Peek(ctx context.Context, charges []policy.Charge, d *policy.Decision) error {
	if err := p.admit(ctx, charges); err != nil {
		return err
	}
	p.decide(policy.NewTicket(), charges, d, p.quirk.peekCommits)
	return nil
}

func (p *process) Settle(ctx context.Context, ticket policy.Ticket, settlements []policy.Settlement) error {
	if err := p.admit(ctx, nil); err != nil {
		return err
	}
	if err := policy.CheckSettlements(settlements); err != nil && !p.quirk.noSettleCheck {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now().UnixMicro()
	last := int64(60)
	if p.quirk.ticketSeconds > 0 {
		last = p.quirk.ticketSeconds
	}
	at, ok := p.tickets[ticket]
	counted := ok && now-at < last*1_000_000 && !p.quirk.settleForever
	if counted && p.quirk.leaveOnce {
		return nil
	}
	for i := range settlements {
		slot := slotted(&settlements[i].Charge)
		if !counted && (!slot || p.quirk.leaveOnce || p.quirk.slotsCount) {
			p.tickets[ticket] = now
		}
		if slot || !counted {
			p.settle(ticket, &settlements[i])
		}
	}
	return nil
}

// slotted tells whether a charge is for a slot.
func slotted(c *policy.Charge) bool { return c.Limit.Algorithm() == policy.AlgorithmConcurrency }

func (p *process) settle(ticket policy.Ticket, s *policy.Settlement) {
	if slotted(&s.Charge) {
		if s.Total == 0 || p.quirk.leaveTotals {
			name := p.name(&s.Charge)
			p.states[name], _ = p.leave(s.Charge.Limit, p.states[name], p.now().UnixMicro(), ticket)
			p.wake()
		}
		return
	}
	name, now, receipt := p.name(&s.Charge), p.now().UnixMicro(), s.Receipt
	if p.quirk.chargeBySettle {
		receipt.At = now
	}
	p.states[name] = p.fix(s.Charge.Limit, p.states[name], now, receipt, s.Charge.Units, s.Total)
}

func (p *process) Reset(ctx context.Context, charges []policy.Charge) error {
	if err := p.admit(ctx, charges); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range charges {
		delete(p.states, p.name(&charges[i]))
		p.wake()
		if prefix, _, _ := strings.Cut(p.name(&charges[i]), " "); p.quirk.resetKey {
			for name := range p.states {
				if strings.HasPrefix(name, prefix) {
					delete(p.states, name)
				}
			}
		}
	}
	return nil
}

func (p *process) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if !p.quirk.waitStays {
		p.wake()
	}
	return nil
}

func (p *process) Renew(ctx context.Context, renewals []policy.Renewal) error {
	for i := range renewals {
		renewals[i].Result = policy.Result{}
	}
	if err := p.admit(ctx, nil); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range renewals {
		r := &renewals[i]
		if err := policy.CheckSlot(&r.Charge); err != nil && !p.quirk.renewsAll {
			return err
		}
		if p.quirk.renewsMany > 0 && i >= p.quirk.renewsMany {
			break
		}
		r.Result = p.look(&r.Charge, r.Ticket)
	}
	return nil
}

// look renews a lease, under the lock.
func (p *process) look(c *policy.Charge, t policy.Ticket) (r policy.Result) {
	name := p.name(c)
	p.states[name], r = p.renew(c.Limit, p.states[name], p.now().UnixMicro(), t)
	return r
}

// wake lets those look who wait.
func (p *process) wake() {
	if !p.quirk.noWake {
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

func (p *process) Wait(ctx context.Context, ticket policy.Ticket, charge policy.Charge) (policy.Result, error) {
	if err := policy.CheckSlot(&charge); err != nil && !p.quirk.renewsAll {
		return policy.Result{}, err
	}
	if p.quirk.waitLate {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	for {
		if err := p.admit(ctx, nil); err != nil {
			return policy.Result{}, err
		}
		p.mu.Lock()
		r, changed, closed := p.look(&charge, ticket), p.changed, p.closed && !p.quirk.neverClosed
		p.mu.Unlock()
		if closed {
			continue // since it was asked
		}
		if r.Verdict != policy.Queued {
			return r, nil
		}
		timer := time.After(charge.Limit.Lease() / 3)
		if p.quirk.waitDeaf {
			timer = nil
		}
		select {
		case <-changed:
		case <-timer:
		case <-ctx.Done():
			switch {
			case p.quirk.waitRefuses:
				return policy.Result{Verdict: policy.Refused}, nil
			case p.quirk.waitLeaves:
				p.mu.Lock()
				p.settle(ticket, &policy.Settlement{Charge: charge})
				p.mu.Unlock()
			}
			return policy.Result{}, ctx.Err()
		}
	}
}

// decide decides, partition by partition if these are apart.
func (p *process) decide(ticket policy.Ticket, charges []policy.Charge, d *policy.Decision, take bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.quirk.ownClock {
		now = time.Now()
	}
	if p.quirk.reuse && len(d.Results) >= len(charges) {
		d.Results = d.Results[:len(charges)]
	} else {
		d.Reset(len(charges))
	}
	d.Now, d.Verdict = now, policy.Allowed

	groups := map[string][]int{}
	for i := range charges {
		group := ""
		if p.apart {
			group = charges[i].Place()
		}
		groups[group] = append(groups[group], i)
	}
	var took []int
	for _, group := range groups {
		verdict := p.joint(ticket, charges, group, d, now.UnixMicro(), take)
		if verdict != policy.Refused {
			took = append(took, group...)
		}
		d.Verdict = max(d.Verdict, verdict)
	}
	if d.Verdict != policy.Refused {
		return
	}
	if !take || p.quirk.noUndo {
		return
	}
	for _, i := range took {
		c := &charges[i]
		p.settle(ticket, &policy.Settlement{Charge: *c, Receipt: d.Results[i].Receipt})
	}
	for _, i := range took {
		c := &charges[i]
		d.Results[i] = p.peek(c.Limit, p.states[p.name(c)], now.UnixMicro(), p.units(charges, i))
	}
}

// joint decides one group, all or none.
func (p *process) joint(
	ticket policy.Ticket, charges []policy.Charge, group []int, d *policy.Decision, now int64, take bool,
) policy.Verdict {
	verdict := policy.Allowed
	after := map[string]policy.State{}
	taken := map[string]policy.Result{}
	for _, i := range group {
		c := &charges[i]
		r := p.peek(c.Limit, p.states[p.name(c)], now, p.units(charges, i))
		if take && c.Limit.Lease() > 0 && r.Verdict > policy.Allowed {
			if _, has := p.enter(c.Limit, p.states[p.name(c)], now, ticket); has.Verdict < r.Verdict {
				r = has
			}
		}
		if p.quirk.reuse && d.Results[i].RetryAfter > 0 {
			r.RetryAfter = d.Results[i].RetryAfter
		}
		d.Results[i] = r
		verdict = max(verdict, min(r.Verdict, policy.Refused))
	}
	if !take {
		return verdict
	}
	if p.quirk.unlocked {
		p.mu.Unlock()
		time.Sleep(time.Millisecond) // long enough for others to come between
		p.mu.Lock()
	}
	for _, i := range group {
		c := &charges[i]
		name := p.name(c)
		if r, ok := taken[name]; ok {
			if verdict != policy.Refused || r.Verdict == policy.Refused {
				d.Results[i] = r
			}
			continue
		}
		s := p.states[name]
		s.Log, s.Leases = slices.Clone(s.Log), slices.Clone(s.Leases)
		keep := verdict != policy.Refused || p.quirk.keepOnRefusal
		if units := p.units(charges, i); slotted(c) && units > 0 {
			after[name], taken[name] = p.enter(c.Limit, s, now, ticket)
			keep = keep || p.quirk.keepsPlace && taken[name].Verdict == policy.Queued
		} else {
			after[name], taken[name] = p.take(c.Limit, s, now, units)
			keep = keep && !(verdict == policy.Queued && p.quirk.queueAlone)
		}
		if keep || taken[name].Verdict == policy.Refused {
			d.Results[i] = taken[name]
		} else {
			delete(after, name)
		}
	}
	for name, s := range after {
		p.states[name] = s
	}
	return verdict
}

// reference is a harness for the counts after some change, through n processes.
func reference(n int, change func(*counts)) storetest.Harness {
	return func(tb testing.TB, now func() time.Time) *storetest.Bench {
		tb.Helper()
		c := newCounts(now)
		if change != nil {
			change(c)
		}
		b := &storetest.Bench{Partitioned: c.apart}
		end := make(chan struct{})
		for range n {
			b.Stores = append(b.Stores, &process{counts: c, end: end})
		}
		tb.Cleanup(func() { close(end) })
		b.Stall = func() (resume func()) {
			stalled := make(chan struct{})
			c.mu.Lock()
			c.stalled = stalled
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				c.stalled = nil
				c.mu.Unlock()
				close(stalled)
			}
		}
		return b
	}
}

// Usage implements [policy.Meter].
func (p *process) Usage(ctx context.Context, charges []policy.Charge) (usage []policy.Usage, err error) {
	if err := p.admit(ctx, charges); err != nil {
		return nil, err
	}
	if err := policy.CheckUsage(charges, 0); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range charges {
		usage = append(usage, charges[i].Limit.Usage(p.states[p.name(&charges[i])], p.now().UnixMicro()))
	}
	return usage, nil
}

// SetUsage implements [policy.Meter].
func (p *process) SetUsage(ctx context.Context, charge policy.Charge, used int64) error {
	if err := p.admit(ctx, []policy.Charge{charge}); err != nil {
		return err
	}
	if err := policy.CheckUsage([]policy.Charge{charge}, used); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	name := p.name(&charge)
	p.states[name] = p.set(charge.Limit, p.states[name], p.now().UnixMicro(), used)
	return nil
}
