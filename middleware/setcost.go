package middleware

import (
	"context"
	"errors"
	"fmt"
)

// SetCost says what a request has cost under the rule of that name, in units, in
// place of what it was charged. Call it in a handler, with the request's context,
// where the cost is known only afterwards. The last call for a rule holds. If
// several Limiters of the request have a rule of that name, it holds for each.
//
// The correction is sent once, with those of the Limiter's other rules, when the
// handler of the outermost Limiter returns, and at once if it has returned
// already. It never refuses: a total
// above the limit leaves a debt. It goes into the window that was charged. The
// response's header fields are not changed.
//
// Nothing happens for a rule that took nothing, such as one that was skipped.
// There is an error if the total is negative, if the context is not that of a
// request that a Limiter has handled, if none of its Limiters has such a rule, or
// if the correction of that Limiter was sent before.
func SetCost(ctx context.Context, rule string, total int64) error {
	if total < 0 {
		return fmt.Errorf("ratelimit: SetCost(%q, %d): write zero or more units", rule, total)
	}
	led := ledgerOf(ctx)
	if led == nil {
		return errors.New("ratelimit: SetCost: no Limiter has handled this request: pass the context of the handler's request")
	}
	known, late, owned := led.setCost(rule, total)
	switch {
	case !known:
		return fmt.Errorf("ratelimit: SetCost: none of the request's Limiters has a rule %q", rule)
	case late:
		return fmt.Errorf("ratelimit: SetCost(%q): the costs of its Limiter were sent before: set them while the handler runs", rule)
	}
	if !owned {
		led.settle()
	}
	return nil
}

func (led *ledger) setCost(rule string, total int64) (known, late, owned bool) {
	led.mu.Lock()
	defer led.mu.Unlock()
	for i := range led.takes {
		t := &led.takes[i]
		known = known || t.limiter.hasRule(rule)
		for j := range t.entries {
			if e := &t.entries[j]; e.rule.Name == rule {
				late = late || t.settled
				e.total, led.dirty = total, true
			}
		}
	}
	return known, late, led.owned
}

func (l *Limiter) hasRule(name string) bool {
	for _, r := range l.rules {
		if r.Name == name {
			return true
		}
	}
	return false
}
