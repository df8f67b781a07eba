package middleware

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// Limits returns a handler that shows a caller every limit that its requests
// meet and how it stands with each, and takes nothing: [ShowLimits] of this
// Limiter alone.
func (l *Limiter) Limits() http.Handler { return ShowLimits(nil, l) }

// ShowLimits returns a handler that shows a caller the limits of several
// Limiters, all but quotas and lock-outs. Shape says what is shown, as encoding/json writes
// it; nil means, by limiter and rule,
//
//	{"sessions":{"per_key":{"limit":30,"remaining":60},"per_workspace":{"limit":200,"remaining":400}}}
//
// A limit that a [Scale] has reduced shows that, and its whole number as "whole".
// A rule that has several limits has an entry for each, named "rule/limit".
//
// The caller is whoever the rules' keys say. Rules that it skips are not shown, nor
// those that the request to this handler does not meet, by On and Except: to show
// them, put the endpoint's path in the request's URL. Costs are not asked. No limit
// is spent, so that the handler answers a caller that is refused everywhere else:
// it stands beside the Limiters, not behind them.
func ShowLimits(shape func(*respond.Report) any, limiters ...*Limiter) http.Handler {
	if shape == nil {
		shape = shapeLimits
	}
	return show(limiters, shape, func(l *policy.Limit) bool { return !isQuota(l) && !isLockout(l) })
}

// show returns a handler that shows the limits of a kind.
func show(limiters []*Limiter, shape func(*respond.Report) any, kind func(*policy.Limit) bool) http.Handler {
	if len(limiters) == 0 || slices.Contains(limiters, nil) {
		panic("ratelimit: no Limiter to show: write the Limiters whose limits a caller may see")
	}
	limiters = slices.Clone(limiters)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		report := new(respond.Report)
		for rest := limiters; len(rest) > 0; {
			n := look(w, r, report, rest, kind)
			if n == 0 {
				return
			}
			rest = rest[n:]
		}
		if report.Now.IsZero() {
			report.Now = time.Now()
		}
		body, err := json.Marshal(shape(report))
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(body, '\n'))
	})
}

// look adds how the caller stands with the limits of a kind: of as many of the
// limiters as one call of their store tells, which is one at least. It returns how
// many. That is 0 if it cannot be told, and the request was answered so.
func look(w http.ResponseWriter, r *http.Request, report *respond.Report, limiters []*Limiter, kind func(*policy.Limit) bool) int {
	p := limiters[0].newPass(r, nil)
	defer p.free()
	n := p.look(limiters, kind)
	if p.reason != "" {
		refused := new(respond.Report)
		refused.Denial = respond.Deny(p.reason, refused)
		p.limiter.styleOf(r).Refuse(w, r, refused)
		p.announce()
		return 0
	}
	p.tellOwn(report)
	return n
}

// look asks the store of the first limiter how the request's caller stands, also
// with those that follow and have the same store.
func (p *pass) look(limiters []*Limiter, kind func(*policy.Limit) bool) (n int) {
	for _, l := range limiters {
		before := len(p.charges)
		if n > 0 && l.store != p.limiter.store {
			break
		}
		p.limiter = l // whose fault it is
		for _, r := range p.met(l) {
			if !p.charge(r, true) {
				p.rule = r
				return 0
			}
		}
		p.retain(kind)
		if len(p.charges) > policy.MaxCharges && before > 0 {
			p.charges, p.rules = p.charges[:before], p.rules[:before]
			break
		}
		n++
	}
	if len(p.charges) == 0 {
		return n
	}
	p.askPeek()
	if p.err != nil { // whatever the rules do without a store
		p.reason = respond.StoreUnavailable
	}
	return n
}

type limitShown struct {
	Limit     int64 `json:"limit"`
	Remaining int64 `json:"remaining"`
	Whole     int64 `json:"whole,omitempty"` // the limit as it is without its scale
}

// shapeLimits is the shape of limits that ShowLimits has by default.
func shapeLimits(r *respond.Report) any {
	shown := map[string]map[string]limitShown{}
	for i := range r.Standings {
		st := &r.Standings[i]
		rules := shown[st.Limiter]
		if rules == nil {
			rules = map[string]limitShown{}
			shown[st.Limiter] = rules
		}
		one := limitShown{Limit: st.Result.Limit, Remaining: st.Result.Remaining}
		if st.Limit.IsReduced() {
			one.Whole = st.Limit.Whole().N()
		}
		rules[nameOf(r.Standings, i, false)] = one
	}
	return shown
}

// nameOf returns the rule's name: with the limit's behind it if the rule has
// several and, where that matters, with the limiter's before it if another has a
// rule of that name.
func nameOf(standings []respond.Standing, i int, limiters bool) string {
	st := &standings[i]
	before, behind := "", ""
	for j := range standings {
		switch other := &standings[j]; {
		case j == i || other.Rule != st.Rule:
		case other.Limiter == st.Limiter:
			behind = "/" + st.Limit.Name()
		case limiters:
			before = st.Limiter + "/"
		}
	}
	return before + st.Rule + behind
}
