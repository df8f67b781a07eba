package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/respond"
)

// call sends a request and prints what became of it.
func call(h http.Handler, method, path string, header ...string) {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	sent := w.Result().Header
	fmt.Printf("%s %s: %d, %s of %s left\n", method, path, w.Code, sent.Get("X-RateLimit-Remaining"), sent.Get("X-RateLimit-Limit"))
}

func items(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

func Example() {
	r := chi.NewRouter()
	r.Use(ratelimit.PerKey(ratelimit.Header("X-API-Key"), policy.PerMinute(2)))
	r.Get("/items", items)

	call(r, "GET", "/items", "X-API-Key", "alice")
	call(r, "GET", "/items", "X-API-Key", "alice")
	call(r, "GET", "/items", "X-API-Key", "alice")
	call(r, "GET", "/items", "X-API-Key", "bob")
	// Output:
	// GET /items: 200, 1 of 2 left
	// GET /items: 200, 0 of 2 left
	// GET /items: 429, 0 of 2 left
	// GET /items: 200, 1 of 2 left
}

func ExampleNew() {
	apiKey := ratelimit.Header("X-API-Key")
	workspace := ratelimit.Header("X-Workspace")
	plan := func(r *http.Request) string { return r.Header.Get("X-Plan") } // of the authenticated client, really
	bucket := func(n int64) []policy.Limit {
		return []policy.Limit{policy.TokenBucket(n, time.Minute).WithBurst(2 * n)}
	}

	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Name:  "api",
		Store: memstore.New(memstore.Options{}),
		Rules: []ratelimit.Rule{
			{Name: "per_key", Key: apiKey, Partition: workspace,
				LimitsFor: ratelimit.ByTier(plan, policy.Tiers{"basic": bucket(10), "premium": bucket(100)})},
			{Name: "per_workspace", Key: workspace,
				LimitsFor: ratelimit.ByTier(plan, policy.Tiers{"basic": bucket(50), "premium": bucket(500)})},
		},
	}))
	defer limits.Close()

	r := chi.NewRouter()
	r.Group(func(r chi.Router) {
		r.Use(limits.Handler)
		r.Get("/v1/items", items)
	})
	call(r, "GET", "/v1/items", "X-API-Key", "alice", "X-Workspace", "acme", "X-Plan", "basic")
	call(r, "GET", "/v1/items", "X-API-Key", "bob", "X-Workspace", "umbrella", "X-Plan", "premium")
	// Output:
	// GET /v1/items: 200, 19 of 10 left
	// GET /v1/items: 200, 199 of 100 left
}

func ExampleMust() {
	defer func() { fmt.Println(recover()) }()
	ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{
		{Name: "orders", Key: ratelimit.ClientIP},
	}}))
	// Output:
	// ratelimit: rule 1 ("orders"): no Limits: write at least one, such as policy.PerMinute(60), or LimitsFor
}

func ExampleConfig_PerKey() {
	store := memstore.New(memstore.Options{}) // or one that all instances share
	r := chi.NewRouter()
	r.Use(ratelimit.Config{Store: store}.PerKey(ratelimit.Bearer(), policy.PerMinute(1000)))
	r.Get("/items", items)
	call(r, "GET", "/items", "Authorization", "Bearer s3cret")
	// Output:
	// GET /items: 200, 999 of 1000 left
}

func ExamplePerKey() {
	mux := http.NewServeMux()
	mux.Handle("GET /items", http.HandlerFunc(items))
	h := ratelimit.PerKey(ratelimit.Header("X-API-Key"), policy.PerMinute(1000))(mux)
	call(h, "GET", "/items", "X-API-Key", "alice")
	call(h, "GET", "/items")
	// Output:
	// GET /items: 200, 999 of 1000 left
	// GET /items: 400,  of  left
}

func ExamplePerWorkspace() {
	r := chi.NewRouter()
	r.Use(ratelimit.PerWorkspace(ratelimit.Header("X-Workspace"), policy.PerMinute(600)))
	r.Get("/items", items)
	call(r, "GET", "/items", "X-Workspace", "acme")
	// Output:
	// GET /items: 200, 599 of 600 left
}

func ExamplePerIP() {
	r := chi.NewRouter()
	r.Use(chimiddleware.ClientIPFromXFF("192.0.2.0/24")) // the proxies' addresses
	r.Use(ratelimit.PerIP(policy.PerMinute(60)))
	r.Get("/items", items)
	call(r, "GET", "/items", "X-Forwarded-For", "2001:db8::1")
	call(r, "GET", "/items", "X-Forwarded-For", "2001:db8::2") // of the same network
	// Output:
	// GET /items: 200, 59 of 60 left
	// GET /items: 200, 58 of 60 left
}

func ExamplePerMethod() {
	r := chi.NewRouter()
	r.Use(ratelimit.PerMethod(ratelimit.ClientIP, policy.PerMinute(60)))
	r.Get("/items", items)
	r.Post("/items", items)
	call(r, "GET", "/items")
	call(r, "POST", "/items")
	// Output:
	// GET /items: 200, 59 of 60 left
	// POST /items: 200, 59 of 60 left
}

func ExamplePerEndpoint() {
	r := chi.NewRouter()
	r.Use(ratelimit.PerEndpoint(ratelimit.ClientIP, policy.PerMinute(60)))
	r.Get("/items/{id}", items)
	r.Get("/users/{id}", items)
	call(r, "GET", "/items/1")
	call(r, "GET", "/items/2")
	call(r, "GET", "/users/1")
	// Output:
	// GET /items/1: 200, 59 of 60 left
	// GET /items/2: 200, 58 of 60 left
	// GET /users/1: 200, 59 of 60 left
}

func ExampleLimiter_With() {
	apiKey := ratelimit.Header("X-API-Key")
	base := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{
		{Name: "all", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(100)}},
	}}))
	defer base.Close()
	exports := ratelimit.Must(base.With(ratelimit.Rule{
		Name: "exports", Key: apiKey, Limits: []policy.Limit{policy.SlidingLog(2, time.Hour)},
	}))

	r := chi.NewRouter()
	r.With(base.Handler).Get("/items", items)
	r.With(exports.Handler).Post("/exports", items)
	call(r, "POST", "/exports", "X-API-Key", "alice")
	call(r, "GET", "/items", "X-API-Key", "alice")
	// Output:
	// POST /exports: 200, 1 of 2 left
	// GET /items: 200, 98 of 100 left
}

func ExampleLimiter_Handler() {
	perHour := func(name string, n int64) *ratelimit.Limiter {
		return ratelimit.Must(ratelimit.New(ratelimit.Config{Name: name, Rules: []ratelimit.Rule{
			{Name: "per_ip", Key: ratelimit.ClientIP, Limits: []policy.Limit{policy.FixedWindow(n, 24*time.Hour)}},
		}}))
	}
	site, search := perHour("site", 10), perHour("search", 2)
	defer site.Close()
	defer search.Close()

	r := chi.NewRouter()
	r.Use(site.Handler)
	r.Get("/", items)
	r.With(search.Handler).Get("/search", items)
	for range 4 {
		call(r, "GET", "/search")
	}
	call(r, "GET", "/") // the two that were refused took nothing
	// Output:
	// GET /search: 200, 1 of 2 left
	// GET /search: 200, 0 of 2 left
	// GET /search: 429, 0 of 2 left
	// GET /search: 429, 0 of 2 left
	// GET /: 200, 7 of 10 left
}

func ExampleLimiter_Check() {
	uploads := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{
		{Name: "large", Key: ratelimit.ClientIP, Limits: []policy.Limit{policy.PerDay(1)}},
	}}))
	defer uploads.Close()
	var style respond.Style

	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("large") {
			report, err := uploads.Check(r)
			if err != nil {
				fmt.Println("log:", err)
			}
			if report.Denial != nil {
				style.Refuse(w, r, report)
				return
			}
		}
		w.WriteHeader(http.StatusCreated)
	})
	call(h, "POST", "/?large")
	call(h, "POST", "/?large")
	call(h, "POST", "/")
	// Output:
	// POST /?large: 201,  of  left
	// POST /?large: 429, 0 of 1 left
	// POST /: 201,  of  left
}

func ExampleLimiter_Peek() {
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{
		{Name: "per_key", Key: ratelimit.Header("X-API-Key"), Limits: []policy.Limit{policy.PerMinute(60), policy.PerHour(600)}},
	}}))
	defer limits.Close()

	r := httptest.NewRequest("GET", "/usage", nil)
	r.Header.Set("X-API-Key", "alice")
	report, err := limits.Peek(r)
	for _, s := range report.Standings {
		fmt.Printf("%s: %d left of %s\n", s.Rule, s.Result.Remaining, s.Limit)
	}
	fmt.Println(report.Denial == nil, err)
	// Output:
	// per_key: 60 left of 60 per minute
	// per_key: 600 left of 600 per hour
	// true <nil>
}

func ExampleSetCost() {
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{
		{Name: "points", Key: ratelimit.ClientIP, Limits: []policy.Limit{policy.PerMinute(1000)}},
	}}))
	defer limits.Close()

	h := limits.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The query turned out to cost more than the 1 that it was charged.
		if err := ratelimit.SetCost(r.Context(), "points", 250); err != nil {
			fmt.Println("log:", err)
		}
		w.WriteHeader(http.StatusOK) // sends the header fields
	}))
	call(h, "POST", "/graphql")
	call(h, "POST", "/graphql")
	// Output:
	// POST /graphql: 200, 750 of 1000 left
	// POST /graphql: 200, 500 of 1000 left
}

func ExampleItems() {
	apiKey := ratelimit.Header("X-API-Key")
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{
		{Name: "requests", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(60)}},
		{Name: "events", Key: apiKey, Limits: []policy.Limit{policy.PerDay(1000)}, Cost: ratelimit.Items("events", 100)},
	}}))
	defer limits.Close()

	h := limits.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // whole, as it was sent
		fmt.Printf("%s\n", body)
	}))
	r := httptest.NewRequest("POST", "/v1/events", strings.NewReader(`{"events":[{"id":1},{"id":2},{"id":3}]}`))
	r.Header.Set("X-API-Key", "alice")
	h.ServeHTTP(httptest.NewRecorder(), r)

	r = httptest.NewRequest("POST", "/v1/events", strings.NewReader(`{"events":[]}`))
	r.Header.Set("X-API-Key", "alice")
	report, _ := limits.Peek(r)
	for _, s := range report.Standings {
		fmt.Printf("%s: %d used\n", s.Rule, s.Result.Used)
	}
	// Output:
	// {"events":[{"id":1},{"id":2},{"id":3}]}
	// requests: 1 used
	// events: 3 used
}

func ExampleBatch() {
	batch := ratelimit.Batch{Field: "events", Max: 2, Single: true}
	for _, body := range []string{
		`{"events":[{"id":1},{"id":2}]}`,
		`{"id":1}`,
		`{"events":[{"id":1},{"id":2},{"id":3}]}`,
		`{"events":[{"id":1}],"Events":[]}`,
	} {
		fmt.Println(batch.Cost(httptest.NewRequest("POST", "/v1/events", strings.NewReader(body))))
	}
	// Output:
	// 2 <nil>
	// 1 <nil>
	// 0 batch_too_large: 3 items
	// 0 invalid_batch: a field has the name in other letters
}

func ExampleCostError() {
	cost := func(r *http.Request) (int64, error) {
		if n := r.ContentLength; n >= 0 {
			return n, nil
		}
		return 0, &ratelimit.CostError{Reason: respond.InvalidCost, Detail: "Say how long the body is."}
	}
	_, err := cost(httptest.NewRequest("POST", "/upload", io.MultiReader()))
	fmt.Println(err)
	// Output:
	// invalid_cost
}

func ExampleNewLedger() {
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{
		{Name: "messages", Key: ratelimit.ClientIP, Limits: []policy.Limit{policy.PerMinute(2)}},
	}}))
	defer limits.Close()

	r := httptest.NewRequest("GET", "/socket", nil)
	for i := range 3 { // messages of a WebSocket
		report, _ := limits.Check(r.WithContext(ratelimit.NewLedger(r.Context())))
		fmt.Printf("message %d: allowed %v\n", i+1, report.Denial == nil)
	}
	// Output:
	// message 1: allowed true
	// message 2: allowed true
	// message 3: allowed false
}

func ExampleByTier() {
	plan := func(r *http.Request) string { return r.Header.Get("X-Plan") } // of the authenticated client, really
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{{
		Name: "per_ip", Key: ratelimit.ClientIP,
		Limits:    []policy.Limit{policy.PerMinute(10)}, // who has no plan
		LimitsFor: ratelimit.ByTier(plan, policy.Tiers{"basic": {policy.PerMinute(60)}, "premium": {policy.PerMinute(300)}}),
	}}}))
	defer limits.Close()
	h := limits.Handler(http.HandlerFunc(items))
	call(h, "GET", "/")
	call(h, "GET", "/", "X-Plan", "basic")
	call(h, "GET", "/", "X-Plan", "premium") // an upgrade keeps the usage
	// Output:
	// GET /: 200, 9 of 10 left
	// GET /: 200, 58 of 60 left
	// GET /: 200, 297 of 300 left
}

func ExampleByOverride() {
	account := func(r *http.Request) string { return r.Header.Get("X-Account") }
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{{
		Name: "per_account", Key: ratelimit.Header("X-Account"),
		Limits:    []policy.Limit{policy.PerMinute(60)},
		LimitsFor: ratelimit.ByOverride(account, policy.Overrides{"acme": {policy.PerMinute(5000)}}, nil),
	}}}))
	defer limits.Close()
	h := limits.Handler(http.HandlerFunc(items))
	call(h, "GET", "/", "X-Account", "acme")
	call(h, "GET", "/", "X-Account", "umbrella")
	// Output:
	// GET /: 200, 4999 of 5000 left
	// GET /: 200, 59 of 60 left
}

func ExampleFromContext() {
	type accountKey struct{}
	authenticate := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), accountKey{}, "acme")))
		})
	}
	r := chi.NewRouter()
	r.Use(authenticate, ratelimit.PerKey(ratelimit.FromContext(accountKey{}), policy.PerMinute(60)))
	r.Get("/", items)
	call(r, "GET", "/")
	// Output:
	// GET /: 200, 59 of 60 left
}

func ExampleFirstOf() {
	client := ratelimit.FirstOf(ratelimit.Header("X-API-Key"), ratelimit.ClientIP)
	r := httptest.NewRequest("GET", "/", nil)
	fmt.Println(client(r))
	r.Header.Set("X-API-Key", "s3cret")
	fmt.Println(client(r))
	// Output:
	// 192.0.2.1 <nil>
	// HsHCa1DV08WNlYMYGvgHZg <nil>
}

func ExampleJoin() {
	key := ratelimit.Join(ratelimit.ClientIP, ratelimit.Method)
	fmt.Println(key(httptest.NewRequest("POST", "/", nil)))
	// Output:
	// 9:192.0.2.14:POST <nil>
}

func ExampleHeader() {
	r := httptest.NewRequest("GET", "/", nil)
	_, err := ratelimit.Header("X-API-Key")(r)
	fmt.Println(errors.Is(err, ratelimit.ErrNoKey))
	r.Header.Set("X-API-Key", "s3cret")
	fmt.Println(ratelimit.Header("X-API-Key")(r))
	// Output:
	// true
	// HsHCa1DV08WNlYMYGvgHZg <nil>
}

func ExampleBearer() {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer s3cret")
	fmt.Println(ratelimit.Bearer()(r))
	// Output:
	// HsHCa1DV08WNlYMYGvgHZg <nil>
}

func ExampleHMAC() {
	secret := []byte("sixteen random bytes, or more")
	key, err := ratelimit.HMAC(secret, ratelimit.ClientIP)(httptest.NewRequest("GET", "/", nil))
	fmt.Println(len(key), err)
	// Output:
	// 22 <nil>
}

func ExampleClientIP() {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "[2001:db8:1:2:3:4:5:6]:4711"
	fmt.Println(ratelimit.ClientIP(r))
	// Output:
	// 2001:db8:1:2::/64 <nil>
}

func ExampleMethod() {
	fmt.Println(ratelimit.Method(httptest.NewRequest("HEAD", "/", nil)))
	// Output:
	// GET <nil>
}

func ExampleEndpoint() {
	r := chi.NewRouter()
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Println(ratelimit.Endpoint(r))
			next.ServeHTTP(w, r)
		})
	})
	r.Get("/orders/{id}", items)
	r.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/orders/42", nil))
	r.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/wp-login.php", nil))
	// Output:
	// /orders/{id} <nil>
	// unmatched <nil>
}

func ExamplePreflight() {
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{{
		Name: "per_key", Key: ratelimit.Header("X-API-Key"),
		Limits: []policy.Limit{policy.PerMinute(60)},
		Skip:   ratelimit.Preflight,
	}}}))
	defer limits.Close()
	h := limits.Handler(http.HandlerFunc(items))
	call(h, "OPTIONS", "/", "Origin", "https://example.com", "Access-Control-Request-Method", "PUT")
	call(h, "OPTIONS", "/")
	// Output:
	// OPTIONS /: 200,  of  left
	// OPTIONS /: 400,  of  left
}

func ExampleEvent() {
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Rules: []ratelimit.Rule{{Name: "per_ip", Key: ratelimit.ClientIP, Limits: []policy.Limit{policy.PerDay(1)}}},
		Observe: func(e ratelimit.Event) {
			fmt.Printf("%s: %s, %s, %s %q\n", e.Limiter, e.Rule, e.Limit, e.Kind, e.Reason)
		},
	}))
	defer limits.Close()
	h := limits.Handler(http.HandlerFunc(items))
	for range 2 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	// Output:
	// api: per_ip, 1 per day, allowed ""
	// api: per_ip, 1 per day, refused "rate_limit_exceeded"
}
