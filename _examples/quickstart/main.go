// Quickstart limits a chi router to ten requests per ten seconds and API key,
// counted in memory.
//
//	go run ./_examples/quickstart
package main

import (
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/stint-go/stint/_examples/serve"
	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

func main() {
	serve.Main(routes, "try eleven times: curl -i -H 'X-API-Key: a' %s/")
}

func routes(store policy.Store) http.Handler {
	r := chi.NewRouter()
	r.Use(ratelimit.Config{Store: store}.PerKey(
		ratelimit.Header("X-API-Key"),
		policy.SlidingLog(10, 10*time.Second),
	))
	r.Get("/", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("hello\n"))
	})
	return r
}
