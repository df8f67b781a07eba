package middleware

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/stint-go/stint/policy"
)

// Failed says that a request has failed, for the rules that lock out: where its
// status does not tell, as of a login form that is shown again with 200. Call it
// in the handler, with the request's context. The word goes before the status and
// before [Rule.Settle] and, of several, the last one holds.
//
// There is an error if the context is not that of a request that a Limiter has
// handled, or if the handler has returned.
func Failed(ctx context.Context) error { return say(ctx, "Failed", wordFailed) }

// Succeeded says that a request has not failed, as Failed says that it has. The
// pairs of a [Guard] forget their failures then.
func Succeeded(ctx context.Context) error { return say(ctx, "Succeeded", wordSucceeded) }

// A word is what a handler has said of its request.
type word uint8

const (
	wordFailed word = iota + 1
	wordSucceeded
)

func say(ctx context.Context, caller string, w word) error {
	led := ledgerOf(ctx)
	if led == nil {
		return fmt.Errorf("ratelimit: %s: no Limiter has handled this request: pass the context of the handler's request", caller)
	}
	led.mu.Lock()
	over, held := led.over, led.holds > 0
	if !over {
		led.word = w
	}
	led.mu.Unlock()
	if over {
		return fmt.Errorf("ratelimit: %s: the handler has returned: say so while it runs, or until a Hold ends", caller)
	}
	if !held { // Checks under a ledger of its own
		led.judge(w)
	}
	return nil
}

func isLockout(l *policy.Limit) bool { return l.Algorithm() == policy.AlgorithmLockout }

// locksOut tells whether limits are of lock-outs. A rule has no others beside
// them, since their charges are settled by other means.
func locksOut(limits []policy.Limit) (bool, error) {
	n := 0
	for i := range limits {
		if isLockout(&limits[i]) {
			n++
		}
	}
	if n > 0 && n < len(limits) {
		return false, errors.New("a Lockout beside other limits: write it in a rule of its own")
	}
	return n > 0, nil
}

// unauthorized tells whether a response says that its request has failed to show
// who it is, or what it may do.
func unauthorized(_ *http.Request, o Outcome) bool {
	return o.Status == http.StatusUnauthorized || o.Status == http.StatusForbidden
}

// settleBy returns a Settle for failures.
func settleBy(failed func(*http.Request, Outcome) bool) func(*http.Request, Outcome) int64 {
	return func(r *http.Request, o Outcome) int64 {
		if failed(r, o) {
			return max(1, o.Cost)
		}
		return 0
	}
}

// onlyLook takes nothing for the tries of a request that is not to be served.
func (p *pass) onlyLook() {
	for i, r := range p.rules {
		if r.lockout {
			p.charges[i].Units = 0
		}
	}
}

// heed settles the tries of lock-outs by the handler's word. What nothing was said
// of is no failure.
func (p *pass) heed(w word) {
	if !p.lockouts || !p.decided || p.judged {
		return
	}
	for i, r := range p.rules {
		switch {
		case !r.lockout:
		case w == wordFailed:
			p.setTotal(i, max(1, p.charges[i].Units))
		case w == wordSucceeded, p.totals == nil:
			p.setTotal(i, 0)
		}
	}
	if w != 0 {
		p.success = w == wordSucceeded
	}
}

// forgiven returns the charges whose failures are forgotten, since the request
// succeeded.
func (p *pass) forgiven() (forgiven []policy.Charge) {
	if !p.success || !p.decided || p.totals == nil {
		return nil
	}
	for i, r := range p.rules {
		if r.clears && p.totals[i] == 0 && p.decision.Results[i].Used > p.charges[i].Units {
			forgiven = append(forgiven, p.charges[i])
		}
	}
	return forgiven
}

// forgive forgets failures: behind the request while their node is away.
func (l *Limiter) forgive(ctx context.Context, charges []policy.Charge) {
	if len(charges) == 0 {
		return
	}
	reset := func() {
		ctx, cancel := l.bounded(ctx)
		defer cancel()
		if err := l.store.Reset(ctx, charges); err != nil {
			l.emit(Event{Kind: SettleFailed, Err: err})
		}
		l.blocks.forget(charges)
	}
	for i := range charges {
		if !l.health.mayWait(l, &charges[i]) {
			l.health.errand(reset)
			return
		}
	}
	reset()
}

// Blocked tells an operator until when a key is blocked by a rule's lock-outs, by
// the store's clock. It is the zero Time if the key is not blocked. The key is what
// the rule's Key says of its requests; several strings are the parts of a [Join]. The
// pairs of a [Guard] have two: address and account. Of a Guard's rules an address may
// be any of its network, where Guard.IP tells that of a connection's peer, and an
// account in any spelling. A rule with LimitsFor has its lock-outs by request: of
// those nothing can be told, and there is an error.
func (l *Limiter) Blocked(ctx context.Context, rule string, key ...string) (until time.Time, err error) {
	charges, err := l.lockouts("Blocked", rule, key)
	if err != nil {
		return time.Time{}, err
	}
	var d policy.Decision
	if err := l.store.Peek(ctx, charges, &d); err != nil {
		return time.Time{}, err
	}
	for i := range d.Results {
		if r := &d.Results[i]; r.Blocked && d.Now.Add(r.RetryAfter).After(until) {
			until = d.Now.Add(r.RetryAfter)
		}
	}
	return until, nil
}

// Unblock lets an operator end the blocks of a key, and forget its failures and
// past blocks: in the store and, under [FailLocal], in this process's memory, also
// where the store fails and the error says so. Rule and key are as in
// [Limiter.Blocked]. Other processes notice within a second.
func (l *Limiter) Unblock(ctx context.Context, rule string, key ...string) error {
	charges, err := l.lockouts("Unblock", rule, key)
	if err != nil {
		return err
	}
	err = l.store.Reset(ctx, charges)
	l.blocks.forget(charges)
	if l.local != nil {
		err = errors.Join(err, l.local.store.Reset(ctx, charges))
	}
	return err
}

// lockouts returns charges of no units for the lock-outs of a rule.
func (l *Limiter) lockouts(caller, rule string, key []string) ([]policy.Charge, error) {
	for _, r := range l.rules {
		if r.Name != rule || !r.lockout || r.Partition != nil || r.LimitsFor != nil {
			continue
		}
		subjects, err := r.subjects(key)
		if err != nil {
			return nil, fmt.Errorf("ratelimit: %s: %w", caller, err)
		}
		var charges []policy.Charge
		for _, subject := range subjects {
			for _, l := range r.Limits {
				charges = append(charges, policy.Charge{Limit: l, Scope: r.scope, Key: subject})
			}
		}
		return charges, nil
	}
	return nil, fmt.Errorf("ratelimit: %s: no rule %q with a Lockout among its Limits, and without LimitsFor and Partition", caller, rule)
}

// subjects returns the keys that the parts of one may mean.
func (r *rule) subjects(parts []string) ([]string, error) {
	switch {
	case len(parts) == 0:
		return nil, errors.New("no key: write whose it is")
	case r.parts != nil && len(parts) != len(r.parts):
		return nil, fmt.Errorf("rule %q: a key of %d parts: write %d", r.Name, len(parts), len(r.parts))
	}
	combined := [][]KeyFunc{nil}
	for i, part := range parts {
		readings := []string{part}
		if r.parts != nil {
			readings = r.parts[i](part)
		}
		var longer [][]KeyFunc
		for _, keys := range combined {
			for _, reading := range readings {
				said := func(*http.Request) (string, error) { return reading, nil }
				longer = append(longer, append(slices.Clip(keys), said))
			}
		}
		combined = longer
	}
	subjects := make([]string, len(combined))
	for i, keys := range combined {
		key := keys[0]
		if len(keys) > 1 {
			key = Join(keys...)
		}
		var err error
		if subjects[i], err = ask(key, nil); err != nil {
			return nil, err
		}
	}
	return subjects, nil
}
