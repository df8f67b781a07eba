// Nexudus serves an API that is limited as Nexudus's page on throttling says:
// every row of its table, decided together, and its refusals, which are 409 with
// a reason phrase of their own.
//
//	go run ./_examples/nexudus
//	go run ./_examples/nexudus -status 429   # for those who migrate
package main

import (
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/stint-go/stint/_examples/serve"
	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

func main() {
	status := flag.Int("status", http.StatusConflict, "status of refusals: 409, as the page says, or 429")
	build := func(store policy.Store) http.Handler {
		h, err := routes(store, *status)
		if err != nil {
			log.Fatal(err)
		}
		return h
	}
	serve.Main(build, "try twice at once: curl -i -u me: %[1]s/api/spaces/coworkers %[1]s/api/spaces/coworkers")
}

// style is that of the page. With 429 there is no phrase to keep.
func style(status int) respond.Style {
	s := respond.Style{
		Status:       status,
		Fields:       []respond.FieldWriter{}, // the page promises none but Retry-After
		Refusal:      respond.Empty,
		ExposeFields: true, // Retry-After, for the page's script in a browser
		Header: http.Header{
			"Cache-Control": {"no-cache"},
			"Pragma":        {"no-cache"},
			"Expires":       {"-1"},
		},
	}
	if status == http.StatusConflict {
		s.ReasonPhrase = "You must wait before accessing this url again."
	}
	return s
}

func routes(store policy.Store, status int) (http.Handler, error) {
	limits, err := ratelimit.New(ratelimit.Config{
		Name: "nexudus", Store: store, Rules: rules, FoldCase: true, Style: style(status),
	})
	if err != nil {
		return nil, err
	}
	r := chi.NewRouter()
	r.Use(crossOrigin, limits.Handler)
	r.Handle("/*", http.HandlerFunc(echo))
	return respond.ReasonPhrases(r), nil
}

// client is the user of Basic authentication, or else the IP. Any user is valid
// here; a real service verifies the password before the limiter.
func client(r *http.Request) (string, error) {
	if user, _, ok := r.BasicAuth(); ok && user != "" {
		return "user:" + user, nil
	}
	return ratelimit.ClientIP(r)
}

// crossOrigin lets scripts of any page call the API. It stands outside the
// limiter, so that they can read refusals too, and preflights, which browsers send
// by themselves and without authentication, are not counted.
func crossOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		if ratelimit.Preflight(r) {
			h.Set("Access-Control-Allow-Methods", "*")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// echo answers every path under /api/, in any case.
func echo(w http.ResponseWriter, r *http.Request) {
	const api = "/api/"
	if len(r.URL.Path) < len(api) || !strings.EqualFold(r.URL.Path[:len(api)], api) {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"method": r.Method, "path": r.URL.Path})
}
