// Nusomi serves an API that keeps the promises of Nusomi's page on rate limits:
// seven surfaces, each limited per API key and per workspace by token buckets of
// twice the rate, tiers by workspace, streams that are counted while they are
// open, batches that are one request, and quotas by the month.
//
//	go run ./_examples/nusomi
package main

import (
	"errors"
	"flag"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/stint-go/stint/_examples/serve"
	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

func main() {
	quotas := monthly{minutes: 25_000, rows: policy.Unlimited}
	flag.Var((*number)(&quotas.minutes), "captured-minutes", "captured minutes a month for each workspace: a number, or unlimited")
	flag.Var((*number)(&quotas.rows), "exported-rows", "exported rows a month for each workspace: a number, or unlimited")
	serve.Main(func(store policy.Store) http.Handler { return routes(store, quotas) },
		"try: curl -i -H 'Authorization: Bearer nus_acme_key1' '%s/v1/sessions'",
		"try: curl -i -H 'Authorization: Bearer nus_acme_key1' '%s/v1/limits'")
}

// routes is the API over a store.
func routes(store policy.Store, quotas monthly) http.Handler {
	on := surfaces(store, quotas)
	r := chi.NewRouter()
	r.Use(chimiddleware.GetHead)
	r.NotFound(notFound)
	r.MethodNotAllowed(methodNotAllowed)
	r.Route("/v1", func(r chi.Router) {
		r.Use(requireKey)
		r.With(on.sessions.Handler).Post("/sessions", createSession)
		r.Route("/sessions/{id}", func(r chi.Router) {
			r.With(on.events.Handler).Post("/events", acceptBatch)
			r.With(on.frames.Handler).Post("/frames", acceptBatch)
			r.With(on.streams.Handler).Get("/events/stream", streamEvents)
			r.With(on.reads.Handler).Get("/", readSession)
			r.With(on.reads.Handler).Get("/events", readList)
			r.With(on.reads.Handler).Get("/frames", readList)
		})
		r.With(on.reads.Handler).Get("/sessions", readList)
		r.With(on.reads.Handler).Get("/events", readList)
		r.With(on.reads.Handler).Get("/frames", readList)
		r.With(on.exports.Handler).Post("/exports", createExport)
		r.With(on.replays.Handler).Post("/replays", createReplay)

		// What is no surface is not limited, so that it can be seen when reads are
		// refused. It says how reads stand.
		r.Group(func(r chi.Router) {
			r.Use(tell(on.reads))
			r.Get("/limits", ratelimit.ShowLimits(nil, on.all()...).ServeHTTP)
			r.Get("/quota", ratelimit.ShowQuota(nil, on.all()...).ServeHTTP)
		})
		r.NotFound(tell(on.reads)(http.HandlerFunc(notFound)).ServeHTTP)
		r.MethodNotAllowed(tell(on.reads)(http.HandlerFunc(methodNotAllowed)).ServeHTTP)
	})
	return r
}

// number is a flag's number of units, or none.
type number int64

func (n *number) String() string {
	if int64(*n) == policy.Unlimited {
		return "unlimited"
	}
	return strconv.FormatInt(int64(*n), 10)
}

func (n *number) Set(s string) error {
	if s == "unlimited" {
		*n = number(policy.Unlimited)
		return nil
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v < 1 || v > policy.MaxUnits {
		return errors.New(`write a number from 1 on, or "unlimited"`)
	}
	*n = number(v)
	return nil
}
