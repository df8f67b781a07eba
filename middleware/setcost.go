package middleware

import (
	"context"
	"fmt"
	"math"
)

// SetCost says what a request has cost under the rule of that name, in units, in
// place of what it was charged. Call it in a handler, with the request's context,
// where the cost is known only afterwards. The last call for a rule holds. If
// several Limiters of the request have a rule of that name, it holds for each.
// Less than the rule's MinCost is that.
//
// The correction is sent once, with those of the Limiter's other rules, when the
// handler of the outermost Limiter has returned, or the last [Hold] ended. It
// never refuses: a total above the limit leaves a debt. It goes into the window
// that was charged.
//
// The response's header fields tell of it, if they are not sent yet: SetCost
// writes them anew, and so is a use of the response writer's Header, which belongs
// to the goroutine of the handler, or to one that it waits for. Call it before the
// first write. Where another goroutine may write the response meanwhile, SetCost
// leaves the fields alone, and may be called: after a [Hold], and with a context
// that has an end of its own, as inside of http.TimeoutHandler or of an errgroup.
// Then the fields tell of it if nothing was sent when the handler returns.
//
// Nothing happens for a rule that took nothing, such as one that was skipped.
// There is an error if the total is negative, if the context is not that of a
// request that a Limiter has handled, if none of its Limiters has such a rule, or
// if the handler has returned.
func SetCost(ctx context.Context, rule string, total int64) error {
	if total < 0 {
		return fmt.Errorf("ratelimit: SetCost(%q, %d): write zero or more units", rule, total)
	}
	return setCost(ctx, "SetCost", rule, total, nil)
}

// SetCosts is [SetCost] with the parts of the cost, which take the place of those
// that were asked. It keeps nothing of costs.
func SetCosts(ctx context.Context, rule string, costs Costs) error {
	if err := checkCosts(costs); err != nil {
		return fmt.Errorf("ratelimit: SetCosts(%q): %w: write zero or more units", rule, err)
	}
	total, parts := atMost(append(Costs{}, costs...), math.MaxInt64)
	return setCost(ctx, "SetCosts", rule, total, parts)
}

func setCost(ctx context.Context, call, rule string, total int64, parts Costs) error {
	led := ledgerOf(ctx)
	if led == nil {
		return fmt.Errorf("ratelimit: %s: no Limiter has handled this request: pass the context of the handler's request", call)
	}
	switch known, over := led.setCost(ctx, rule, total, parts); {
	case over:
		return fmt.Errorf("ratelimit: %s(%q): the costs were sent before: set them while the handler runs, or until a Hold ends", call, rule)
	case !known:
		return fmt.Errorf("ratelimit: %s: none of the request's Limiters has a rule %q", call, rule)
	}
	return nil
}

func (led *ledger) setCost(ctx context.Context, rule string, total int64, parts Costs) (known, over bool) {
	led.mu.Lock()
	held := led.holds > 0
	for p := led.first; p != nil; p = p.next {
		known = known || p.limiter.hasRule(rule)
		if !p.decided {
			continue
		}
		set := p.setCost(rule, total, parts)
		led.stale = led.stale || set
		over = set && p.settled || over
	}
	over = over || !known && led.over
	inHandler := !led.apart && ctx.Done() == led.Done()
	led.mu.Unlock()
	switch {
	case !held: // a Check under a ledger of its own
		led.settle()
	case inHandler:
		led.writeFields(nil)
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
