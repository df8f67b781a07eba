// Nudg3 serves an API that keeps the general promises of Nudg3's page on rate
// limits: three sliding windows for each API key, by tier, decided together,
// with the page's nine header fields, and open when Redis is away; exports, ten an
// hour and one at a time, which wait their turn and are closed without it; and IPs
// that are blocked for guessing keys.
//
//	go run ./_examples/nudg3
//	go run ./_examples/nudg3 -blocks 10s,1m   # quicker to try out
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/stint-go/stint/_examples/serve"
	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

func main() {
	serve.Main(routes, "try: curl -i -H 'Authorization: Bearer nudg3_live_ak_your_key' '%s/api/v1/brands?ids=a,b'")
}

// tiers is the table of the page.
var tiers = policy.Tiers{
	"basic":   {policy.PerMinute(60), policy.PerHour(600), policy.PerDay(5000)},
	"premium": {policy.PerMinute(300), policy.PerHour(3000), policy.PerDay(50_000)},
}

var style = respond.Style{
	Fields: []respond.FieldWriter{respond.XRateLimitPerWindow},
	Refusal: respond.JSON(func(d respond.Denial) any {
		switch d.Reason {
		case respond.RateLimitExceeded:
			return failure{Error: problem{
				Code:       string(d.Reason),
				Message:    fmt.Sprintf("Rate limit exceeded. Try again in %d seconds.", d.Seconds()),
				RetryAfter: d.Seconds(),
			}}
		case respond.Blocked:
			return failure{Error: problem{
				Code:       "ip_blocked",
				Message:    fmt.Sprintf("Too many failed authentications. Try again in %d seconds.", d.Seconds()),
				RetryAfter: d.Seconds(),
			}}
		case respond.ConcurrencyExceeded, respond.QueueFull, respond.QueueTimeout:
			return failure{Error: problem{Code: string(d.Reason), Message: d.Detail, RetryAfter: d.Seconds()}}
		default:
			return failure{Error: problem{Code: string(d.Reason), Message: d.Detail}}
		}
	}),
}

func routes(store policy.Store) http.Handler {
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Name: "nudg3", Store: store, Style: style,
		Rules: append(guard(), ratelimit.Rule{
			Name: "per_key", Key: ratelimit.Bearer(), LimitsFor: ratelimit.ByTier(tier, tiers),
			Skip: unauthenticated, Fail: ratelimit.FailOpen,
		}),
	}))
	// All of them are asked in one round trip, outside of what answers 401.
	exports := ratelimit.Must(limits.With(exportRules...))

	r := chi.NewRouter()
	r.Use(chimiddleware.GetHead)
	r.NotFound(notFound)
	r.MethodNotAllowed(methodNotAllowed)
	r.Route("/api/v1", func(r chi.Router) { // its 404 and 405 are those of the root
		r.Group(func(r chi.Router) {
			r.Use(limits.Handler, requireKey)
			r.Get("/brands", listBrands)
			r.Get("/dashboard", showDashboard)
			r.Get("/exports/chat-responses/statistics", showStatistics)
		})
		r.With(exports.Handler, requireKey).Post("/exports/chat-responses", exportResponses)
		r.NotFound(limits.Handler(requireKey(http.HandlerFunc(notFound))).ServeHTTP)
		r.MethodNotAllowed(limits.Handler(requireKey(http.HandlerFunc(methodNotAllowed))).ServeHTTP)
	})
	return r
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusNotFound, failure{Error: problem{Code: "not_found", Message: "There is nothing here."}})
}

// methodNotAllowed answers requests of methods that a path does not have.
func methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	allowed := "GET, HEAD"
	if strings.HasSuffix(r.URL.Path, "/exports/chat-responses") {
		allowed = "POST"
	}
	w.Header().Set("Allow", allowed)
	writeJSON(w, http.StatusMethodNotAllowed, failure{Error: problem{Code: "method_not_allowed", Message: "Allowed here: " + allowed + "."}})
}

// tier tells the plan of the request's key. A real service looks it up.
func tier(r *http.Request) string {
	if token, _ := serve.BearerToken(r); strings.Contains(token, "_premium_") {
		return "premium"
	}
	return "basic"
}

// requireKey answers 401 to requests without a key.
func requireKey(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if unauthenticated(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeJSON(w, http.StatusUnauthorized, failure{Error: problem{
				Code: "unauthorized", Message: "Send your API key as Authorization: Bearer nudg3_live_ak_…",
			}})
			return
		}
		next.ServeHTTP(w, r)
	})
}

type success struct {
	Success bool `json:"success"`
	Data    any  `json:"data"`
}

type failure struct {
	Success bool    `json:"success"` // always false
	Error   problem `json:"error"`
}

type problem struct {
	Code       string `json:"code"`
	Message    string `json:"message"`
	RetryAfter int64  `json:"retry_after,omitempty"`
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
