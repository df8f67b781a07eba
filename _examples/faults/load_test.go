package faults

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	ratelimit "github.com/stint-go/stint/middleware"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// byKey counts by a header that is no secret.
func byKey(r *http.Request) (string, error) { return r.Header.Get("X-Key"), nil }

// ask sends a request through a handler, and returns its status and what it took.
func ask(h http.Handler, key string) (status int, took time.Duration) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Key", key)
	w := httptest.NewRecorder()
	start := time.Now()
	h.ServeHTTP(w, r)
	return w.Code, time.Since(start)
}

// limited puts a Limiter before a handler that serves everybody.
func limited(l *ratelimit.Limiter) http.Handler {
	return l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
}

// load calls f so often a second, whether or not earlier calls have returned, until
// stop is closed, and returns when all have.
func load(rate int, stop <-chan struct{}, f func(i int)) {
	var calls sync.WaitGroup
	defer calls.Wait()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for sent := 0; ; {
		for due := int(time.Since(start).Seconds() * float64(rate)); sent < due; sent++ {
			i := sent
			calls.Go(func() { f(i) })
		}
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}
