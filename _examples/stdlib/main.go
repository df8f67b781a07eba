// Stdlib is quickstart without chi: ten requests per ten seconds and API key,
// in front of an http.ServeMux.
//
//	go run ./_examples/stdlib
package main

import (
	"net/http"
	"time"

	"github.com/stint-go/stint/_examples/serve"
	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

func main() {
	serve.Main(routes, "try eleven times: curl -i -H 'X-API-Key: a' %s/")
}

func routes(store policy.Store) http.Handler {
	limit := ratelimit.Config{Store: store}.PerKey(
		ratelimit.Header("X-API-Key"),
		policy.SlidingLog(10, 10*time.Second),
	)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("hello\n"))
	})
	return limit(mux)
}
