// Elnudge serves an API that keeps the promises of elNudge's page on rate
// limits: 1,000 requests in a rolling minute for each API key, and 10,000
// events in a rolling minute for each site key, however they are batched.
//
//	go run ./_examples/elnudge
package main

import (
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/stint-go/stint/_examples/serve"
	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

func main() {
	serve.Main(routes,
		"try: curl -i -H 'Authorization: Bearer sk_live_XXXXXXXX' '%s/v1/sessions?limit=200'",
		`try: curl -i -H 'X-Site-Key: site_demo' -d '{"events":[{},{}]}' %s/v1/events`)
}

// style answers as the page shows. Each event of a batch counts, so a batch can
// be larger than any minute allows: that is another error, without Retry-After.
var style = respond.Style{
	Refusal: respond.JSON(func(d respond.Denial) any {
		switch d.Reason {
		case respond.RateLimitExceeded:
			return apiError{"RateLimitExceeded", fmt.Sprintf("Too many requests. Retry after %d seconds.", d.Seconds())}
		case respond.CostTooHigh:
			return apiError{"BatchTooLarge", fmt.Sprintf("More than %d events in one request.", d.Standing.Result.Capacity)}
		default:
			return apiError{"RequestRefused", "The request cannot be served."}
		}
	}),
}

func routes(store policy.Store) http.Handler {
	// A sliding log is exact: a rolling minute, as promised, never 1,001 in any.
	rest := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Name: "rest", Store: store, Style: style,
		Rules: []ratelimit.Rule{{
			Name: "per_api_key", Key: ratelimit.Bearer(),
			Limits: []policy.Limit{policy.SlidingLog(1000, time.Minute)},
		}},
	}))
	relay := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Name: "relay", Store: store, Style: style,
		Rules: []ratelimit.Rule{{
			Name: "per_site_key", Key: ratelimit.Header("X-Site-Key"),
			Limits: []policy.Limit{policy.SlidingLog(maxEvents, time.Minute)},
			Cost:   func(r *http.Request) (int64, error) { return eventsOf(r), nil },
		}},
	}))

	r := chi.NewRouter()
	r.NotFound(notFound)
	r.MethodNotAllowed(methodNotAllowed("GET, HEAD, POST")) // of methods that chi does not know
	r.Route("/v1/sessions", func(r chi.Router) {
		r.Use(requireAPIKey, rest.Handler)
		// Here, not at the root: there, every method has a route at a mount point.
		r.Use(chimiddleware.GetHead)
		r.Get("/", listSessions)
		r.MethodNotAllowed(methodNotAllowed("GET, HEAD"))
	})
	r.Route("/v1/events", func(r chi.Router) {
		r.Use(requireSiteKey)
		r.With(countEvents(relay), relay.Handler).Post("/", acceptEvents)
		// What brings no events costs none, but shows the fields.
		r.NotFound(relay.Handler(http.HandlerFunc(notFound)).ServeHTTP)
		r.MethodNotAllowed(relay.Handler(methodNotAllowed("POST")).ServeHTTP)
	})
	return r
}

var (
	apiKey  = regexp.MustCompile(`^sk_live_[A-Za-z0-9_.-]+$`)
	siteKey = regexp.MustCompile(`^site_[A-Za-z0-9_.-]+$`)
)

// requireAPIKey answers 401 to requests without a key of the right form. A real
// service looks the key up here: then only keys that exist have a limit.
func requireAPIKey(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token, ok := serve.BearerToken(r); !ok || !apiKey.MatchString(token) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, http.StatusUnauthorized, "Unauthorized", "Send your API key as Authorization: Bearer sk_live_…")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// requireSiteKey does the same for the site keys of the relay.
func requireSiteKey(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if key, ok := serve.OneField(r, "X-Site-Key"); !ok || !siteKey.MatchString(key) {
			writeError(w, http.StatusUnauthorized, "Unauthorized", "Send your site key as X-Site-Key: site_…")
			return
		}
		next.ServeHTTP(w, r)
	})
}
