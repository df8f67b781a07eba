package middleware

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/felixge/httpsnoop"

	"github.com/stint-go/stint/policy"
)

// An Outcome is how a request ended, for [Rule.Settle].
type Outcome struct {
	// Status is that of the response: 200 if the handler wrote none, and 500 if
	// it panicked before it did.
	Status int

	// Written is the length of the body as the handler wrote it, in bytes.
	Written int64

	// Elapsed is how long the handler took.
	Elapsed time.Duration

	// Cost is what the rule has cost so far, in units: as charged, or as SetCost
	// said.
	Cost int64
}

// observed serves the request, and settles then what rules say of the outcome. The
// response writer is wrapped for this, with all that it can do.
func (l *Limiter) observed(led *ledger, ticket policy.Ticket, w http.ResponseWriter, r *http.Request, next http.Handler) {
	var m httpsnoop.Metrics
	began, panicked, submits := time.Now(), true, l.submits(r) // before a handler changes the header
	defer func() {
		o := Outcome{Status: m.Code, Written: m.Written, Elapsed: time.Since(began)}
		silent := m.Code == 0 && m.Written == 0
		switch {
		case o.Status > 0:
		case panicked && silent:
			o.Status = http.StatusInternalServerError
		default:
			o.Status = http.StatusOK
		}
		cut := panicked || silent && r.Context().Err() != nil
		led.conclude(l, ticket, r, o, !cut && o.Status < http.StatusBadRequest && submits)
	}()
	m.CaptureMetrics(w, func(w http.ResponseWriter) { next.ServeHTTP(w, r) })
	panicked = false
}

// submits tells whether a request is of a method by which something is submitted.
// What others are answered is no success: the form of a login is answered 200, too.
func (l *Limiter) submits(r *http.Request) bool {
	for _, method := range r.Header[l.methodOverride] { // "" if none is honoured
		if !submits(strings.ToUpper(strings.TrimSpace(method))) {
			return false
		}
	}
	return submits(r.Method)
}

func submits(method string) bool {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return true
	}
	return false
}

// conclude sets what a request has cost by its outcome, under the rules of one
// limiter's take, if the ledger still has that. Whether it succeeded counts for what
// was no failure.
func (led *ledger) conclude(l *Limiter, ticket policy.Ticket, r *http.Request, o Outcome, success bool) {
	for _, rule := range l.rules {
		if rule.Settle == nil {
			continue
		}
		cost, ok := led.costOf(l, ticket, rule)
		if !ok {
			continue
		}
		o.Cost = cost
		if total := max(0, rule.Settle(r, o)); total != cost || rule.lockout {
			led.mu.Lock()
			if p := led.pass(l, ticket, rule); p != nil {
				if total != cost || total > 0 {
					p.setCost(rule.Name, total, nil)
					led.stale = true
				}
				p.success = success
			}
			led.mu.Unlock()
		}
	}
}

// costOf returns what a rule has cost so far. It is false if it took nothing.
func (led *ledger) costOf(l *Limiter, ticket policy.Ticket, r *rule) (cost int64, ok bool) {
	led.mu.Lock()
	defer led.mu.Unlock()
	p := led.pass(l, ticket, r)
	if p == nil {
		return 0, false
	}
	i := slices.Index(p.rules, r)
	if i < 0 {
		return 0, false
	}
	return p.total(i), true
}

// pass returns what a limiter took by a ticket under a rule, of the store or in
// memory, or nil. It is called with the lock.
func (led *ledger) pass(l *Limiter, ticket policy.Ticket, r *rule) *pass {
	for p := led.first; p != nil; p = p.next {
		own := p.limiter == l && p.ticket == ticket || p.limiter == l.local && p.beside == ticket
		if own && p.decided && slices.Contains(p.rules, r) {
			return p
		}
	}
	return nil
}
