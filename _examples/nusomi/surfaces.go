package main

import (
	"net/http"
	"time"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// monthly are the quotas of a workspace, by the calendar month in UTC.
type monthly struct{ minutes, rows int64 }

// A surface is a row of the page's table: how much a key and a workspace may.
type surface struct {
	key, workspace int64
	per            time.Duration // 0 for what is open at once
}

func (s surface) limits(key bool, times int64) []policy.Limit {
	n := s.workspace * times
	if key {
		n = s.key * times
	}
	if s.per == 0 {
		return []policy.Limit{policy.Concurrency(n)}
	}
	return []policy.Limit{policy.TokenBucket(n, s.per).WithBurst(2 * n)}
}

// limiters are the page's surfaces.
type limiters struct {
	sessions, events, frames, reads, streams, exports, replays *ratelimit.Limiter
}

func surfaces(store policy.Store, quotas monthly) limiters {
	minutes := ratelimit.Rule{
		Name: "captured_minutes", Scope: "per_workspace", Key: workspace,
		Limits: []policy.Limit{policy.Quota(quotas.minutes, policy.Monthly)},
		Cost:   ratelimit.Items("frames", 50), // a frame is a captured minute
	}
	rows := ratelimit.Rule{
		Name: "exported_rows", Scope: "per_workspace", Key: workspace,
		Limits: []policy.Limit{policy.Quota(quotas.rows, policy.Monthly)},
		Cost:   ratelimit.Number("rows"),
	}
	limit := func(name string, s surface, rules ...ratelimit.Rule) *ratelimit.Limiter {
		return ratelimit.Must(ratelimit.New(ratelimit.Config{Name: name, Store: store, Style: style, Rules: append([]ratelimit.Rule{
			{Name: "per_key", Key: ratelimit.Bearer(), Partition: workspace, LimitsFor: s.by(true)},
			{Name: "per_workspace", Key: workspace, LimitsFor: s.by(false)},
		}, rules...)}))
	}
	return limiters{
		sessions: limit("sessions", surface{30, 200, time.Second}),
		events:   limit("events", surface{1000, 5000, time.Second}),
		frames:   limit("frames", surface{200, 1000, time.Second}, minutes),
		reads:    limit("reads", surface{200, 2000, time.Second}),
		streams:  limit("streams", surface{50, 500, 0}),
		exports:  limit("exports", surface{5, 30, time.Minute}, rows),
		replays:  limit("replays", surface{10, 50, time.Minute}),
	}
}

func (on limiters) all() []*ratelimit.Limiter {
	return []*ratelimit.Limiter{on.sessions, on.events, on.frames, on.reads, on.streams, on.exports, on.replays}
}

// by chooses the surface's limits by the workspace's tier. One workspace has an
// agreement of its own.
func (s surface) by(key bool) ratelimit.LimitsFunc {
	return ratelimit.ByOverride(workspaceOf,
		policy.Overrides{"custom": s.limits(key, 20)},
		ratelimit.ByTier(tier, policy.Tiers{
			"default": s.limits(key, 1),
			"scale":   s.limits(key, 5),
		}))
}

// style answers as the page shows: how the tighter of the two layers stands, on
// every response, and why a request was refused.
var style = respond.Style{
	Fields: []respond.FieldWriter{respond.Fields{
		Limit: "X-RateLimit-Limit", Remaining: "X-RateLimit-Remaining", Reset: "X-RateLimit-Reset", Scope: "X-Scope",
		SkipQuotas: true, // they are about volume: /v1/quota tells of them
	}},
	Refusal: respond.JSON(func(d respond.Denial) any {
		code := string(d.Reason)
		switch d.Reason {
		case respond.RateLimitExceeded, respond.ConcurrencyExceeded:
			code = "rate_limited"
		}
		return failure{problem{Code: code, Message: d.Detail, Scope: d.Standing.Scope}}
	}),
}

// tell shows how a limiter's caller stands, and takes nothing.
func tell(l *ratelimit.Limiter) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if report, err := l.Peek(r); err == nil {
				style.WriteFields(w.Header(), report)
			}
			next.ServeHTTP(w, r)
		})
	}
}

// workspace is the key of the second layer.
func workspace(r *http.Request) (string, error) {
	if w := workspaceOf(r); w != "" {
		return w, nil
	}
	return "", ratelimit.ErrNoKey
}
