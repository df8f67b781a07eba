package middleware_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/go-chi/chi/v5"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// An export goes on after its request was answered, and keeps its slot until it is
// done.
func ExampleHold() {
	slots := ratelimit.Must(ratelimit.New(ratelimit.Config{Name: "api", Rules: []ratelimit.Rule{
		{Name: "exports", Key: ratelimit.Header("X-API-Key"), Limits: []policy.Limit{policy.Concurrency(1)}},
	}}))
	defer slots.Close()
	exported, finish := make(chan bool), make(chan bool)

	r := chi.NewRouter()
	r.With(slots.Handler).Post("/exports", func(w http.ResponseWriter, r *http.Request) {
		release := ratelimit.Hold(r.Context())
		go func() {
			<-finish // the work
			release()
			exported <- true
		}()
		w.WriteHeader(http.StatusAccepted)
	})

	export := func() {
		w := httptest.NewRecorder()
		req := httptest.NewRequest("POST", "/exports", nil)
		req.Header.Set("X-API-Key", "alice")
		r.ServeHTTP(w, req)
		fmt.Println(w.Code)
	}
	export()
	export() // the first is still at work
	finish <- true
	<-exported
	export()
	finish <- true
	<-exported
	// Output:
	// 202
	// 429
	// 202
}

// A long request stops as soon as it is heard that its slot is another's: here an
// operator frees all of alice's.
func ExampleLost() {
	store := memstore.New(memstore.Options{})
	defer store.Close()
	limit := policy.Concurrency(1).WithLease(time.Second) // short, so that this is heard of soon
	slots := ratelimit.Must(ratelimit.New(ratelimit.Config{Name: "api", Store: store, Observe: func(ratelimit.Event) {}, Rules: []ratelimit.Rule{
		{Name: "streams", Key: user, Limits: []policy.Limit{limit}},
	}}))
	defer slots.Close()
	started := make(chan bool)

	r := chi.NewRouter()
	r.With(slots.Handler).Get("/stream", func(w http.ResponseWriter, r *http.Request) {
		started <- true
		for {
			select {
			case <-r.Context().Done():
				return
			case <-ratelimit.Lost(r.Context()):
				fmt.Fprint(w, "another has the slot")
				return
			case <-time.After(time.Minute):
				// the next part of the stream
			}
		}
	})

	go func() {
		<-started
		_ = store.Reset(context.Background(), []policy.Charge{{Scope: policy.NewScope("api", "streams"), Key: "alice", Limit: limit}})
	}()
	w := httptest.NewRecorder()
	req := httptest.NewRequest("GET", "/stream", nil)
	req.Header.Set("X-User", "alice")
	r.ServeHTTP(w, req)
	fmt.Println(w.Code, w.Body)
	// Output:
	// 200 another has the slot
}

// user names the authenticated user.
func user(r *http.Request) (string, error) { return r.Header.Get("X-User"), nil }
