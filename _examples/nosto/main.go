// Nosto serves an API that keeps the promises of Nosto's page on rate limits:
// GraphQL, search and recommendations, each with a budget of points a second by
// tier; recommendations that reserve the most they may cost and settle what they
// did; status and breakdown in header fields; and limits that operators reduce for
// a while, in all processes at once.
//
//	go run ./_examples/nosto
package main

import (
	"encoding/json"
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
	serve.Main(routes,
		"try: curl -i -H 'Authorization: Bearer std_acme' '%s/recommendations?type=normal&limit=20&segments=2&nosto-cost-debug'",
		`try: curl -X PUT -d '{"factor":0.5}' %s/_admin/scale`)
}

// routes is the API over a store.
func routes(store policy.Store) http.Handler {
	scale, err := ratelimit.NewSharedScale("nosto", store)
	if err != nil {
		panic(err)
	}
	graphql := newGraphQL()
	limits := newLimits(store, scale, graphql.calculator)

	api := chi.NewRouter()
	api.Use(chimiddleware.GetHead, requireKey, limits.Handler)
	api.Post("/graphql", graphql.ServeHTTP)
	api.Post("/search", search)
	api.Get("/recommendations", recommend)
	api.Post("/recommendations", recommend)
	api.NotFound(notFound)
	api.MethodNotAllowed(methodNotAllowed)

	r := chi.NewRouter()
	r.Mount("/_admin", admin(scale))
	r.Mount("/", api)
	return r
}

// requireKey answers 401 to requests without a key of the right form. They have no
// budget, so that there is no status to tell. A real service checks here that the
// key exists.
func requireKey(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tier(r) == "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, r, http.StatusUnauthorized, "unauthorized", "Send your API key as Authorization: Bearer std_…, adv_… or custom_…")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// tier tells the plan of the request's key, or "" if it is none. A real service
// looks it up.
func tier(r *http.Request) string {
	token, ok := serve.BearerToken(r)
	prefix, key, _ := strings.Cut(token, "_")
	if _, known := budgets[prefix]; !ok || !known || key == "" {
		return ""
	}
	return prefix
}

func notFound(w http.ResponseWriter, r *http.Request) {
	payMinimum(r)
	writeError(w, r, http.StatusNotFound, "not_found", "There is nothing here.")
}

// methodNotAllowed answers requests of methods that a path does not have.
func methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	allowed := http.MethodPost
	if r.URL.Path == "/recommendations" {
		allowed = "GET, HEAD, POST"
	}
	w.Header().Set("Allow", allowed)
	payMinimum(r)
	writeError(w, r, http.StatusMethodNotAllowed, "method_not_allowed", "Allowed here: "+allowed+".")
}

// failure is the body of a response that is no success.
type failure struct {
	Error problem `json:"error"`
}

type problem struct {
	Code       string `json:"code"`
	Message    string `json:"message"`
	RetryAfter int64  `json:"retry_after,omitempty"`
}

// writeError writes an error in the form that the path's clients read.
func writeError(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	if styleOf(r) == graphQLStyle {
		writeJSON(w, status, graphQLFailure(code, message))
		return
	}
	writeJSON(w, status, failure{problem{Code: code, Message: message}})
}

// refusal is the body of a refused request.
func refusal(d respond.Denial) any {
	return failure{problem{Code: codeOf(d), Message: d.Detail, RetryAfter: d.Seconds()}}
}

// codeOf returns the code of a refusal: of a limit that is reduced for a while, its
// own.
func codeOf(d respond.Denial) string {
	if d.Reduced {
		return "temporary_reduced_capacity"
	}
	return string(d.Reason)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
