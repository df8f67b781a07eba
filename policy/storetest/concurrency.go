package storetest

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 19: concurrency, and the end.
var concurrencyCases = []Case{
	{Number: 19, Name: "a hot key admits its limit, not one more", check: hotKey},
	{Number: 19, Name: "operations of all kinds at once", check: allAtOnce},
	{Number: 19, Name: "the store keeps neither charges nor decision", check: keepsNothing},
	{Number: 19, Name: "close", check: closes},
}

// hotTakes is how many Takes meet one key at once, over all stores.
const hotTakes = 2000

func hotKey(p *probe) {
	for _, l := range every(100, time.Hour) {
		c := charge(l, "hot", 1)
		if got := p.concurrently(hotTakes, c); got != 100 {
			p.failf("%d Takes at once of %s through %d stores admitted %d, want 100", hotTakes, l, len(p.Stores), got)
		}
		p.used(100, c)
	}
}

// allAtOnce is for the race detector, and counts: what is taken and given back
// whole leaves nothing.
func allAtOnce(p *probe) {
	const workers, rounds = 16, 30
	var (
		all   sync.WaitGroup
		wrong atomic.Pointer[error]
	)
	for w := range workers {
		s := p.Stores[w%len(p.Stores)]
		all.Go(func() {
			for i := range rounds {
				l := every(1_000, time.Hour)[i%4]
				mine := in("w", charge(l, string(rune('a'+w)), 1))
				shared := in("w", charge(l, "shared", 3))
				if err := p.round(s, mine, shared); err != nil {
					wrong.Store(&err)
				}
			}
		})
	}
	all.Wait()
	if err := wrong.Load(); err != nil {
		p.failf("%w", *err)
	}
	for _, l := range every(1_000, time.Hour) {
		p.used(0, in("w", charge(l, "shared", 0)))
	}
}

// round takes, settles twice, peeks and resets.
func (p *probe) round(s policy.Store, mine, shared policy.Charge) error {
	ctx, ticket := context.Background(), policy.NewTicket()
	charges := []policy.Charge{mine, shared}
	var d policy.Decision
	if err := s.Take(ctx, ticket, charges, &d); err != nil {
		return fmt.Errorf("concurrent Take: %w", err)
	}
	if d.Verdict != policy.Allowed {
		return fmt.Errorf("concurrent Take: %v; %+v", d.Verdict, d.Results)
	}
	settlements := taken{Decision: d, charges: charges}.settlements(1, 0)
	for range 2 {
		if err := s.Settle(ctx, ticket, settlements); err != nil {
			return fmt.Errorf("concurrent Settle: %w", err)
		}
	}
	if err := s.Peek(ctx, charges, &d); err != nil {
		return fmt.Errorf("concurrent Peek: %w", err)
	}
	if used := d.Results[0].Used; used != 1 {
		return fmt.Errorf("a key of one's own has %d used, want 1", used)
	}
	if err := s.Reset(ctx, charges[:1]); err != nil {
		return fmt.Errorf("concurrent Reset: %w", err)
	}
	return nil
}

func keepsNothing(p *probe) {
	if p.err != nil {
		return
	}
	charges := []policy.Charge{charge(policy.PerHour(100), "a", 1), charge(policy.SlidingLog(100, time.Hour), "b", 1)}
	for range len(p.Stores) + 1 {
		var d policy.Decision
		t := taken{ticket: policy.NewTicket(), charges: charges}
		s := p.store()
		err := s.Take(context.Background(), t.ticket, t.charges, &d)
		if err != nil {
			p.failf("Take: error %w", err)
			return
		}
		kept := d.Results
		t.Results = append(t.Results, d.Results...)
		settlements := t.settlements(1, 1)
		if err := s.Settle(context.Background(), t.ticket, settlements); err != nil {
			p.failf("Settle: error %w", err)
		}
		// A store that still reads these is caught by the race detector, one
		// that writes to them here.
		clear(settlements)
		clear(kept)
		d = policy.Decision{}
		mine := slices.Clone(charges)
		if err := s.Take(context.Background(), policy.NewTicket(), mine, &policy.Decision{}); err != nil {
			p.failf("Take: error %w", err)
		}
		clear(mine)
		for _, r := range kept {
			if r != (policy.Result{}) {
				p.failf("the store wrote to the decision of an earlier Take")
			}
		}
	}
	want := int64(2 * (len(p.Stores) + 1))
	p.used(want, charges[0])
	p.used(want, charges[1])

	// A decision that is used again is written whole.
	d := policy.Decision{Verdict: policy.Refused, Results: make([]policy.Result, 5, 9)}
	for i := range d.Results[:9] {
		d.Results[:9][i] = policy.Result{Verdict: policy.Never, Overflow: true, RetryAfter: 1, NextAfter: 1, ResetAfter: 1, Used: 99}
	}
	fresh := p.peek(charges...)
	if err := p.store().Peek(context.Background(), charges, &d); err != nil {
		p.failf("Peek: error %w", err)
	}
	p.same("with a used decision, Peek", taken{Decision: d, charges: charges}, fresh)
}

// closes closes the stores while they are used, and looks for what they left.
func closes(p *probe) {
	const label = "storetest"
	id := string(fmt.Appendf(nil, "%p", p))
	c := charge(policy.PerHour(1_000_000), "k", 1)
	slot := charge(policy.Concurrency(1).WithQueue(10_000, time.Minute).WithLease(time.Hour), "k", 1)
	p.admit(slot)
	var line []taken
	for range max(8, len(p.Stores)) {
		line = append(line, p.queue(slot))
	}
	if p.err != nil {
		return
	}
	// Goroutines inherit the labels of the one that starts them.
	pprof.Do(context.Background(), pprof.Labels(label, id), func(ctx context.Context) {
		var users, busy sync.WaitGroup
		unclosed := make(chan error, len(line))
		for i := range max(8, len(p.Stores)) {
			s := p.Stores[i%len(p.Stores)]
			busy.Add(1)
			users.Go(func() {
				var d policy.Decision
				err := s.Take(ctx, policy.NewTicket(), []policy.Charge{c}, &d)
				busy.Done()
				if i%2 == 1 {
					unclosed <- waitForClose(ctx, s, line[i])
					return
				}
				// Until somebody closes the store, and not forever.
				for deadline := time.Now().Add(patience); err == nil && time.Now().Before(deadline); {
					err = s.Take(ctx, policy.NewTicket(), []policy.Charge{c}, &d)
				}
			})
		}
		busy.Wait()
		for _, s := range p.Stores {
			_ = s.Close()
		}
		users.Wait()
		close(unclosed)
		for err := range unclosed {
			p.wantError("Wait while the store is closed", err, policy.ErrClosed)
		}
	})
	p.closed(c)

	for deadline := time.Now().Add(patience); p.err == nil; time.Sleep(time.Millisecond) {
		left := p.goroutines(label, id)
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			p.failf("%v after Close there are goroutines of the store still:\n%s", patience, left)
		}
	}
}

// waitForClose waits in vain, and for a bounded time.
func waitForClose(ctx context.Context, s policy.Store, t taken) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := s.Wait(ctx, t.ticket, t.charges[0])
	return err
}

// closed wants all calls to be answered with ErrClosed.
func (p *probe) closed(c policy.Charge) {
	ctx, charges := context.Background(), []policy.Charge{c}
	for _, s := range p.Stores {
		var d policy.Decision
		p.wantError("Take after Close", s.Take(ctx, policy.NewTicket(), charges, &d), policy.ErrClosed)
		p.wantError("Peek after Close", s.Peek(ctx, charges, &d), policy.ErrClosed)
		p.wantError("Reset after Close", s.Reset(ctx, charges), policy.ErrClosed)
		p.wantError("Renew after Close", s.Renew(ctx, []policy.Renewal{{Charge: charge(leased(1), "k", 1)}}), policy.ErrClosed)
		_, err := s.Wait(ctx, policy.NewTicket(), charge(leased(1), "k", 1))
		p.wantError("Wait after Close", err, policy.ErrClosed)
		p.wantError("Settle after Close", s.Settle(ctx, policy.NewTicket(), []policy.Settlement{{Charge: c}}), policy.ErrClosed)
	}
}

// goroutines returns the stacks of goroutines that carry the label and run code
// of a store's package. A client that was handed to the store may have some of
// its own, which are not the store's to end.
func (p *probe) goroutines(label, id string) string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		p.failf("goroutine profile: %w", err)
	}
	want := fmt.Sprintf("%q:%q", label, id)
	left := ""
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if !strings.Contains(stack, want) {
			continue
		}
		for _, s := range p.Stores {
			t := reflect.TypeOf(s)
			if t.Kind() == reflect.Pointer {
				t = t.Elem()
			}
			if strings.Contains(stack, t.PkgPath()+".") {
				left += stack + "\n\n"
				break
			}
		}
	}
	return left
}
