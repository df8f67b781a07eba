package respond_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// The examples tell of this request: it was refused by the second of two
// limits.
func exampleReport() *respond.Report {
	now := time.Date(2026, 1, 12, 10, 30, 48, 0, time.UTC)
	take := func(l policy.Limit, before, units int64) respond.Standing {
		s, _ := l.Take(policy.State{}, now.UnixMicro(), before)
		_, result := l.Take(s, now.UnixMicro(), units)
		return respond.Standing{Limiter: "api", Rule: "per_key", Limit: l, Result: result}
	}
	return &respond.Report{Now: now, Standings: []respond.Standing{
		take(policy.FixedWindow(5000, 24*time.Hour), 1041, 1),
		take(policy.FixedWindow(60, time.Minute), 60, 1),
	}}
}

// show prints what a style answers to the request of the examples.
func show(style respond.Style) {
	w := httptest.NewRecorder()
	style.Refuse(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody), exampleReport())
	fmt.Println(w.Code, http.StatusText(w.Code))
	showFields(w.Header())
	if w.Body.Len() > 0 {
		fmt.Println()
		fmt.Println(w.Body)
	}
}

func showFields(h http.Header) {
	var names []string
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Printf("%s: %s\n", name, h.Get(name))
	}
}

func ExampleStyle() {
	show(respond.Style{})
	// Output:
	// 429 Too Many Requests
	// Cache-Control: no-store
	// Content-Length: 242
	// Content-Type: application/problem+json
	// Retry-After: 12
	// X-Ratelimit-Limit: 60
	// X-Ratelimit-Remaining: 0
	// X-Ratelimit-Reset: 1768213860
	//
	// {"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Quota Exceeded","status":429,"detail":"Over the limit of 60 per minute.","code":"rate_limit_exceeded","retry_after":12,"violated-policies":["per_key/fixed-1m"]}
}

// An old interface, to the letter: status 409, a plain sentence and no-cache.
func ExampleStyle_legacy() {
	show(respond.Style{
		Fields:  []respond.FieldWriter{},
		Refusal: respond.Text,
		Status:  http.StatusConflict,
		Header:  http.Header{"Cache-Control": {"no-cache"}},
	})
	// Output:
	// 409 Conflict
	// Cache-Control: no-cache
	// Content-Length: 54
	// Content-Type: text/plain; charset=utf-8
	// Retry-After: 12
	//
	// Over the limit of 60 per minute. Retry in 12 seconds.
}

func ExampleStyle_Validate() {
	style := respond.Style{Status: http.StatusForbidden}
	fmt.Println(style.Validate())
	// Output:
	// respond: Status 403: write 429, or 409 for clients that were promised it
}

func ExampleStyle_WriteFields() {
	style := respond.Style{Fields: []respond.FieldWriter{respond.XRateLimitPerWindow}, ExposeFields: true}
	h := make(http.Header)
	h.Set("Access-Control-Expose-Headers", "Link")
	style.WriteFields(h, exampleReport())
	showFields(h)
	// Output:
	// Access-Control-Expose-Headers: Link, X-Ratelimit-Limit-Day, X-Ratelimit-Limit-Minute, X-Ratelimit-Remaining-Day, X-Ratelimit-Remaining-Minute, X-Ratelimit-Reset-Day, X-Ratelimit-Reset-Minute
	// X-Ratelimit-Limit-Day: 5000
	// X-Ratelimit-Limit-Minute: 60
	// X-Ratelimit-Remaining-Day: 3958
	// X-Ratelimit-Remaining-Minute: 0
	// X-Ratelimit-Reset-Day: 2026-01-13T00:00:00Z
	// X-Ratelimit-Reset-Minute: 2026-01-12T10:31:00Z
}

// What an older API has always answered: the phrase is said over HTTP/1.1.
func ExampleReasonPhrases() {
	style := respond.Style{
		Status:       http.StatusConflict,
		ReasonPhrase: "You must wait before accessing this url again.",
		Fields:       []respond.FieldWriter{},
		Refusal:      respond.Empty,
		Header:       http.Header{"Cache-Control": {"no-cache"}, "Pragma": {"no-cache"}, "Expires": {"-1"}},
	}
	refuse := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { style.Refuse(w, r, exampleReport()) })
	server := httptest.NewServer(respond.ReasonPhrases(refuse)) // an http.Server's Handler
	defer server.Close()

	resp, err := http.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	resp.Header.Del("Date")
	fmt.Println(resp.Proto, resp.Status)
	showFields(resp.Header)
	// Output:
	// HTTP/1.1 409 You must wait before accessing this url again.
	// Cache-Control: no-cache
	// Content-Length: 0
	// Expires: -1
	// Pragma: no-cache
	// Retry-After: 12
}

func ExampleRateLimitDraft11() {
	h := make(http.Header)
	respond.RateLimit.WriteFields(h, exampleReport())
	showFields(h)
	// Output:
	// Ratelimit: "per_key/fixed-1d";r=3958;t=48552, "per_key/fixed-1m";r=0;t=12
	// Ratelimit-Policy: "per_key/fixed-1d";q=5000;w=86400, "per_key/fixed-1m";q=60;w=60
}

// Names of one's own: those of the older IETF drafts.
func ExampleFields() {
	fields := respond.Fields{
		Limit:     "RateLimit-Limit",
		Remaining: "RateLimit-Remaining",
		Reset:     "RateLimit-Reset",
		ResetAs:   respond.DeltaSeconds,
	}
	h := make(http.Header)
	fields.WriteFields(h, exampleReport())
	showFields(h)
	// Output:
	// Ratelimit-Limit: 60
	// Ratelimit-Remaining: 0
	// Ratelimit-Reset: 12
}

func ExamplePoints() {
	style := respond.Style{
		Fields:    []respond.FieldWriter{respond.Points{Status: "X-Ratelimit-Status", Details: "X-Ratelimit-Cost-Details"}},
		DetailsOn: "cost-debug",
	}
	var costs respond.Costs
	costs.Add("session", 10)
	costs.Add("normal", 50)
	costs.Add("products", 7)
	costs.Add("segments", 4)
	limit, now := policy.TokenBucket(10_000, time.Second), time.Now()
	_, result := limit.Take(policy.State{}, now.UnixMicro(), costs.Sum())
	report := &respond.Report{
		Now:       now,
		Standings: []respond.Standing{{Rule: "recommendations", Limit: limit, Result: result, Cost: costs.Sum(), Parts: costs}},
		Details:   true, // the request has a header field, or a parameter, cost-debug
	}
	h := http.Header{}
	style.WriteFields(h, report)
	showFields(h)
	// Output:
	// X-Ratelimit-Cost-Details: session=10,normal=50,products=7,segments=4
	// X-Ratelimit-Status: {"requestCost":71,"maximumAvailable":10000,"currentlyAvailable":9929,"restoreRate":10000}
}

func ExampleCosts() {
	var c respond.Costs
	c.Add("search", 600)
	c.Add("facets", 20)
	c.Add("facets", 30)
	fmt.Println(c, c.Sum())
	// Output:
	// [{search 600} {facets 50}] 650
}

func ExampleJSON() {
	show(respond.Style{
		Fields: []respond.FieldWriter{},
		Refusal: respond.JSON(func(d respond.Denial) any {
			return map[string]any{"error": d.Reason, "retry_after": d.Seconds()}
		}),
	})
	// Output:
	// 429 Too Many Requests
	// Cache-Control: no-store
	// Content-Length: 48
	// Content-Type: application/json
	// Retry-After: 12
	//
	// {"error":"rate_limit_exceeded","retry_after":12}
}

// A middleware says why it refuses; the rest follows.
func ExampleDeny() {
	d := respond.Deny("", exampleReport())
	fmt.Println(d.Reason, d.Status, d.RetryAfter)
	fmt.Println(d.Standing.Rule, d.Standing.Limit)
	fmt.Println(d.Detail, d.RetryAt().Format(time.TimeOnly))

	// An error's text stays inside: the client is told the reason alone.
	err := errors.New("dial tcp 10.0.0.7:6379: connection refused")
	if err != nil {
		d = respond.Deny(respond.StoreUnavailable, exampleReport())
	}
	fmt.Println(d.Reason, d.Status, d.Detail)
	// Output:
	// rate_limit_exceeded 429 12s
	// per_key 60 per minute, fixed window
	// Over the limit of 60 per minute. 10:31:00
	// store_unavailable 503 Limits cannot be checked right now.
}
