// Migrate is an API that changes how it refuses, without breaking the clients it
// has. Those get what they always got: 409 with a phrase of its own in the status
// line. Clients that ask for the newer version by a header field,
//
//	API-Version: 2026-01-01
//
// get 429, a problem in JSON, and the IETF's RateLimit fields on every response.
// Both are counted together: it is one Limiter, and only the style is chosen per
// request.
//
//	go run ./_examples/migrate
package main

import (
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/stint-go/stint/_examples/serve"
	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// versionField is how a client says which version of the API it was written for.
// One that says nothing, or a version that is not known, is an old client.
const (
	versionField = "API-Version"
	newVersion   = "2026-01-01"
)

// oldStyle is what clients have been written against. It tells of no limits, and
// everything is in the status line, where HTTP/1.1 is spoken.
var oldStyle = respond.Style{
	Status:       http.StatusConflict,
	ReasonPhrase: "You must wait before accessing this url again.",
	Fields:       []respond.FieldWriter{},
	Refusal:      respond.Empty,
	Header:       http.Header{"Cache-Control": {"no-cache"}, "Pragma": {"no-cache"}, "Expires": {"-1"}},
}

var newStyle = respond.Style{
	Fields:  []respond.FieldWriter{respond.RateLimit},
	Refusal: respond.Problem,
}

func main() {
	serve.Main(routes, "try twice within a second: curl -i -u alice: %s/items", "and as a new client: curl -i -u alice: -H 'API-Version: 2026-01-01' %s/items")
}

func routes(store policy.Store) http.Handler {
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Store:    store,
		Style:    oldStyle,
		Styles:   map[string]respond.Style{newVersion: newStyle},
		StyleFor: func(r *http.Request) string { return r.Header.Get(versionField) },
		Rules: []ratelimit.Rule{{
			Name: "per_client", Key: client,
			Limits: []policy.Limit{policy.TokenBucket(1, time.Second), policy.PerHour(600)},
		}},
	}))
	r := chi.NewRouter()
	r.Use(chimiddleware.ClientIPFromRemoteAddr)
	r.Use(varyByVersion)
	r.Use(limits.Handler)
	r.Get("/items", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("[]\n"))
	})
	return respond.ReasonPhrases(r) // around all else
}

// varyByVersion tells caches that other versions get other responses.
func varyByVersion(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", versionField)
		next.ServeHTTP(w, r)
	})
}

// client is the user of Basic authentication, or else the address. Any user will
// do here: a real service verifies the password before it counts.
func client(r *http.Request) (string, error) {
	if user, _, ok := r.BasicAuth(); ok && user != "" {
		return "user:" + user, nil
	}
	ip, err := ratelimit.ClientIP(r)
	return "ip:" + ip, err
}
