package middleware

import (
	"net/http"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// Quota returns a handler that shows a caller its quotas and what it has used of
// them, and takes nothing: [ShowQuota] of this Limiter alone.
func (l *Limiter) Quota() http.Handler { return ShowQuota(nil, l) }

// ShowQuota returns a handler that shows a caller the quotas of several Limiters,
// as [ShowLimits] does the limits. Shape says what is shown; nil means, by rule,
//
//	{
//	  "period_start": "2026-05-01T00:00:00Z",
//	  "period_end": "2026-06-01T00:00:00Z",
//	  "captured_minutes": 18412,
//	  "captured_minutes_limit": 25000,
//	  "exported_rows": 3120500,
//	  "exported_rows_limit": null
//	}
//
// where null is unlimited. Quotas of one name have their Limiter's before it, as
// in "exports/rows". The period is the first quota's; one of another
// period has its own, as in "exported_rows_period_start".
func ShowQuota(shape func(*respond.Report) any, limiters ...*Limiter) http.Handler {
	if shape == nil {
		shape = shapeQuota
	}
	return show(limiters, shape, isQuota)
}

func isQuota(l *policy.Limit) bool { return l.Algorithm() == policy.AlgorithmQuota }

// shapeQuota is the shape of quotas that ShowQuota has by default.
func shapeQuota(r *respond.Report) any {
	shown := map[string]any{}
	var start, end time.Time
	for i := range r.Standings {
		st := &r.Standings[i]
		name := nameOf(r.Standings, i, true)
		shown[name], shown[name+"_limit"] = st.Result.Used, nil
		if st.Result.Limit != policy.Unlimited {
			shown[name+"_limit"] = st.Result.Limit
		}
		from, to := st.Limit.Period().Bounds(r.Now)
		switch {
		case i == 0:
			start, end = from, to
			shown["period_start"], shown["period_end"] = instant(start), instant(end)
		case !from.Equal(start) || !to.Equal(end):
			shown[name+"_period_start"], shown[name+"_period_end"] = instant(from), instant(to)
		}
	}
	return shown
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }
