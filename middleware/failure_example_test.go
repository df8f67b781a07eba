package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

// unplugged is a store that is away.
type unplugged struct{ policy.Store }

func (unplugged) Take(context.Context, policy.Ticket, []policy.Charge, *policy.Decision) error {
	return errors.New("no route to host")
}

func ExampleFailMode() {
	apiKey := ratelimit.Header("X-API-Key")
	store := unplugged{}
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Store:     store,
		Instances: 4, // what redisstore counts by itself
		Observe:   func(ratelimit.Event) {},
		Rules: []ratelimit.Rule{
			{Name: "rate", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(600)}},
			{Name: "logins", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(8)}, Fail: ratelimit.FailLocal},
		},
	}))
	defer limits.Close()
	exports, err := limits.With(ratelimit.Rule{Name: "exports", Key: apiKey,
		Limits: []policy.Limit{policy.PerHour(10)}, Fail: ratelimit.FailClosed})
	if err != nil {
		panic(err)
	}
	r := chi.NewRouter()
	r.With(limits.Handler).Post("/login", items)
	r.With(exports.Handler).Post("/exports", items)

	for range 3 { // a quarter of 8, and the rate is not asked
		call(r, "POST", "/login", "X-API-Key", "alice")
	}
	call(r, "POST", "/exports", "X-API-Key", "alice")
	// Output:
	// POST /login: 200, 1 of 2 left
	// POST /login: 200, 0 of 2 left
	// POST /login: 429, 0 of 2 left
	// POST /exports: 503,  of  left
}

func ExampleLimiter_Health() {
	store := unplugged{}
	api := ratelimit.Must(ratelimit.New(ratelimit.Config{Store: store, Observe: func(ratelimit.Event) {}, Rules: []ratelimit.Rule{
		{Name: "per_key", Key: ratelimit.Header("X-API-Key"), Limits: []policy.Limit{policy.PerMinute(60)}}}}))
	defer api.Close()
	r := chi.NewRouter()
	r.With(api.Handler).Get("/items", items)

	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		health := api.Health()
		for _, lost := range health.Failing {
			fmt.Fprintf(w, "limits: the store has failed since %v: %v\n", lost.Since.Round(time.Second), lost.Err)
		}
		fmt.Fprintf(w, "limits: %d requests served without\n", health.Bypassed)
	})

	for range 10 {
		r.ServeHTTP(httptest.NewRecorder(), request("/items", "alice"))
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
	health := api.Health()
	fmt.Println(w.Code, health.OK(), health.Failing[0].Err, health.Bypassed)
	// Output:
	// 200 false no route to host 10
}

func ExampleClientIPFrom() {
	r := chi.NewRouter()
	r.Use(ratelimit.ClientIPFrom(chimiddleware.ClientIPFromXFF("192.0.2.0/24"))) // the proxies' addresses
	r.Use(ratelimit.PerIP(policy.PerMinute(60)))
	r.Get("/items", items)

	// The address that httptest has for the peer is 192.0.2.1.
	call(r, "GET", "/items", "X-Forwarded-For", "203.0.113.9")
	call(r, "GET", "/items", "X-Forwarded-For", "198.51.100.1, 203.0.113.9")
	call(r, "GET", "/items", "X-Forwarded-For", "unknown")
	// Output:
	// GET /items: 200, 59 of 60 left
	// GET /items: 200, 58 of 60 left
	// GET /items: 400,  of  left
}

func ExampleIPOptions() {
	site := ratelimit.IPOptions{Bits: 56, Unix: "sidecar"}.ClientIP()
	for _, peer := range []string{"[2001:db8:1:2fe::1]:4711", "[::ffff:192.0.2.1]:4711", "@"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		fmt.Println(site(r))
	}
	// Output:
	// 2001:db8:1:200::/56 <nil>
	// 192.0.2.1 <nil>
	// sidecar <nil>
}

func ExamplePeerIP() {
	r := chi.NewRouter()
	r.Use(ratelimit.ClientIPFrom(chimiddleware.ClientIPFromXFF("192.0.2.0/24")))
	// The load balancer's own health checks have no client.
	r.Use(ratelimit.PerKey(ratelimit.FirstOf(ratelimit.ClientIP, ratelimit.PeerIP), policy.PerMinute(60)))
	r.Get("/items", items)

	call(r, "GET", "/items", "X-Forwarded-For", "203.0.113.9")
	call(r, "GET", "/items")
	// Output:
	// GET /items: 200, 59 of 60 left
	// GET /items: 200, 59 of 60 left
}
