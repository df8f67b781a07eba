package middleware

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// A Limiter is rules over a Store. [New] makes one; the zero Limiter is of no
// use. It does not change, and is safe for concurrent use.
type Limiter struct {
	name      string
	store     policy.Store
	ownsStore bool
	shared    bool // store and leases are another Limiter's to close
	inMemory  bool // the store answers without I/O
	rules     []*rule
	matcher   *matcher // nil if every request meets all rules
	style     respond.Style
	styles    map[string]*respond.Style
	styleFor  func(*http.Request) string
	scale     *Scale
	budget    time.Duration
	observe   func(Event)
	alarm     *alarm
	leases    *leases
	quotas    *quotaWatch
	health    *health
	fallback  *fallback
	local     *Limiter     // the same over memory, for rules with FailLocal; or nil
	blocks    *knownBlocks // nil if the store is always asked

	foldCase       bool
	methodOverride string // canonical
}

// Handler returns next with the limits in front of it: a middleware for chi's
// Use and With, or to wrap any handler. It may be called any number of times;
// all handlers share the counts.
//
// A request that every rule allows is served with header fields that tell how it
// stands, and any other is refused, in the style that Config says. The response writer
// is handed on as it is, unless a rule has Settle: then it is wrapped, and does
// all that it did. The request is handed on with a context that leads to
// the ledger of what was taken; see [NewLedger].
//
// If the request's context has ended when the decision falls, the request is
// neither served nor refused: what it took is given back. The answer is a bare
// 503. A client that has gone does not see it; one that has not, because it was
// the server or a middleware that ended the context, must not take silence for
// success.
func (l *Limiter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.serve(w, r, next)
	})
}

// With returns a Limiter that has the given rules besides l's: for a group of
// routes that is mounted with it instead of l. It asks all of them in one round
// trip. It shares l's name, store and counts; closing it does nothing.
func (l *Limiter) With(rules ...Rule) (*Limiter, error) {
	wider := *l
	wider.shared = true
	wider.rules = slices.Clip(l.rules)
	if err := wider.add(rules); err != nil {
		return nil, err
	}
	if err := wider.prepare(); err != nil {
		return nil, err
	}
	return &wider, nil
}

// Close ends what the Limiter started: the renewing of slots, so that those that
// are still held come free in a lease, what goes on behind requests, being counted
// among the instances, and its own store, if it was given none. Close it before its
// store. It is not to be used after that: over its own store its rules fail as they
// say, and over another's nobody would renew the slots that they grant.
func (l *Limiter) Close() error {
	if l.shared {
		return nil
	}
	l.leases.close()
	l.health.close()
	l.fallback.close()
	if l.ownsStore {
		return l.store.Close()
	}
	return nil
}

func (l *Limiter) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	p := l.newPass(r, ledgerOf(r.Context()))
	p.serving = true
	p.decide()
	switch {
	case p.gone:
		p.abandon()
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusServiceUnavailable)
		p.ahead.abandon(w)
		p.free()
		return
	case p.reason != "":
		p.style.Refuse(w, r, p.refuse())
		p.ahead.abandon(w)
		p.free()
		return
	}

	if p.bound().decided {
		p.report.Standings = p.report.Standings[:0]
		p.tell(&p.report)
		p.header = w.Header()
		p.style.WriteFields(p.header, &p.report)
	}
	p.announce()
	// Once the ledger has the pass, another goroutine of the request may end it.
	led, ticket, observed := p.ledger, p.ticket, p.outcome
	p.request, p.ledger = nil, nil
	p.split()
	if led == nil {
		r, led = open(r, p)
		defer led.end(w.Header()) // also after a panic
	} else {
		first := led.enter()
		led.record(p)
		if first {
			defer led.end(w.Header())
		} else {
			defer led.release()
		}
	}
	if observed {
		l.observed(led, ticket, w, r, next)
		return
	}
	next.ServeHTTP(w, r)
}

// bounded returns the context of a call to the store: without the cancellation
// of the request's, and with the budget. A store in memory needs neither.
func (l *Limiter) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if l.inMemory {
		return context.Background(), nothing
	}
	return context.WithTimeout(context.WithoutCancel(ctx), l.budget)
}

func nothing() {}
