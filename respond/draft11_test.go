package respond_test

import (
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

func TestRateLimitDraft11(t *testing.T) {
	t.Parallel()
	var (
		minute  = taken(policy.FixedWindow(60, time.Minute), 12)
		hour    = taken(policy.FixedWindow(600, time.Hour), 590)
		full    = refused(policy.FixedWindow(60, time.Minute), 1)
		weighty = askedAfter(policy.TokenBucket(60, time.Minute), 40, 30) // one more in 1s, 30 in 10s
	)
	tests := []struct {
		name           string
		standings      []respond.Standing
		policies, rate string
	}{
		{"golden", []respond.Standing{named(taken(policy.PerMinute(100), 0), "", "default")}, `"default";q=100;w=60`, `"default";r=100`},
		{"one limit: the rule's name", []respond.Standing{minute}, `"per_key";q=60;w=60`, `"per_key";r=48;t=13`},
		{
			"several limits of a rule", []respond.Standing{minute, hour},
			`"per_key/fixed-1m";q=60;w=60, "per_key/fixed-1h";q=600;w=3600`,
			`"per_key/fixed-1m";r=48;t=13, "per_key/fixed-1h";r=10;t=1753`,
		},
		{
			"one rule name in two limiters", []respond.Standing{minute, named(hour, "inner", "per_key")},
			`"api/per_key";q=60;w=60, "inner/per_key";q=600;w=3600`,
			`"api/per_key";r=48;t=13, "inner/per_key";r=10;t=1753`,
		},
		{
			"names that collide all the same", []respond.Standing{minute, minute, named(minute, "api", "per_key/fixed-1m")},
			`"per_key/fixed-1m";q=60;w=60, "per_key/fixed-1m-2";q=60;w=60, "per_key/fixed-1m-3";q=60;w=60`,
			`"per_key/fixed-1m";r=48;t=13, "per_key/fixed-1m-2";r=48;t=13, "per_key/fixed-1m-3";r=48;t=13`,
		},
		{"refused", []respond.Standing{full}, `"per_key";q=60;w=60`, `"per_key";r=0;t=13`},
		{"refused by weight: what is left is told", []respond.Standing{weighty}, `"per_key";q=60;w=60`, `"per_key";r=20;t=1`},
		{
			"no window below or between seconds",
			[]respond.Standing{named(taken(policy.FixedWindow(5, 500*time.Millisecond), 1), "api", "a"), named(taken(policy.FixedWindow(5, 1500*time.Millisecond), 1), "api", "b")},
			`"a";q=5, "b";q=5`, `"a";r=4;t=1, "b";r=4;t=1`,
		},
		{"escapes", []respond.Standing{named(minute, "api", "a\"b\\c\r\né")}, `"a\"b\\c____";q=60;w=60`, `"a\"b\\c____";r=48;t=13`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := make(http.Header)
			respond.RateLimit.WriteFields(h, report(tt.standings...))
			assert.Equal(t, map[string]string{"Ratelimit-Policy": tt.policies, "Ratelimit": tt.rate}, flat(t, h))
		})
	}
}

func TestRateLimitDraft11SaysNothingOfNothing(t *testing.T) {
	t.Parallel()
	h := make(http.Header)
	respond.RateLimit.WriteFields(h, report())
	respond.RateLimit.WriteFields(h, nil)
	assert.Empty(t, h)
}

// Whatever the names and numbers, the fields are Lists of Strings with the
// parameters of the draft, with one name each and the same in both.
func TestRateLimitDraft11Parses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := anyReport(t)
		h := make(http.Header)
		respond.RateLimitDraft11{}.WriteFields(h, r)
		if len(r.Standings) == 0 {
			assert.Empty(t, h)
			return
		}
		policies, err := httpsfv.UnmarshalList(h["Ratelimit-Policy"])
		require.NoError(t, err)
		rates, err := httpsfv.UnmarshalList(h["Ratelimit"])
		require.NoError(t, err)
		require.Len(t, policies, len(r.Standings))
		require.Len(t, rates, len(r.Standings))

		seen := make(map[string]bool)
		for i := range r.Standings {
			st := &r.Standings[i]
			p, rate := policies[i].(httpsfv.Item), rates[i].(httpsfv.Item)
			name := p.Value.(string)
			assert.Equal(t, name, rate.Value)
			assert.False(t, seen[name], "%q twice", name)
			seen[name] = true

			assert.Equal(t, min(max(st.Result.Limit, 0), 999_999_999_999_999), parameter(t, p, "q"))
			if w, ok := p.Params.Get("w"); ok {
				assert.Equal(t, st.Limit.Window(), time.Duration(w.(int64))*time.Second)
				assert.Positive(t, w)
			}
			assert.Equal(t, min(max(st.Result.Remaining, 0), 999_999_999_999_999), parameter(t, rate, "r"))
			_, hasT := rate.Params.Get("t")
			assert.Equal(t, st.Result.NextAfter > 0, hasT)
			if !hasT || st.Result.Verdict != policy.Refused || r.Denial.Seconds() == 0 {
				continue
			}
			assert.LessOrEqual(t, parameter(t, rate, "t"), r.Denial.Seconds(), "Retry-After is not before the window's end")
		}

		canonical, err := httpsfv.Marshal(rates)
		require.NoError(t, err)
		assert.Equal(t, canonical, h.Get("RateLimit"))
	})
}

func parameter(t *rapid.T, item httpsfv.Item, key string) int64 {
	v, ok := item.Params.Get(key)
	require.True(t, ok, key)
	require.IsType(t, int64(0), v, key)
	return v.(int64)
}

// anyReport draws a report of a refusal, with odd names and numbers.
func anyReport(t *rapid.T) *respond.Report {
	var (
		name     = rapid.OneOf(rapid.SampledFrom([]string{"a", "b", "a/window-1m", "a-2"}), rapid.String())
		number   = rapid.OneOf(rapid.Int64Range(0, 1000), rapid.Int64())
		duration = rapid.OneOf(rapid.Int64Range(0, int64(time.Hour)), rapid.Int64Range(0, math.MaxInt64))
		window   = rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, 1500 * time.Millisecond, time.Minute, 366 * 24 * time.Hour})
		verdict  = rapid.SampledFrom([]policy.Verdict{policy.Allowed, policy.Refused, policy.Never})
	)
	r := &respond.Report{Now: time.UnixMicro(rapid.Int64Range(0, 1<<51).Draw(t, "now"))}
	for range rapid.IntRange(0, 6).Draw(t, "standings") {
		r.Standings = append(r.Standings, respond.Standing{
			Limiter: name.Draw(t, "limiter"),
			Rule:    name.Draw(t, "rule"),
			Limit:   policy.SlidingWindow(1, window.Draw(t, "window")).Named(name.Draw(t, "limit")),
			Result: policy.Result{
				Verdict:    verdict.Draw(t, "verdict"),
				Limit:      number.Draw(t, "number"),
				Capacity:   number.Draw(t, "capacity"),
				Used:       number.Draw(t, "used"),
				Remaining:  number.Draw(t, "remaining"),
				RetryAfter: time.Duration(duration.Draw(t, "retry after")),
				ResetAfter: time.Duration(duration.Draw(t, "reset after")),
				NextAfter:  time.Duration(duration.Draw(t, "next after")),
			},
		})
	}
	r.Denial = respond.Deny("", r)
	return r
}
