package middleware

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// queue waits for the slot that the decision is queued for. Afterwards the
// decision is Allowed, or there is a reason, or the client has gone and the
// decision is still Queued.
func (p *pass) queue() {
	client := p.request.Context()
	i := p.queued()
	rule, charge := p.rules[i], &p.charges[i]
	_, wait := charge.Limit.Queue()
	expected := rule.expect(p.decision.Results[i].Queue, charge.Limit.N())
	if deadline, ok := client.Deadline(); ok {
		wait = min(wait, time.Until(deadline))
	}
	if expected > wait {
		p.leave(i, expected)
		return
	}

	began := time.Now()
	ctx, cancel := context.WithTimeout(client, wait)
	defer cancel()
	if p.serving {
		p.ahead = readAhead(p.request)
	}
	result, err := p.await(ctx, charge)
	p.waited = time.Since(began)
	p.age(p.waited)
	switch {
	case client.Err() != nil:
	case err == nil && result.Verdict == policy.Allowed:
		p.decision.Results[i], p.decision.Verdict = result, policy.Allowed
	case err == nil, errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		p.leave(i, expected)
	default:
		p.err = err
		p.failOne(i)
		if p.shut != nil {
			p.giveBack(client)
			p.decided, p.reason, p.rule = false, respond.StoreUnavailable, rule
			return
		}
		// What is left of its place is given back with all else.
		p.decision.Verdict, p.decision.Results[i].Verdict = policy.Allowed, policy.Unknown
	}
}

// await waits for the slot. A place that was lost, with all that the store had, is
// asked for again a few times.
func (p *pass) await(ctx context.Context, charge *policy.Charge) (policy.Result, error) {
	for tries := 0; ; tries++ {
		result, err := p.limiter.store.Wait(ctx, p.ticket, *charge)
		if err != nil || result.Verdict != policy.Refused || tries == maxRequeues {
			return result, err
		}
		if result, err = p.requeue(charge); err != nil || result.Verdict != policy.Queued {
			return result, err
		}
	}
}

// age tells the results that time has passed since the decision.
func (p *pass) age(d time.Duration) {
	p.decision.Now = p.decision.Now.Add(d)
	for i := range p.decision.Results {
		r := &p.decision.Results[i]
		r.ResetAfter, r.NextAfter = max(0, r.ResetAfter-d), max(0, r.NextAfter-d)
	}
}

// maxRequeues is how often a request whose place was lost, with all that the
// store had, asks for another.
const maxRequeues = 3

// queued returns which charge waits, or -1.
func (p *pass) queued() int { return queuedIn(&p.decision) }

// requeue asks for a place again. The request's other charges are held on.
func (p *pass) requeue(charge *policy.Charge) (policy.Result, error) {
	ctx, cancel := p.limiter.bounded(p.request.Context())
	defer cancel()
	var d policy.Decision
	if err := p.limiter.store.Take(ctx, p.ticket, []policy.Charge{*charge}, &d); err != nil {
		return policy.Result{}, err
	}
	if len(d.Results) != 1 {
		return policy.Result{}, errNoDecision
	}
	return d.Results[0], nil
}

// leave gives up the place of the i-th charge, and all else.
func (p *pass) leave(i int, expected time.Duration) {
	if p.giveBack(p.request.Context()) {
		p.giveBackResults()
	}
	p.decision.Results[i].Verdict, p.decision.Results[i].RetryAfter = policy.Refused, expected
	p.decision.Verdict = policy.Refused
	p.reason, p.rule = respond.QueueTimeout, p.rules[i]
}

// A meanHold is how long a rule's requests hold a slot, in nanoseconds: a mean
// that forgets, of this process alone. Zero means that none has ended yet.
type meanHold struct{ atomic.Int64 }

func (m *meanHold) add(held time.Duration) {
	const weight = 8
	for {
		old := m.Load()
		mean := int64(held)
		if old > 0 {
			mean = old + (int64(held)-old)/weight
		}
		if m.CompareAndSwap(old, max(mean, 1)) {
			return
		}
	}
}

// expect returns how long the request at a place of a queue for n slots is
// expected to wait, as far as that is known.
func (r *rule) expect(place, n int64) time.Duration {
	return time.Duration(float64(r.hold.Load()) * float64(place) / float64(n))
}

// An ahead is a small body that is read while its request waits: net/http
// notices that a client of HTTP/1 has gone only once the body has been read.
type ahead struct{ done chan struct{} }

// maxAhead is the largest body that is read ahead. Of a larger one the end of
// its client is noticed at the end of the wait.
const maxAhead = 64 << 10

// readAhead begins to read the body, if it is a small one, and keeps it for the
// handler. It is nil for a request without.
func readAhead(r *http.Request) *ahead {
	if r.ContentLength > maxAhead || r.ProtoMajor > 1 {
		return nil
	}
	body := keep(r)
	if body == nil {
		return nil
	}
	a := &ahead{make(chan struct{})}
	go func() {
		defer close(a.done)
		body.ahead(maxAhead)
	}()
	return a
}

// abandon ends the reading, for a request that was not served and is answered. The
// connection ends with it, where the client has not sent all.
func (a *ahead) abandon(w http.ResponseWriter) {
	if a == nil {
		return
	}
	select {
	case <-a.done:
		return
	default:
	}
	if http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) == nil {
		<-a.done
	}
}
