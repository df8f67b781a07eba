package respond_test

import (
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// now is half a second before a whole one, so that rounding shows.
var now = time.Date(2026, 1, 12, 10, 30, 47, 500_000_000, time.UTC)

// taken is the standing after n units of an unused limit were taken.
func taken(l policy.Limit, n int64) respond.Standing {
	_, result := l.Take(policy.State{}, now.UnixMicro(), n)
	return respond.Standing{Limiter: "api", Rule: "per_key", Limit: l, Result: result}
}

// refused is the standing of a limit that is full, as n more units are asked.
func refused(l policy.Limit, n int64) respond.Standing { return askedAfter(l, l.Capacity(), n) }

// askedAfter is the standing as n units are asked after others were taken.
func askedAfter(l policy.Limit, taken, n int64) respond.Standing {
	s, _ := l.Take(policy.State{}, now.UnixMicro(), taken)
	_, result := l.Take(s, now.UnixMicro(), n)
	return respond.Standing{Limiter: "api", Rule: "per_key", Limit: l, Result: result}
}

func report(standings ...respond.Standing) *respond.Report {
	return &respond.Report{Now: now, Standings: standings}
}

// named gives a standing other names.
func named(st respond.Standing, limiter, rule string) respond.Standing {
	st.Limiter, st.Rule = limiter, rule
	return st
}
