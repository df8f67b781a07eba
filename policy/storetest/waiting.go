package storetest

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 15 too: Wait. A case does not sleep; what it waits for is bounded by
// its patience.
var waitingCases = []Case{
	{Number: 15, Name: "wait until another leaves", check: waitGranted},
	{Number: 15, Name: "wait for what was granted already", check: waitNotAtAll},
	{Number: 15, Name: "wait in the order of arrival", check: waitInOrder},
	{Number: 15, Name: "wait for a holder who died", check: waitForTheDead},
	{Number: 15, Name: "wait for what is lost", check: waitForNothing},
	{Number: 15, Name: "wait until the context ends", check: waitInVain},
}

// A wait is one under way.
type wait struct {
	p    *probe
	t    taken
	done chan error
	r    policy.Result
}

// wait waits for the slot of the first charge. It returns when that is under way,
// as far as a look at the clock shows it.
func (p *probe) wait(t taken) *wait {
	w := &wait{p: p, t: t, done: make(chan error, 1)}
	if p.err != nil {
		w.done <- nil
		return w
	}
	s, reads := p.store(), p.clock.reads.Load()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var err error
		w.r, err = s.Wait(ctx, t.ticket, t.charges[0])
		w.done <- err
	}()
	const soon = 100 * time.Millisecond
	for deadline := time.Now().Add(soon); p.clock.reads.Load() == reads && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	return w
}

// ends wants the wait to end with a verdict.
func (w *wait) ends(want policy.Verdict) {
	err := <-w.done
	switch {
	case w.p.err != nil:
	case err != nil:
		w.p.failf("Wait for %s: error %w, want %v", describe(w.t.charges[:1]), err, want)
	case w.r.Verdict != want:
		w.p.failf("Wait for %s: %v, want %v; %+v", describe(w.t.charges[:1]), w.r.Verdict, want, w.r)
	}
}

func waitGranted(p *probe) {
	c, rate := in("w", charge(policy.Concurrency(1).WithQueue(2, time.Minute).WithLease(time.Hour), "k", 1)), in("w", charge(policy.PerHour(9), "k", 3))
	first := p.admit(c, rate)
	for range 10 {
		second := p.queue(c, rate)
		w := p.wait(second)
		p.leave(first)
		w.ends(policy.Allowed)
		p.occupied(1, 0, c)
		p.stands(second, policy.Allowed, 0)
		p.used(6, rate)
		p.settle(second, 1, 0)
		first = second
	}
}

func waitNotAtAll(p *probe) {
	c := charge(policy.Concurrency(1).WithQueue(2, time.Minute).WithLease(time.Hour), "k", 1)
	first := p.admit(c)
	p.wait(first).ends(policy.Allowed)
	second := p.queue(c)
	p.leave(first)
	p.wait(second).ends(policy.Allowed)
	p.wait(second).ends(policy.Allowed)
	p.occupied(1, 0, c)
}

// waitInOrder has many wait, each of whom leaves when it is there.
func waitInOrder(p *probe) {
	const line = 20
	c := charge(policy.Concurrency(1).WithQueue(line, time.Minute).WithLease(time.Hour), "k", 1)
	first := p.admit(c)
	var waits []*wait
	for range line {
		waits = append(waits, p.wait(p.queue(c)))
	}
	p.leave(first)
	for i, w := range waits {
		w.ends(policy.Allowed)
		for j, later := range waits[i+1:] {
			select {
			case err := <-later.done:
				p.failf("number %d came before number %d had left: %v, error %v", i+1+j, i, later.r.Verdict, err)
			default:
			}
			if p.err != nil {
				return
			}
		}
		p.occupied(1, int64(line-1-i), c)
		p.leave(w.t)
	}
	p.occupied(0, 0, c)
}

// waitForTheDead waits on a short lease, in which a store looks for itself.
func waitForTheDead(p *probe) {
	const lease = 600 * time.Millisecond
	c := charge(policy.Concurrency(1).WithQueue(2, time.Minute).WithLease(lease), "k", 1)
	p.admit(c)
	p.advance(lease / 2)
	w := p.wait(p.queue(c))
	p.advance(lease / 2)
	w.ends(policy.Allowed)
	p.occupied(1, 0, c)
}

func waitForNothing(p *probe) {
	const lease = 600 * time.Millisecond
	c := charge(policy.Concurrency(1).WithQueue(2, time.Minute).WithLease(lease), "k", 1)
	for name, lose := range map[string]func(t taken){
		"by reset": func(taken) { p.reset(c) },
		"itself":   func(t taken) { p.leave(t) },
		"by time":  func(taken) { p.advance(lease) },
	} {
		p.admit(c)
		t := p.queue(c)
		w := p.wait(t)
		lose(t)
		if w.ends(policy.Refused); p.err != nil {
			p.err = fmt.Errorf("lost %s: %w", name, p.err)
			return
		}
		p.reset(c)
	}
	p.wait(taken{ticket: policy.NewTicket(), charges: []policy.Charge{c}}).ends(policy.Refused)
}

func waitInVain(p *probe) {
	c := charge(policy.Concurrency(1).WithQueue(2, time.Minute).WithLease(time.Hour), "k", 1)
	first := p.admit(c)
	second, third := p.queue(c), p.queue(c)
	if p.err != nil {
		return
	}
	const soon = 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	begun := time.Now()
	r, err := p.store().Wait(ctx, second.ticket, c)
	p.wantError(fmt.Sprintf("Wait with %v to go: %v;", soon, r.Verdict), err, context.DeadlineExceeded)
	if took := time.Since(begun); took > time.Second {
		p.failf("a Wait with %v to go returned after %v", soon, took)
	}
	// It keeps its place, and may wait again.
	p.stands(second, policy.Queued, 1)
	p.stands(third, policy.Queued, 2)
	w := p.wait(second)
	p.leave(first)
	w.ends(policy.Allowed)
}
