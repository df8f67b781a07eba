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
// handler of the outermost Limiter has returned, or the last [Hold] ended. It
// never refuses: a total above the limit leaves a debt. It goes into the window
// that was charged. The response's header fields are not changed.
//
// Nothing happens for a rule that took nothing, such as one that was skipped.
// There is an error if the total is negative, if the context is not that of a
// request that a Limiter has handled, if none of its Limiters has such a rule, or
// if the handler has returned.
func SetCost(ctx context.Context, rule string, total int64) error {
	if total < 0 {
		return fmt.Errorf("ratelimit: SetCost(%q, %d): write zero or more units", rule, total)
	}
	led := ledgerOf(ctx)
	if led == nil {
		return errors.New("ratelimit: SetCost: no Limiter has handled this request: pass the context of the handler's request")
	}
	switch known, over := led.setCost(rule, total); {
	case over:
		return fmt.Errorf("ratelimit: SetCost(%q): the costs were sent before: set them while the handler runs, or until a Hold ends", rule)
	case !known:
		return fmt.Errorf("ratelimit: SetCost: none of the request's Limiters has a rule %q", rule)
	}
	return nil
}

func (led *ledger) setCost(rule string, total int64) (known, over bool) {
	led.mu.Lock()
	held := led.holds > 0
	for p := led.first; p != nil; p = p.next {
		known = known || p.limiter.hasRule(rule)
		if !p.decided {
			continue
		}
		over = p.setCost(rule, total) && p.settled || over
	}
	over = over || !known && led.over
	led.mu.Unlock()
	if !held { // a Check under a ledger of its own
		led.settle()
	}
	return known, over
}

func (l *Limiter) hasRule(name string) bool {
	for _, r := range l.rules {
		if r.Name == name {
			return true
		}
	}
	return false
}
