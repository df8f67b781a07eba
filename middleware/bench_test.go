package middleware_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// BenchmarkHandler is the whole middleware in memory, with header fields: a key
// from a header, one limit, every request allowed.
func BenchmarkHandler(b *testing.B) {
	bucket := policy.TokenBucket(1_000_000_000, time.Second)
	window := policy.PerMinute(1_000_000_000)
	for _, bench := range []struct {
		name string
		c    ratelimit.Config
		with func(c ratelimit.Config) func(http.Handler) http.Handler
	}{
		{"bucket", ratelimit.Config{}, perKey(bucket)},
		{"window", ratelimit.Config{}, perKey(window)},
		{"window, draft-11", ratelimit.Config{Style: respond.Style{Fields: []respond.FieldWriter{respond.RateLimitDraft11{}}}}, perKey(window)},
		{"two windows", ratelimit.Config{}, perKey(window, policy.PerHour(1_000_000_000))},
		{"window, no fields", ratelimit.Config{Style: respond.Style{Fields: []respond.FieldWriter{}}}, perKey(window)},
	} {
		for _, keys := range []int{1, 1000} {
			h := bench.with(bench.c)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			b.Run(fmt.Sprintf("%s/keys=%d", bench.name, keys), func(b *testing.B) {
				requests := requestsOf(keys)
				w := &discard{header: make(http.Header)}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					h.ServeHTTP(w, requests[i%keys])
					i++
				}
			})
			b.Run(fmt.Sprintf("%s/keys=%d/parallel", bench.name, keys), func(b *testing.B) {
				var start atomic.Int64
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					requests := requestsOf(keys)
					w := &discard{header: make(http.Header)}
					for i := int(start.Add(7919)); pb.Next(); i++ {
						h.ServeHTTP(w, requests[i%keys])
					}
				})
			})
		}
	}
}

// BenchmarkEndpoint finds the pattern of a route of the whole router, and of a
// mounted one.
func BenchmarkEndpoint(b *testing.B) {
	for at, target := range map[string]string{"root": "/api/items/3", "sub": "/api/items/3", "leaf": "/users/42"} {
		b.Run(at, func(b *testing.B) {
			h := shop(at)(func(http.Handler) http.Handler {
				return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					b.ReportAllocs()
					for b.Loop() {
						_, _ = ratelimit.Endpoint(r)
					}
				})
			})
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", target, nil))
		})
	}
}

// BenchmarkRefused is the same for requests that are refused.
func BenchmarkRefused(b *testing.B) {
	h := ratelimit.PerKey(ratelimit.Header("X-API-Key"), policy.PerDay(1))(http.NotFoundHandler())
	r := requestsOf(1)[0]
	w := &discard{header: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

func perKey(limits ...policy.Limit) func(ratelimit.Config) func(http.Handler) http.Handler {
	return func(c ratelimit.Config) func(http.Handler) http.Handler {
		return c.PerKey(ratelimit.Header("X-API-Key"), limits...)
	}
}

func requestsOf(keys int) []*http.Request {
	requests := make([]*http.Request, keys)
	for i := range requests {
		requests[i] = httptest.NewRequest("GET", "/items", nil)
		requests[i].Header.Set("X-API-Key", fmt.Sprintf("key-%d", i))
	}
	return requests
}

type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}
