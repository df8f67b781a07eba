package respond_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// A report that is used again says what a new one would, whatever writers share it
// and however many fields they have.
func TestReportReset(t *testing.T) {
	t.Parallel()
	writers := []respond.FieldWriter{
		respond.XRateLimit,
		respond.XRateLimitPerWindow,
		respond.RateLimitDraft11{},
		respond.Fields{Limit: "L", Reset: "R", Scope: "S", ResetAs: respond.HTTPDate},
		respond.Fields{Used: "U", Reset: "T", ResetAfter: "A", ResetAs: respond.DeltaSeconds},
		respond.Fields{Scope: "Who", Remaining: "M", Reset: "At"},
	}
	limits := []policy.Limit{
		policy.PerSecond(5), policy.PerMinute(60), policy.PerHour(600), policy.PerDay(5000), policy.SlidingWindow(7, 12*time.Minute),
	}
	rapid.Check(t, func(t *rapid.T) {
		small := rapid.Int64Range(0, 3)
		var again respond.Report
		for range rapid.IntRange(1, 8).Draw(t, "requests") {
			again.Reset()
			fresh := respond.Report{Now: time.Unix(1_768_213_000+small.Draw(t, "now"), 0)}
			for i, l := range limits {
				if !rapid.Bool().Draw(t, "limit") {
					continue
				}
				fresh.Standings = append(fresh.Standings, respond.Standing{
					Rule: "rule", Scope: rapid.SampledFrom([]string{"per_key", "per_workspace"}).Draw(t, "scope"),
					Limit: l,
					Result: policy.Result{
						Verdict: policy.Allowed, Limit: l.N(), Capacity: l.N(), Used: int64(i), Remaining: small.Draw(t, "remaining"),
						ResetAfter: time.Duration(small.Draw(t, "reset")) * time.Second,
					},
				})
			}
			again.Now, again.Standings = fresh.Now, append(again.Standings, fresh.Standings...)
			for range rapid.IntRange(1, 3).Draw(t, "writes") {
				w := rapid.SampledFrom(writers).Draw(t, "writer")
				got, want := http.Header{}, http.Header{}
				w.WriteFields(got, &again)
				w.WriteFields(want, &fresh)
				require.Equal(t, want, got)
			}
		}
	})
}
