package respond_test

import (
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

func TestFields(t *testing.T) {
	t.Parallel()
	var (
		minute = taken(policy.FixedWindow(60, time.Minute), 12)                // ends in 12.5s
		hour   = taken(policy.FixedWindow(600, time.Hour), 590)                // ends in 29m12.5s
		bucket = taken(policy.TokenBucket(60, time.Minute).WithBurst(120), 90) // full in 90s
		full   = refused(policy.FixedWindow(60, time.Minute), 1)               // again in 12.5s
		never  = refused(policy.FixedWindow(60, time.Minute), 61)              // ends in 12.5s
		slow   = refused(policy.TokenBucket(1, 12*time.Minute), 1)             // again in 12m
		odd    = taken(policy.FixedWindow(5, 250*time.Millisecond), 1)         // ends in 250ms
		tight  = taken(policy.FixedWindow(10, time.Minute).Named("tight"), 9)  // ends in 12.5s
		every  = respond.Fields{Limit: "L", Remaining: "M", Used: "U", Reset: "R", ResetAfter: "A", Scope: "S"}
		as     = func(f respond.ResetFormat) respond.Fields { return respond.Fields{Reset: "R", ResetAs: f} }
		denied = func(st ...respond.Standing) *respond.Report {
			r := report(st...)
			r.Denial = respond.Deny("", r)
			return r
		}
	)
	tests := []struct {
		name   string
		fields respond.Fields
		report *respond.Report
		want   map[string]string
	}{
		{"nothing met", every, report(), map[string]string{}},
		{"no report", every, nil, map[string]string{}},
		{
			"the usual three", respond.XRateLimit, report(minute),
			map[string]string{"X-Ratelimit-Limit": "60", "X-Ratelimit-Remaining": "48", "X-Ratelimit-Reset": "1768213860"},
		},
		{
			"every field, of the smallest share left", every, report(minute, hour),
			map[string]string{"L": "600", "M": "10", "U": "590", "R": "1768215600", "A": "1753", "S": "per_key"},
		},
		{
			"the number, not the burst", every, report(bucket),
			map[string]string{"L": "60", "M": "30", "U": "90", "R": "1768213938", "A": "90", "S": "per_key"},
		},
		{
			"refused: reset is when to come back", every, denied(minute, full, slow),
			map[string]string{"L": "1", "M": "0", "U": "1", "R": "1768214568", "A": "720", "S": "per_key"},
		},
		{
			"never: reset is the window's end", every, denied(never),
			map[string]string{"L": "60", "M": "0", "U": "60", "R": "1768213860", "A": "13", "S": "per_key"},
		},
		{"seconds since 1970", as(respond.EpochSeconds), report(bucket), map[string]string{"R": "1768213938"}},
		{"seconds from now, rounded up", as(respond.DeltaSeconds), report(minute), map[string]string{"R": "13"}},
		{"ISO 8601, rounded up", as(respond.ISO8601), report(bucket), map[string]string{"R": "2026-01-12T10:32:18Z"}},
		{"HTTP date, rounded up", as(respond.HTTPDate), report(bucket), map[string]string{"R": "Mon, 12 Jan 2026 10:32:18 GMT"}},
		{
			"names become canonical", respond.Fields{Limit: "x-rateLIMIT-limit"}, report(minute),
			map[string]string{"X-Ratelimit-Limit": "60"},
		},
		{
			"a hostile rule name", respond.Fields{Scope: "S"}, report(named(minute, "api", "a\r\nSet-Cookie: b\x00é")),
			map[string]string{"S": "a__Set-Cookie: b___"},
		},
		{
			"per window, the tightest of each", respond.XRateLimitPerWindow, report(tight, hour, minute, odd),
			map[string]string{
				"X-Ratelimit-Limit-Minute": "10", "X-Ratelimit-Remaining-Minute": "1", "X-Ratelimit-Reset-Minute": "2026-01-12T10:31:00Z",
				"X-Ratelimit-Limit-Hour": "600", "X-Ratelimit-Remaining-Hour": "10", "X-Ratelimit-Reset-Hour": "2026-01-12T11:00:00Z",
				"X-Ratelimit-Limit-250ms": "5", "X-Ratelimit-Remaining-250ms": "4", "X-Ratelimit-Reset-250ms": "2026-01-12T10:30:48Z",
			},
		},
		{
			"per window, the tightest of each, in any order", respond.Fields{Limit: "L", PerWindow: true}, report(minute, tight),
			map[string]string{"L-Minute": "10"},
		},
		{
			"per window, each refusal's own wait", respond.XRateLimitPerWindow, denied(slow, full),
			map[string]string{
				"X-Ratelimit-Limit-12m": "1", "X-Ratelimit-Remaining-12m": "0", "X-Ratelimit-Reset-12m": "2026-01-12T10:42:48Z",
				"X-Ratelimit-Limit-Minute": "60", "X-Ratelimit-Remaining-Minute": "0", "X-Ratelimit-Reset-Minute": "2026-01-12T10:31:00Z",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := make(http.Header)
			tt.fields.WriteFields(h, tt.report)
			assert.Equal(t, tt.want, flat(t, h))
		})
	}
}

func TestFieldsPerWindowSuffix(t *testing.T) {
	t.Parallel()
	for window, want := range map[time.Duration]string{
		time.Second:             "Limit-Second",
		time.Minute:             "Limit-Minute",
		time.Hour:               "Limit-Hour",
		24 * time.Hour:          "Limit-Day",
		7 * 24 * time.Hour:      "Limit-7d",
		36 * time.Hour:          "Limit-36h",
		90 * time.Second:        "Limit-90s",
		1500 * time.Millisecond: "Limit-1500ms",
		1500 * time.Microsecond: "Limit-1500us",
	} {
		h := make(http.Header)
		respond.Fields{Limit: "Limit", PerWindow: true}.WriteFields(h, report(taken(policy.FixedWindow(5, window), 1)))
		assert.Equal(t, []string{want}, slices.Collect(maps.Keys(h)))
		assert.Equal(t, "5", h.Get(want), "readable by its canonical name")
	}
}

func TestFieldsOfAnInnerLimiterReplace(t *testing.T) {
	t.Parallel()
	outer := taken(policy.PerMinute(60), 12)
	inner := named(taken(policy.PerMinute(10), 9), "inner", "per_endpoint")
	for name, fields := range map[string]respond.FieldWriter{
		"XRateLimit":          respond.XRateLimit,
		"XRateLimitPerWindow": respond.XRateLimitPerWindow,
		"RateLimit":           respond.RateLimit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			style := respond.Style{Fields: []respond.FieldWriter{fields}, ExposeFields: true}
			once, twice := make(http.Header), make(http.Header)
			style.WriteFields(once, report(outer, inner))
			style.WriteFields(twice, report(outer))
			style.WriteFields(twice, report(outer, inner))
			assert.Equal(t, once, twice)
			flat(t, twice)
		})
	}
}

func TestFieldsDoNotShareCapacity(t *testing.T) {
	t.Parallel()
	h := make(http.Header)
	respond.XRateLimit.WriteFields(h, report(taken(policy.PerMinute(60), 12)))
	h.Add("X-RateLimit-Limit", "spoiled")
	assert.Equal(t, []string{"60", "spoiled"}, h["X-Ratelimit-Limit"])
	assert.Equal(t, []string{"48"}, h["X-Ratelimit-Remaining"])
}

func TestFieldsValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		fields respond.Fields
		want   string
	}{
		{"good", respond.Fields{Limit: "X-Limit", Reset: "X-Reset", ResetAs: respond.HTTPDate}, ""},
		{"every character of a token", respond.Fields{Limit: "a!#$%&'*+-.^_`|~9Z"}, ""},
		{"no name at all", respond.Fields{ResetAs: respond.ISO8601}, "name one"},
		{"line break", respond.Fields{Limit: "X-Limit\r\nSet-Cookie"}, `"X-Limit\r\nSet-Cookie": write letters`},
		{"space", respond.Fields{Scope: "X Scope"}, "write letters"},
		{"colon", respond.Fields{Used: "X-Used:"}, "write letters"},
		{"not ASCII", respond.Fields{Used: "X-Usé"}, "write letters"},
		{"one name twice", respond.Fields{Limit: "X-Limit", Used: "x-limit"}, "name of its own"},
		{"computed elsewhere", respond.Fields{ResetAfter: "retry-after"}, `"Retry-After": it is not a style's to write`},
		{"unknown format", respond.Fields{Reset: "X-Reset", ResetAs: 9}, "ResetFormat(9)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.fields.Validate()
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
			style := respond.Style{Fields: []respond.FieldWriter{respond.RateLimit, tt.fields}}
			require.ErrorContains(t, style.Validate(), tt.want)
		})
	}
}

// flat returns the fields by name, each of which must have one value.
func flat(t *testing.T, h http.Header) map[string]string {
	t.Helper()
	m := make(map[string]string, len(h))
	for name, values := range h {
		require.Len(t, values, 1, name)
		assert.Equal(t, http.CanonicalHeaderKey(name), name)
		m[name] = values[0]
	}
	return m
}
