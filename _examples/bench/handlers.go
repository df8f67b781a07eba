package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"

	"github.com/go-chi/httprate"
	"github.com/go-redis/redis_rate/v10"

	ratelimit "github.com/stint-go/stint/middleware"
)

const keyField = "X-Api-Key"

// keyOf is the key function of both sides, since that is the same thing in both.
// ratelimit.Header would digest the key as well, for some 200 ns.
func keyOf(r *http.Request) (string, error) { return r.Header.Get(keyField), nil }

// stintHandler is stint's middleware with one rule of several limits. It has
// the time that go-redis gives its peer, and serves nothing uncounted, so that
// what is measured was decided.
func stintHandler(server *redisServer, r row) (*contender, error) {
	store, closeStore := r.store(server)
	limiter, err := ratelimit.New(ratelimit.Config{
		Store:  store,
		Budget: 5 * time.Second,
		Rules: []ratelimit.Rule{{
			Name:   "per_key",
			Key:    keyOf,
			Limits: r.stintLimits(),
			Fail:   ratelimit.FailClosed,
		}},
	})
	if err != nil {
		return nil, err
	}
	return handlerContender("stint", r, limiter.Handler(served), func() error {
		return errors.Join(limiter.Close(), closeStore())
	}), nil
}

// httprateHandler is one httprate middleware for each limit, with its header
// fields as they come.
func httprateHandler(_ *redisServer, r row) (*contender, error) {
	var handler http.Handler = served
	for _, q := range r.quotas() {
		handler = httprate.LimitBy(int(q.n), q.window, keyOf)(handler)
	}
	return handlerContender("httprate", r, handler, func() error { return nil }), nil
}

// redisRateHandler is redis_rate in the middleware that its users write by
// hand, with the header fields that they would send.
func redisRateHandler(server *redisServer, r row) (*contender, error) {
	client := server.client()
	allow := redisRate(redis_rate.NewLimiter(client), r)
	index := make(map[string]int, r.keys)
	for i, name := range r.names() {
		index[name] = i
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		result, err := allow(index[req.Header.Get(keyField)])
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h := w.Header()
		h.Set("X-RateLimit-Limit", strconv.Itoa(result.Limit.Rate))
		h.Set("X-RateLimit-Remaining", strconv.Itoa(result.Remaining))
		h.Set("X-RateLimit-Reset", strconv.FormatInt(time.Now().Add(result.ResetAfter).Unix(), 10))
		if result.Allowed == 0 {
			h.Set("Retry-After", strconv.Itoa(int(result.RetryAfter/time.Second)+1))
			http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
			return
		}
		served.ServeHTTP(w, req)
	})
	return handlerContender("redis_rate", r, handler, client.Close), nil
}

// served is what the limiters stand before.
var served = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })

// handlerContender drives a handler without a network. Each goroutine uses one
// request and one response again and again, so that what is measured is the
// limiter's.
func handlerContender(name string, r row, handler http.Handler, closeAll func() error) *contender {
	names := r.names()
	return &contender{
		name:  name,
		close: closeAll,
		decider: func() func(int) (bool, error) {
			req := httptest.NewRequest(http.MethodGet, "/v1/items", nil)
			w := &response{header: http.Header{}}
			return func(key int) (bool, error) {
				req.Header[keyField] = names[key : key+1]
				w.status = 0
				clear(w.header)
				handler.ServeHTTP(w, req)
				switch w.status {
				case http.StatusOK:
					return true, nil
				case http.StatusTooManyRequests:
					return false, nil
				}
				return false, fmt.Errorf("status %d", w.status)
			}
		},
	}
}

// A response keeps the status and drops the body.
type response struct {
	header http.Header
	status int
}

func (w *response) Header() http.Header { return w.header }

func (w *response) WriteHeader(status int) { w.status = status }

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return len(b), nil
}
