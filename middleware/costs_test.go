package middleware_test

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// pointed is a style that tells of points.
var pointed = respond.Style{
	Fields:    []respond.FieldWriter{respond.Points{Status: "X-Status", Details: "X-Details"}, respond.XRateLimit},
	DetailsOn: "cost-debug",
}

// recommendation costs as the parts of its query say: ?session=10&products=7.
func recommendation(r *http.Request) (ratelimit.Costs, error) {
	var c ratelimit.Costs
	for _, part := range strings.Split(r.URL.RawQuery, "&") {
		name, points, _ := strings.Cut(part, "=")
		if n, err := json.Number(points).Int64(); err == nil {
			c.Add(name, n)
		}
	}
	if r.URL.Query().Has("broken") {
		return nil, &ratelimit.CostError{Err: errors.New("broken")}
	}
	if r.URL.Query().Has("refused") {
		return c, &ratelimit.CostError{Err: errors.New("refused")}
	}
	if r.URL.Query().Has("error") {
		return c, errors.New("error")
	}
	return c, nil
}

// budget is a Limiter of one points rule.
func budget(t *testing.T, store policy.Store, limit policy.Limit, rule ratelimit.Rule) *ratelimit.Limiter {
	t.Helper()
	rule.Name, rule.Key, rule.Limits = "points", apiKey, []policy.Limit{limit}
	if rule.Cost == nil && rule.Costs == nil {
		rule.Costs = ratelimit.CostsBy(recommendation)
	}
	return limiter(t, ratelimit.Config{Store: store, Style: pointed, Rules: []ratelimit.Rule{rule}})
}

// A status is what a response says of points.
type status struct {
	Code      int
	Cost      int64 `json:"requestCost"`
	Max       int64 `json:"maximumAvailable"`
	Available int64 `json:"currentlyAvailable"`
	Details   string
	After     string
}

// ask sends a request of a client that wants details, and reads what was sent.
func ask(t *testing.T, h http.Handler, path string) status {
	t.Helper()
	r := request(path, "a")
	r.Header.Set("Cost-Debug", "")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return read(t, w.Result())
}

func read(t *testing.T, resp *http.Response) status {
	t.Helper()
	s := status{Code: resp.StatusCode, Details: resp.Header.Get("X-Details"), After: resp.Header.Get("Retry-After")}
	if text := resp.Header.Get("X-Status"); text != "" {
		require.NoError(t, json.Unmarshal([]byte(text), &s))
	}
	return s
}

var nothing = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})

func TestCostsInParts(t *testing.T) {
	t.Parallel()
	limit := policy.TokenBucket(100, time.Hour)
	h := budget(t, newSpy(), limit, ratelimit.Rule{MinCost: 10}).Handler(nothing)
	assert.Equal(t, status{200, 14, 100, 86, "session=10,products=4", ""}, ask(t, h, "/?session=10&products=4"))
	assert.Equal(t, status{200, 10, 100, 76, "session=3,minimum=7", ""}, ask(t, h, "/?session=3"))
	assert.Equal(t, status{200, 10, 100, 66, "minimum=10", ""}, ask(t, h, "/"))
	assert.Equal(t, status{200, 10, 100, 56, "session=10", ""}, ask(t, h, "/?session=10"))
	assert.Equal(t, status{429, 57, 100, 56, "session=10,products=47", "36"}, ask(t, h, "/?session=10&products=47"), "what was asked")
	// Above the capacity, waiting does not help.
	assert.Equal(t, status{413, 101, 100, 56, "session=101", ""}, ask(t, h, "/?session=101"))
	assert.Equal(t, status{413, policy.MaxUnits + 1, 100, 56, "session=9,products=999999999992", ""}, ask(t, h, "/?session=9&products=9223372036854775807"))
	// What is no cost takes nothing, and is not told.
	assert.Equal(t, status{Code: 400}, ask(t, h, "/?session=-1"))
	assert.Equal(t, status{Code: 400}, ask(t, h, "/?session=1&error=1"))
	// What a CostError refuses takes what is beside the error, and the minimum at least.
	assert.Equal(t, status{400, 10, 100, 46, "minimum=10", ""}, ask(t, h, "/?session=20&broken=1"))
	assert.Equal(t, status{400, 10, 100, 36, "session=2,minimum=8", ""}, ask(t, h, "/?session=2&refused"))
	assert.Equal(t, status{400, 21, 100, 15, "session=21", ""}, ask(t, h, "/?session=21&refused"))
}

func TestCostTooHighIsNo429(t *testing.T) {
	t.Parallel()
	h := budget(t, newSpy(), policy.TokenBucket(100, time.Hour), ratelimit.Rule{}).Handler(nothing)
	w := get(h, "/?search=101", "a")
	assert.Equal(t, 413, w.Code)
	assert.Empty(t, w.Header().Values("Retry-After"))
	assert.Contains(t, w.Body.String(), `"code":"cost_too_high"`)
}

// Details are for who asks, by a field or a parameter, whatever it says.
func TestDetailsOnRequest(t *testing.T) {
	t.Parallel()
	h := budget(t, newSpy(), policy.TokenBucket(100, time.Hour), ratelimit.Rule{}).Handler(nothing)
	w := get(h, "/?a=40", "a")
	assert.NotContains(t, w.Header(), "X-Details")
	assert.Contains(t, w.Header(), "X-Status")
	assert.Equal(t, "a=40,cost-debug=1", get(h, "/?a=40&cost-debug=1", "a").Header().Get("X-Details"))
	assert.Equal(t, "a=1", get(h, "/?a=1&cost-debug", "a").Header().Get("X-Details"))
	w = get(h, "/?a=90&cost-debug", "a")
	assert.Equal(t, 429, w.Code)
	assert.Equal(t, "a=90", w.Header().Get("X-Details"))
	assert.NotContains(t, get(h, "/?a=1", "a").Header(), "X-Details")
}

// A cost without parts has a minimum, too.
func TestMinCostWithoutParts(t *testing.T) {
	t.Parallel()
	limit := policy.TokenBucket(100, time.Hour)
	cost := func(r *http.Request) (int64, error) {
		c, err := recommendation(r)
		return c.Sum(), err
	}
	h := budget(t, newSpy(), limit, ratelimit.Rule{Cost: cost, MinCost: 10}).Handler(nothing)
	assert.Equal(t, status{200, 14, 100, 86, "points=14", ""}, ask(t, h, "/?session=14"))
	assert.Equal(t, status{200, 10, 100, 76, "points=10", ""}, ask(t, h, "/?session=3"))
	assert.Equal(t, status{400, 10, 100, 66, "points=10", ""}, ask(t, h, "/?session=20&broken=1"))
}

// A Costing is asked once for a request, by whatever rules and Limiters.
func TestCostsAreAskedOnce(t *testing.T) {
	t.Parallel()
	asked := 0
	costing := ratelimit.CostsBy(func(r *http.Request) (ratelimit.Costs, error) {
		asked++
		c, err := recommendation(r)
		return slices.Grow(c, 10), err // whose room is nobody's
	})
	rule := func(name string, least int64) ratelimit.Rule {
		return ratelimit.Rule{Name: name, Key: apiKey, Limits: []policy.Limit{policy.PerHour(1000), policy.PerDay(5000)}, Costs: costing, MinCost: least}
	}
	store := newSpy()
	outer := limiter(t, ratelimit.Config{Name: "outer", Store: store, Style: pointed, Rules: []ratelimit.Rule{rule("a", 0), rule("b", 20)}})
	inner := limiter(t, ratelimit.Config{Name: "inner", Store: store, Style: pointed, Rules: []ratelimit.Rule{rule("c", 30)}})
	var report *respond.Report
	h := outer.Handler(inner.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var err error
		report, err = inner.Check(r) // counts nothing again
		assert.NoError(t, err)
	})))
	assert.Equal(t, 200, ask(t, h, "/?session=12").Code)
	assert.Equal(t, 1, asked)
	require.Len(t, report.Standings, 6)
	for _, st := range report.Standings {
		want, parts := int64(12), ratelimit.Costs{{Name: "session", Points: 12}}
		switch st.Rule {
		case "b":
			want, parts = 20, append(parts, ratelimit.Part{Name: "minimum", Points: 8})
		case "c":
			want, parts = 30, append(parts, ratelimit.Part{Name: "minimum", Points: 18})
		}
		assert.Equal(t, want, st.Cost)
		assert.Equal(t, parts, st.Parts)
		assert.Equal(t, want, st.Result.Used)
	}
	ask(t, h, "/?session=1&broken=1")
	assert.Equal(t, 2, asked, "an error is one answer")
	ask(t, h, "/")
	assert.Equal(t, 3, asked, "no parts are one answer")
	// What is a request of its own is asked for again.
	ctx := ratelimit.NewLedger(t.Context())
	for range 2 {
		_, err := outer.Check(request("/?session=1", "a").WithContext(ctx))
		require.NoError(t, err)
		_, err = inner.Check(request("/?session=1", "a").WithContext(ctx))
		require.NoError(t, err)
	}
	assert.Equal(t, 4, asked)
}

// A rule without parts beside one with them, and slots, which a refused request
// does not need.
func TestCostsBesideOtherRules(t *testing.T) {
	t.Parallel()
	store := newSpy()
	h := limiter(t, ratelimit.Config{Store: store, Style: pointed, Rules: []ratelimit.Rule{
		{Name: "open", Key: apiKey, Limits: []policy.Limit{policy.Concurrency(2)}},
		{Name: "rate", Key: apiKey, Limits: []policy.Limit{policy.PerHour(6)}},
		{Name: "skipped", Key: apiKey, Limits: []policy.Limit{policy.PerHour(6)}, Skip: func(*http.Request) bool { return true }},
		{Name: "points", Key: apiKey, Limits: []policy.Limit{policy.PerHour(100)}, Costs: ratelimit.CostsBy(recommendation), MinCost: 5},
		{Name: "bytes", Key: apiKey, Limits: []policy.Limit{policy.PerDay(1000)}, Cost: func(*http.Request) (int64, error) { return 3, nil }},
	}}).Handler(nothing)
	assert.Equal(t, status{200, 12, 100, 88, "session=12", ""}, ask(t, h, "/?session=12"))
	assert.Equal(t, status{400, 5, 100, 83, "minimum=5", ""}, ask(t, h, "/?session=12&broken=1"))
	assert.EqualValues(t, 2, used(t, store, "api", "rate", hashed("a"), policy.PerHour(6)))
	assert.EqualValues(t, 17, used(t, store, "api", "points", hashed("a"), policy.PerHour(100)))
	assert.EqualValues(t, 6, used(t, store, "api", "bytes", hashed("a"), policy.PerDay(1000)))
	assert.EqualValues(t, 0, used(t, store, "api", "open", hashed("a"), policy.Concurrency(2)))
}

func TestCostsAreValidated(t *testing.T) {
	t.Parallel()
	require.PanicsWithValue(t, "ratelimit: CostsBy(nil): write a func(*http.Request) (Costs, error)", func() { ratelimit.CostsBy(nil) })
	costing := ratelimit.CostsBy(recommendation)
	for want, rule := range map[string]ratelimit.Rule{
		`ratelimit: rule 1 ("points"): both Cost and Costs: write one of them`:                         {Costs: costing, Cost: func(*http.Request) (int64, error) { return 1, nil }},
		`ratelimit: rule 1 ("points"): MinCost -1: write one from 0 to 1000000000000`:                  {Costs: costing, MinCost: -1},
		`ratelimit: rule 1 ("points"): MinCost 9223372036854775807: write one from 0 to 1000000000000`: {MinCost: math.MaxInt64},
	} {
		rule.Name, rule.Key, rule.Limits = "points", apiKey, []policy.Limit{policy.PerHour(1)}
		_, err := ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{rule}})
		require.EqualError(t, err, want)
	}
}

// What a request would have cost is told of one that is refused further in, with its
// parts.
func TestCostsOfARefusalAfterSetCosts(t *testing.T) {
	t.Parallel()
	style := respond.Style{Fields: []respond.FieldWriter{respond.Points{Status: "Status", Details: "Details"}}, DetailsOn: "debug"}
	asked := ratelimit.CostsBy(func(*http.Request) (ratelimit.Costs, error) { return ratelimit.Costs{{Name: "asked", Points: 5}}, nil })
	outer := limiter(t, ratelimit.Config{Style: style, Rules: []ratelimit.Rule{{Name: "points", Key: apiKey, Limits: []policy.Limit{policy.FixedWindow(100, time.Hour)}, Costs: asked}}})
	inner := limiter(t, ratelimit.Config{Name: "inner", Style: style, Rules: []ratelimit.Rule{{Name: "one", Key: apiKey, Limits: []policy.Limit{policy.FixedWindow(1, time.Hour)}}}})
	within := inner.Handler(http.HandlerFunc(ok))
	h := outer.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.NoError(t, ratelimit.SetCosts(r.Context(), "points", ratelimit.Costs{{Name: "known", Points: 9}}))
		within.ServeHTTP(w, r)
	}))
	for _, code := range []int{200, 429} {
		w := get(h, "/?debug=1", "a")
		assert.Equal(t, code, w.Code)
		assert.JSONEq(t, `{"requestCost":9,"maximumAvailable":100,"currentlyAvailable":91,"restoreRate":0.027777}`, w.Header().Get("Status"))
		assert.Equal(t, "known=9", w.Header().Get("Details"))
	}
}
