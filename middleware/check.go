package middleware

import (
	"net/http"

	"github.com/stint-go/stint/respond"
)

// Check charges a request and writes nothing to the client: for use inside of
// handlers, where the request's limits or its cost are known late.
//
// The report says how the request stands, and its Denial why it is refused; nil
// means that it may go on. A refused Check takes nothing of its own, and leaves
// what the limiters in front of the handler took: the request is being served.
// The error says what went wrong beside that, and is for logs: it comes with a
// Denial, but where rules fail open, or the client has gone.
//
// Check takes part in the request's ledger: what was counted for this request is
// not counted again, unless two Checks of it run at once. To charge every message
// of a long request, give each a ledger of its own:
//
//	report, err := limits.Check(r.WithContext(ratelimit.NewLedger(r.Context())))
func (l *Limiter) Check(r *http.Request) (*respond.Report, error) {
	p := l.newPass(r, ledgerOf(r.Context()))
	p.decide()
	report := new(respond.Report)
	p.tell(report)
	err := p.err
	switch {
	case p.gone:
		p.undo()
		err = r.Context().Err()
	case p.reason != "":
		report.Denial = p.deny(report)
	case p.ledger == nil:
		p.watchQuotas()
	default:
		p.announce()
		led := p.ledger
		if !led.held() { // else it is watched when it is settled
			p.watchQuotas()
		}
		p.request, p.ledger = nil, nil
		p.split()
		led.record(p)
		return report, err
	}
	p.announce()
	p.free()
	return report, err
}

// Peek tells how a request would stand, as [Limiter.Check] does, and takes
// nothing: for showing usage. It asks all rules, also those that were counted
// for this request, and has no events.
func (l *Limiter) Peek(r *http.Request) (*respond.Report, error) {
	p := l.newPass(r, nil)
	defer p.free()
	p.peek()
	report := new(respond.Report)
	p.tell(report)
	if p.reason != "" {
		report.Denial = p.deny(report)
	}
	return report, p.err
}
