package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/httprate"
	"github.com/stretchr/testify/assert"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

// routers serve GET and POST /items/{id} and GET /free, the former behind a
// middleware, in every way that there is to wire one.
var routers = map[string]func(limit func(http.Handler) http.Handler) http.Handler{
	"chi Use": func(limit func(http.Handler) http.Handler) http.Handler {
		r := chi.NewRouter()
		r.Use(limit)
		r.Get("/items/{id}", ok)
		r.Post("/items/{id}", ok)
		return r
	},
	"chi Use, cleaned": func(limit func(http.Handler) http.Handler) http.Handler {
		r := chi.NewRouter()
		r.Use(chimiddleware.CleanPath, chimiddleware.StripSlashes, limit)
		r.Get("/items/{id}", ok)
		r.Post("/items/{id}", ok)
		return r
	},
	"chi With": func(limit func(http.Handler) http.Handler) http.Handler {
		r := chi.NewRouter()
		r.With(limit).Get("/items/{id}", ok)
		r.With(limit).Post("/items/{id}", ok)
		return r
	},
	"chi Group": func(limit func(http.Handler) http.Handler) http.Handler {
		r := chi.NewRouter()
		r.Group(func(r chi.Router) {
			r.Use(limit)
			r.Get("/items/{id}", ok)
			r.Post("/items/{id}", ok)
		})
		return r
	},
	"chi Route": func(limit func(http.Handler) http.Handler) http.Handler {
		r := chi.NewRouter()
		r.Route("/items", func(r chi.Router) {
			r.Use(limit)
			r.Get("/{id}", ok)
			r.Post("/{id}", ok)
		})
		return r
	},
	"chi Mount": func(limit func(http.Handler) http.Handler) http.Handler {
		sub := chi.NewRouter()
		sub.Use(limit)
		sub.Get("/{id}", ok)
		sub.Post("/{id}", ok)
		r := chi.NewRouter()
		r.Mount("/items", sub)
		return r
	},
	"ServeMux": func(limit func(http.Handler) http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("GET /items/{id}", limit(http.HandlerFunc(ok)))
		mux.Handle("POST /items/{id}", limit(http.HandlerFunc(ok)))
		return mux
	},
}

func TestWiredEverywhereAlike(t *testing.T) {
	t.Parallel()
	type step struct {
		method, path, key string
		status            int
		remaining         string
	}
	limits := map[string]struct {
		limit func() func(http.Handler) http.Handler
		steps []step
	}{
		"PerKey": {func() func(http.Handler) http.Handler { return ratelimit.PerKey(apiKey, policy.PerHour(2)) }, []step{
			{"GET", "/items/1", "a", 200, "1"}, {"POST", "/items/2", "a", 200, "0"}, {"GET", "/items/3", "a", 429, "0"},
			{"GET", "/items/1", "b", 200, "1"}, {"GET", "/items/1", "", 400, ""},
		}},
		"PerWorkspace": {func() func(http.Handler) http.Handler {
			return ratelimit.PerWorkspace(ratelimit.Header("X-Workspace"), policy.PerHour(2))
		}, []step{
			{"GET", "/items/1", "a", 200, "1"}, {"GET", "/items/1", "b", 200, "0"}, {"GET", "/items/1", "c", 429, "0"},
		}},
		"PerIP": {func() func(http.Handler) http.Handler { return ratelimit.PerIP(policy.PerHour(2)) }, []step{
			{"GET", "/items/1", "a", 200, "1"}, {"GET", "/items/1", "b", 200, "0"}, {"GET", "/items/1", "c", 429, "0"},
		}},
		"PerMethod": {func() func(http.Handler) http.Handler { return ratelimit.PerMethod(apiKey, policy.PerHour(1)) }, []step{
			{"GET", "/items/1", "a", 200, "0"}, {"POST", "/items/1", "a", 200, "0"}, {"POST", "/items/2", "a", 429, "0"}, {"GET", "/items/2", "a", 429, "0"},
			{"GET", "/items/1", "b", 200, "0"},
		}},
		"PerEndpoint": {func() func(http.Handler) http.Handler { return ratelimit.PerEndpoint(apiKey, policy.PerHour(2)) }, []step{
			{"GET", "/items/1", "a", 200, "1"}, {"POST", "/items/2", "a", 200, "0"}, {"GET", "/items/3", "a", 429, "0"},
			{"GET", "/items/1", "b", 200, "1"},
		}},
		"PerKey of an endpoint": {func() func(http.Handler) http.Handler { return ratelimit.PerKey(ratelimit.Endpoint, policy.PerHour(2)) }, []step{
			{"GET", "/items/1", "a", 200, "1"}, {"GET", "/items/2", "b", 200, "0"}, {"GET", "/items/3", "c", 429, "0"},
		}},
		"a key of httprate": {func() func(http.Handler) http.Handler {
			return ratelimit.PerKey(httprate.JoinKeys(httprate.Key("all")), policy.PerHour(1))
		}, []step{
			{"GET", "/items/1", "a", 200, "0"}, {"GET", "/items/2", "b", 429, "0"},
		}},
	}
	for name, test := range limits {
		for wiring, router := range routers {
			t.Run(name+", "+wiring, func(t *testing.T) {
				t.Parallel()
				h := router(test.limit())
				for _, step := range test.steps {
					r := request(step.path, step.key)
					r.Method = step.method
					r.Header.Set("X-Workspace", "acme")
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					assert.Equal(t, step.status, w.Code, "%+v", step)
					assert.Equal(t, step.remaining, w.Header().Get("X-RateLimit-Remaining"), "%+v", step)
				}
			})
		}
	}
}

// Each one-liner has rules, and counts, of its own.
func TestOneLinersStack(t *testing.T) {
	t.Parallel()
	store := newSpy()
	rules := append(make([]ratelimit.Rule, 0, 2), ratelimit.Rule{Name: "all", Key: fixed("all"), Limits: []policy.Limit{policy.PerHour(100)}})
	c := ratelimit.Config{Store: store, Rules: rules}
	r := chi.NewRouter()
	r.Use(c.PerKey(apiKey, policy.PerHour(10)), c.PerIP(policy.PerHour(20)))
	r.With(c.PerEndpoint(apiKey, policy.PerHour(1))).Get("/items/{id}", ok)
	assert.Equal(t, 200, get(r, "/items/1", "a").Code)
	assert.Equal(t, 429, get(r, "/items/2", "a").Code)
	assert.EqualValues(t, 1, used(t, store, "api", "per_key", hashed("a"), policy.PerHour(10)))
	assert.EqualValues(t, 1, used(t, store, "api", "per_ip", "192.0.2.1", policy.PerHour(20)))
	assert.EqualValues(t, 1, used(t, store, "api", "all", "all", policy.PerHour(100)), "the Config's own rule is counted once")
	assert.Empty(t, rules[:2][1].Name, "the caller's slice is left alone")
}
