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
// Limiters, all but quotas. Shape says what is shown, as encoding/json writes
// it; nil means, by limiter and rule,
//
//	{"sessions":{"per_key":{"limit":30,"remaining":60},"per_workspace":{"limit":200,"remaining":400}}}
//
// A rule that has several limits has an entry for each, named "rule/limit".
//
// The caller is whoever the rules' keys say. Rules that it skips are not shown,
// and costs are not asked. No limit is spent, so that the handler answers a
// caller that is refused everywhere else: it stands beside the Limiters, not
// behind them.
func ShowLimits(shape func(*respond.Report) any, limiters ...*Limiter) http.Handler {
	if shape == nil {
		shape = shapeLimits
	}
	return show(limiters, shape, func(l *policy.Limit) bool { return !isQuota(l) })
}

// show returns a handler that shows the limits of a kind.
func show(limiters []*Limiter, shape func(*respond.Report) any, kind func(*policy.Limit) bool) http.Handler {
	if len(limiters) == 0 || slices.Contains(limiters, nil) {
		panic("ratelimit: no Limiter to show: write the Limiters whose limits a caller may see")
	}
	limiters = slices.Clone(limiters)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		report := new(respond.Report)
		for _, l := range limiters {
			if !l.look(w, r, report, kind) {
				return
			}
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

// look adds how the caller stands with a limiter's limits of a kind. It is false
// if it cannot be told, and the request was answered so.
func (l *Limiter) look(w http.ResponseWriter, r *http.Request, report *respond.Report, kind func(*policy.Limit) bool) bool {
	p := l.newPass(r, nil)
	defer p.free()
	p.look(kind)
	if p.reason != "" {
		refused := new(respond.Report)
		refused.Denial = respond.Deny(p.reason, refused)
		l.style.Refuse(w, r, refused)
		p.announce()
		return false
	}
	p.tellOwn(report)
	return true
}

// look asks the store how the request's caller stands.
func (p *pass) look(kind func(*policy.Limit) bool) {
	for _, r := range p.limiter.rules {
		if !p.charge(r, true) {
			p.rule = r
			return
		}
	}
	n := 0
	for i := range p.charges {
		if kind(&p.charges[i].Limit) {
			p.charges[n], p.rules[n] = p.charges[i], p.rules[i]
			n++
		}
	}
	p.charges, p.rules = p.charges[:n], p.rules[:n]
	if n == 0 {
		return
	}
	ctx, cancel := p.limiter.bounded(p.request.Context())
	err := p.limiter.store.Peek(ctx, p.charges, &p.decision)
	cancel()
	if p.judge(err); p.err != nil { // whatever the rules do without a store
		p.reason = respond.StoreUnavailable
	}
}

type limitShown struct {
	Limit     *int64 `json:"limit"` // null if there is none
	Remaining *int64 `json:"remaining"`
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
		rules[nameOf(r.Standings, i, false)] = limitShown{Limit: &st.Result.Limit, Remaining: &st.Result.Remaining}
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
