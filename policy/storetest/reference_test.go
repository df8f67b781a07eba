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
	apart   bool          // decide partitions apart, and undo
	stalled chan struct{} // if not nil, replies wait until it is closed

	name  func(c *policy.Charge) string
	units func(charges []policy.Charge, i int) int64
	take  func(l policy.Limit, s policy.State, now, units int64) (policy.State, policy.Result)
	peek  func(l policy.Limit, s policy.State, now, units int64) policy.Result
	fix   func(l policy.Limit, s policy.State, now int64, r policy.Receipt, taken, total int64) policy.State
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
	leak           bool // leaves a goroutine
	neverClosed    bool
	resetKey       bool // forgets all of a key
	ownClock       bool
	reuse          bool // leaves old numbers in a decision
	keepsDecision  bool
	chargeBySettle bool // settles as of now, not of the receipt
	unlocked       bool // decides and commits under two locks
	refuseError    bool // answers done contexts with a refusal
}

func newCounts(now func() time.Time) *counts {
	return &counts{
		now: now, states: map[string]policy.State{}, tickets: map[policy.Ticket]int64{},
		name: func(c *policy.Charge) string {
			return fmt.Sprint(len(c.Place()), ":", c.Place(), " ", len(c.Key), ":", c.Key, " ", c.ID())
		},
		units: sum,
		take:  policy.Limit.Take,
		peek:  policy.Limit.Peek,
		set:   policy.Limit.SetUsage,
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

func (p *process) enter(ctx context.Context, charges []policy.Charge) error {
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

func (p *process) Take(ctx context.Context, _ policy.Ticket, charges []policy.Charge, d *policy.Decision) error {
	if err := p.enter(ctx, charges); err != nil {
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
	p.decide(charges, d, true)
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
	if charges = slices.Clone(charges); d.Verdict == policy.Allowed && !p.quirk.ignoreGone {
		receipts := slices.Clone(d.Results)
		go func() {
			<-stalled
			p.mu.Lock()
			defer p.mu.Unlock()
			for i := range charges {
				p.settle(&policy.Settlement{Charge: charges[i], Receipt: receipts[i].Receipt})
			}
		}()
	}
	return ctx.Err()
}

func (p *process) linger() { <-p.end }

func (p *process) Peek(ctx context.Context, charges []policy.Charge, d *policy.Decision) error {
	if err := p.enter(ctx, charges); err != nil {
		return err
	}
	p.decide(charges, d, p.quirk.peekCommits)
	return nil
}

func (p *process) Settle(ctx context.Context, ticket policy.Ticket, settlements []policy.Settlement) error {
	if err := p.enter(ctx, nil); err != nil {
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
	if at, ok := p.tickets[ticket]; ok && now-at < last*1_000_000 && !p.quirk.settleForever {
		return nil
	}
	p.tickets[ticket] = now
	for i := range settlements {
		p.settle(&settlements[i])
	}
	return nil
}

func (p *process) settle(s *policy.Settlement) {
	name, now, receipt := p.name(&s.Charge), p.now().UnixMicro(), s.Receipt
	if p.quirk.chargeBySettle {
		receipt.At = now
	}
	p.states[name] = p.fix(s.Charge.Limit, p.states[name], now, receipt, s.Charge.Units, s.Total)
}

func (p *process) Reset(ctx context.Context, charges []policy.Charge) error {
	if err := p.enter(ctx, charges); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range charges {
		delete(p.states, p.name(&charges[i]))
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
	return nil
}

// decide decides, partition by partition if these are apart.
func (p *process) decide(charges []policy.Charge, d *policy.Decision, take bool) {
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
	var refused bool
	var took []int
	for _, group := range groups {
		if p.joint(charges, group, d, now.UnixMicro(), take) {
			took = append(took, group...)
		} else {
			refused = true
		}
	}
	if !refused {
		return
	}
	d.Verdict = policy.Refused
	if !take || p.quirk.noUndo {
		return
	}
	for _, i := range took {
		c := &charges[i]
		name := p.name(c)
		p.states[name] = p.fix(c.Limit, p.states[name], now.UnixMicro(), d.Results[i].Receipt, c.Units, 0)
	}
	for _, i := range took {
		c := &charges[i]
		d.Results[i] = p.peek(c.Limit, p.states[p.name(c)], now.UnixMicro(), p.units(charges, i))
	}
}

// joint decides one group, all or none.
func (p *process) joint(charges []policy.Charge, group []int, d *policy.Decision, now int64, take bool) (allowed bool) {
	allowed = true
	after := map[string]policy.State{}
	taken := map[string]policy.Result{}
	for _, i := range group {
		c := &charges[i]
		r := p.peek(c.Limit, p.states[p.name(c)], now, p.units(charges, i))
		if p.quirk.reuse && d.Results[i].RetryAfter > 0 {
			r.RetryAfter = d.Results[i].RetryAfter
		}
		d.Results[i] = r
		allowed = allowed && r.Verdict == policy.Allowed
	}
	if !take {
		return allowed
	}
	if p.quirk.unlocked {
		p.mu.Unlock()
		time.Sleep(time.Microsecond)
		p.mu.Lock()
	}
	for _, i := range group {
		c := &charges[i]
		name := p.name(c)
		if r, ok := taken[name]; ok {
			if allowed || r.Verdict == policy.Refused {
				d.Results[i] = r
			}
			continue
		}
		s := p.states[name]
		s.Log = slices.Clone(s.Log)
		after[name], taken[name] = p.take(c.Limit, s, now, p.units(charges, i))
		if allowed || taken[name].Verdict == policy.Refused || p.quirk.keepOnRefusal {
			d.Results[i] = taken[name]
		} else {
			delete(after, name)
		}
	}
	for name, s := range after {
		p.states[name] = s
	}
	return allowed
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
	if err := p.enter(ctx, charges); err != nil {
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
	if err := p.enter(ctx, []policy.Charge{charge}); err != nil {
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
