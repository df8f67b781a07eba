package middleware_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
)

// endpointOf serves a request by a router that has the middleware mw somewhere,
// and returns the Endpoint that was seen there. The router's handlers say 200.
func endpointOf(t *testing.T, router func(mw func(http.Handler) http.Handler) http.Handler, method, target string) (endpoint string, status int) {
	t.Helper()
	endpoint = "(not reached)"
	h := router(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var err error
			endpoint, err = ratelimit.Endpoint(r)
			assert.NoError(t, err)
			next.ServeHTTP(w, r)
		})
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/", nil)
	r.Method = method
	if method != "CONNECT" {
		r = httptest.NewRequest(method, target, nil)
	} else {
		r.URL.Path = target
	}
	h.ServeHTTP(w, r)
	return endpoint, w.Code
}

func ok(http.ResponseWriter, *http.Request) {}

// shop has one route of each kind; at tells where the limiter stands.
func shop(at string) func(mw func(http.Handler) http.Handler) http.Handler {
	none := func(next http.Handler) http.Handler { return next }
	return func(mw func(http.Handler) http.Handler) http.Handler {
		pick := func(here string) func(http.Handler) http.Handler {
			if here == at {
				return mw
			}
			return none
		}
		r := chi.NewRouter()
		r.Use(pick("root"))
		r.Group(func(r chi.Router) {
			r.Use(pick("leaf"))
			r.Get("/", ok)
			r.Get("/login", ok)
			r.Get("/users/{id}", ok)
			r.Get("/codes/{code:[a-z]{2}}", ok)
			r.Get("/static/*", ok)
			r.Post("/users", ok)
			r.Get("/slash/", ok)
		})
		r.Route("/api", func(r chi.Router) {
			r.Use(pick("sub"))
			r.With(pick("leaf")).Get("/", ok)
			r.With(pick("leaf")).Get("/items/{id}", ok)
			r.With(pick("leaf")).Get("/slash/", ok)
			r.Route("/orgs/{org:[a-z]{1,9}}/{part}", func(r chi.Router) {
				r.Use(pick("subsub"))
				r.With(pick("leaf")).Get("/members/{id}", ok)
				r.With(pick("leaf")).Get("/files/*", ok)
				r.With(pick("leaf")).Get("/slash/", ok)
			})
		})
		mounted := http.NewServeMux()
		mounted.Handle("GET /legacy/{id}", pick("servemux")(http.HandlerFunc(ok)))
		r.With(pick("before mount")).Mount("/legacy", mounted)
		return r
	}
}

func TestEndpointUnderChi(t *testing.T) {
	t.Parallel()
	tests := []struct{ at, method, target, want string }{
		{"root", "GET", "/", "/"},
		{"root", "GET", "/login", "/login"},
		{"root", "HEAD", "/login", "/login"},
		{"root", "GET", "/users/42", "/users/{id}"},
		{"root", "GET", "/codes/de", "/codes/{code:[a-z]{2}}"},
		{"root", "GET", "/codes/deu", "unmatched"},
		{"root", "GET", "/static/a/b.css", "/static/*"},
		{"root", "POST", "/login", "unmatched"}, // 405
		{"root", "BREW", "/login", "unmatched"},
		{"root", "GET", "/nowhere", "unmatched"},
		{"root", "GET", "/slash/", "/slash"},
		{"leaf", "GET", "/slash/", "/slash"},
		{"root", "CONNECT", "/users/42", "CONNECT"},
		{"root", "GET", "/api", "/api"},
		{"root", "GET", "/api/", "/api"},
		{"root", "GET", "/api/items/3", "/api/items/{id}"},
		{"root", "GET", "/api/nothing", "unmatched"},
		{"root", "GET", "/api/orgs/acme/x/members/9", "/api/orgs/{org:[a-z]{1,9}}/{part}/members/{id}"},
		{"root", "GET", "/api/orgs/acme/x/files/9/8", "/api/orgs/{org:[a-z]{1,9}}/{part}/files/*"},
		{"root", "GET", "/legacy/7", "/legacy/*"},
		{"leaf", "GET", "/", "/"},
		{"leaf", "GET", "/users/42", "/users/{id}"},
		{"leaf", "GET", "/codes/de", "/codes/{code:[a-z]{2}}"},
		{"leaf", "GET", "/static/a/b.css", "/static/*"},
		{"leaf", "GET", "/static/", "/static/*"},
		{"leaf", "GET", "/api/", "/api"},
		{"leaf", "GET", "/api/items/3", "/api/items/{id}"},
		{"leaf", "GET", "/api/orgs/acme/x/members/9", "/api/orgs/{org:[a-z]{1,9}}/{part}/members/{id}"},
		{"leaf", "GET", "/api/orgs/acme/x/files/9/8", "/api/orgs/{org:[a-z]{1,9}}/{part}/files/*"},
		{"leaf", "GET", "/api/orgs/acme/x/files/", "/api/orgs/{org:[a-z]{1,9}}/{part}/files/*"},
		{"sub", "GET", "/api", "/api"},
		{"sub", "GET", "/api/", "/api"},
		{"sub", "GET", "/api/items/3", "/api/items/{id}"},
		{"sub", "HEAD", "/api/items/3", "/api/items/{id}"},
		{"sub", "GET", "/api/nothing", "/api/*"},
		{"sub", "GET", "/api/slash/", "/api/slash"},
		{"leaf", "GET", "/api/slash/", "/api/slash"},
		{"sub", "GET", "/api/orgs/acme/x/members/9", "/api/orgs/{org:[a-z]{1,9}}/{part}/members/{id}"},
		{"subsub", "GET", "/api/orgs/acme/x/members/9", "/api/orgs/{org:[a-z]{1,9}}/{part}/members/{id}"},
		{"subsub", "GET", "/api/orgs/acme/x/files/9/8", "/api/orgs/{org:[a-z]{1,9}}/{part}/files/*"},
		{"subsub", "GET", "/api/orgs/acme/x/slash/", "/api/orgs/{org:[a-z]{1,9}}/{part}/slash"},
		{"before mount", "GET", "/legacy/7", "/legacy/*"},
		{"servemux", "GET", "/legacy/7", "/legacy/{id}"},
	}
	for _, test := range tests {
		t.Run(test.at+" "+test.method+" "+test.target, func(t *testing.T) {
			t.Parallel()
			endpoint, _ := endpointOf(t, shop(test.at), test.method, test.target)
			assert.Equal(t, test.want, endpoint)
		})
	}
}

func TestEndpointUnderServeMux(t *testing.T) {
	t.Parallel()
	inside := func(mw func(http.Handler) http.Handler) http.Handler {
		mux := http.NewServeMux()
		for _, pattern := range []string{"/login", "GET /users/{id}", "POST  /users/{id}", "example.com/x/{id}", "GET /slash/{id}/", "/"} {
			mux.Handle(pattern, mw(http.HandlerFunc(ok)))
		}
		return mux
	}
	outside := func(mw func(http.Handler) http.Handler) http.Handler {
		return mw(inside(func(h http.Handler) http.Handler { return h }))
	}
	chiInside := func(mw func(http.Handler) http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/", shop("root")(mw))
		return mux
	}
	tests := []struct {
		name           string
		router         func(mw func(http.Handler) http.Handler) http.Handler
		method, target string
		want           string
	}{
		{"plain", inside, "GET", "/login", "/login"},
		{"unclean is redirected, not served", inside, "GET", "/a/../login", "(not reached)"},
		{"parameter", inside, "GET", "/users/1", "/users/{id}"},
		{"HEAD", inside, "HEAD", "/users/1", "/users/{id}"},
		{"another method's pattern", inside, "POST", "/users/1", "/users/{id}"},
		{"escaped", inside, "GET", "/us%65rs/42", "/users/{id}"},
		{"host", inside, "GET", "http://example.com/x/3", "example.com/x/{id}"},
		{"catch-all", inside, "GET", "/nowhere", "/"},
		{"CONNECT", inside, "CONNECT", "/login", "CONNECT"},
		{"outside of the mux", outside, "GET", "/users/1", "unmatched"},
		{"chi inside of the mux", chiInside, "GET", "/users/1", "/users/{id}"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			endpoint, _ := endpointOf(t, test.router, test.method, test.target)
			assert.Equal(t, test.want, endpoint)
		})
	}
}

// However a path is spelled, it is one endpoint, wherever the limiter stands
// among the middlewares that clean paths.
func TestEndpointHasOneKeyForAllSpellings(t *testing.T) {
	t.Parallel()
	spellings := map[string][]string{
		"/login":          {"/login", "//login", "///login", "/./login", "/a/../login", "/login/", "/login//"},
		"/users/{id}":     {"/users/7", "//users//7", "/users/7/", "/x/../users/./7"},
		"/api/items/{id}": {"/api/items/3", "//api/items/3", "/api//items/3", "/api/items/3/", "/api/./items/3//"},
	}
	clean := []func(http.Handler) http.Handler{chimiddleware.CleanPath, chimiddleware.StripSlashes}
	positions := map[string]func(mw func(http.Handler) http.Handler) http.Handler{
		"before": func(mw func(http.Handler) http.Handler) http.Handler {
			return withMiddlewares(append([]func(http.Handler) http.Handler{mw}, clean...), nil)
		},
		"between": func(mw func(http.Handler) http.Handler) http.Handler {
			return withMiddlewares([]func(http.Handler) http.Handler{clean[0], mw, clean[1]}, nil)
		},
		"after": func(mw func(http.Handler) http.Handler) http.Handler {
			return withMiddlewares(append(clean[:2:2], mw), nil)
		},
		"in groups and mounted routers": func(mw func(http.Handler) http.Handler) http.Handler {
			return withMiddlewares(clean, mw)
		},
	}
	for position, router := range positions {
		for want, targets := range spellings {
			for _, target := range targets {
				t.Run(position+" "+target, func(t *testing.T) {
					t.Parallel()
					endpoint, status := endpointOf(t, router, "GET", target)
					assert.Equal(t, http.StatusOK, status)
					assert.Equal(t, want, endpoint)
				})
			}
		}
	}
}

// StripSlashes decodes the path by the way, and so makes one more spelling.
func TestEndpointOfADecodedPath(t *testing.T) {
	t.Parallel()
	before := func(mw func(http.Handler) http.Handler) http.Handler {
		return withMiddlewares([]func(http.Handler) http.Handler{mw, chimiddleware.StripSlashes}, nil)
	}
	for target, want := range map[string]string{
		"/us%65rs/7/":  "/users/{id}",
		"/users/a%2Fb": "/users/{id}", // chi routes it as sent
	} {
		endpoint, status := endpointOf(t, before, "GET", target)
		assert.Equal(t, http.StatusOK, status, target)
		assert.Equal(t, want, endpoint, target)
	}
}

// Where nothing cleans the path, the key is the pattern that chi serves, before
// it has chosen the route as after.
func TestEndpointIsTheRouteOfThePathAsSent(t *testing.T) {
	t.Parallel()
	served := ""
	leaf := func(_ http.ResponseWriter, r *http.Request) { served = chi.RouteContext(r.Context()).RoutePattern() }
	// The catch-alls stand at the root, in the mounted router, or nowhere.
	router := func(at, catchAll string) func(mw func(http.Handler) http.Handler) http.Handler {
		return func(mw func(http.Handler) http.Handler) http.Handler {
			r := chi.NewRouter()
			if at == "root" {
				r.Use(mw)
			}
			r.Get("/login", leaf)
			r.Get("/files/*", leaf)
			r.Get("/a%2Fb/{id}", leaf)
			r.Get("/{one}/{two}/{three}", leaf)
			if strings.Contains(catchAll, "root") {
				r.Get("/*", leaf)
			}
			r.Route("/api", func(r chi.Router) {
				if at == "mounted" {
					r.Use(mw)
				}
				r.Get("/login", leaf)
				r.Get("/items/{id}", leaf)
				if strings.Contains(catchAll, "mounted") {
					r.Get("/*", leaf)
				}
				r.Route("/orgs/{org}", func(r chi.Router) {
					r.Get("/members/{id}", leaf)
					r.Get("/files/*", leaf)
				})
			})
			return r
		}
	}
	tests := []struct {
		at, catchAll, target string
		status               int
		want                 string
	}{
		{"root", "", "/files/../login", 200, "/files/*"},
		{"root", "", "/files//login/", 200, "/files/*"},
		{"root", "", "/a%2Fb/7", 200, "/a%2Fb/{id}"},
		{"root", "", "/a%2Fb/7/8", 200, "/{one}/{two}/{three}"},
		{"root", "", "/x/../login", 200, "/{one}/{two}/{three}"},
		{"root", "", "//login", 404, "/login"},
		{"root", "root", "//login", 200, "/*"},
		{"root", "root", "/login/", 200, "/*"},
		{"root", "root", "/log%69n", 200, "/*"},
		{"root", "", "/api/./items/3//", 404, "/api/items/{id}"}, // the mount is no match
		{"root", "root", "/api/./items/3//", 404, "/api/items/{id}"},
		{"root", "root mounted", "/api/./items/3//", 200, "/api/*"},
		{"root", "", "/api/../login", 404, "/login"},
		{"root", "", "/api/orgs/x/files/../members/7", 200, "/api/orgs/{org}/files/*"},
		{"mounted", "", "/api/./items/3//", 404, "/api/items/{id}"},
		{"mounted", "mounted", "/api/./items/3//", 200, "/api/*"},
		{"mounted", "", "/api/../files/x", 404, "/api/*"}, // chi has chosen /api
		{"mounted", "", "/api/../login", 404, "/api/login"},
		{"mounted", "", "/api/orgs/x/files/../members/7", 200, "/api/orgs/{org}/files/*"},
		{"mounted", "", "/api/orgs/../members//7", 404, "/api/*"},
		{"mounted", "", "/api/it%65ms/7", 404, "/api/*"},
	}
	for _, test := range tests {
		t.Run(test.at+" "+test.catchAll+" "+test.target, func(t *testing.T) {
			served = ""
			endpoint, status := endpointOf(t, router(test.at, test.catchAll), "GET", test.target)
			assert.Equal(t, test.status, status)
			assert.Equal(t, test.want, endpoint)
			if status == http.StatusOK {
				assert.Equal(t, served, endpoint)
			}
		})
	}

	random := rand.New(rand.NewPCG(1, 2))
	parts := []string{"api", "orgs", "items", "login", "files", "members", "a%2Fb", "..", ".", "", "log%69n", "x"}
	hits := 0
	for range 5000 {
		var path strings.Builder
		for range 1 + random.IntN(6) {
			path.WriteString("/" + parts[random.IntN(len(parts))])
		}
		at := []string{"root", "mounted"}[random.IntN(2)]
		catchAll := []string{"", "root", "mounted", "root mounted"}[random.IntN(4)]
		endpoint, status := endpointOf(t, router(at, catchAll), "GET", "http://example.com"+path.String())
		if endpoint == "/api" || endpoint == "(not reached)" {
			continue // for the mount point itself, chi adds routes of its own
		}
		if status == http.StatusOK {
			hits++
			require.Equal(t, served, endpoint, "%s, catch-all %s: %s", at, catchAll, path.String())
		}
	}
	assert.Greater(t, hits, 500)
}

func withMiddlewares(outer []func(http.Handler) http.Handler, inner func(http.Handler) http.Handler) http.Handler {
	if inner == nil {
		inner = func(next http.Handler) http.Handler { return next }
	}
	r := chi.NewRouter()
	r.Use(outer...)
	r.With(inner).Get("/login", ok)
	r.With(inner).Get("/users/{id}", ok)
	r.Route("/api", func(r chi.Router) {
		r.Use(inner)
		r.Get("/items/{id}", ok)
	})
	return r
}

// What a client makes up must not make keys.
func TestEndpointKeysAreBounded(t *testing.T) {
	t.Parallel()
	routers := map[string]func(mw func(http.Handler) http.Handler) http.Handler{
		"root": shop("root"), "leaf": shop("leaf"), "sub": shop("sub"), "subsub": shop("subsub"),
	}
	for name, router := range routers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := make(map[string]int)
			h := router(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					endpoint, err := ratelimit.Endpoint(r)
					assert.NoError(t, err)
					seen[endpoint]++
					next.ServeHTTP(w, r)
				})
			})
			random := rand.New(rand.NewPCG(1, 2))
			parts := []string{"api", "orgs", "items", "users", "login", "static", "files", "members", "legacy", "codes", "..", ".", "", "%2F", "%6c", "acme", "de", "{id}", "*"}
			methods := []string{"GET", "GET", "HEAD", "POST", "BREW", "CONNECT", "OPTIONS"}
			n := 100_000 / len(routers)
			if testing.Short() {
				n /= 10
			}
			r := httptest.NewRequest("GET", "/", nil)
			for range n {
				var path strings.Builder
				for range 1 + random.IntN(6) {
					path.WriteByte('/')
					if random.IntN(4) == 0 {
						fmt.Fprintf(&path, "%x", random.Uint32())
					} else {
						path.WriteString(parts[random.IntN(len(parts))])
					}
				}
				u, err := r.URL.Parse("http://example.com/")
				require.NoError(t, err)
				if v, err := u.Parse("http://example.com" + path.String()); err == nil {
					u = v
				}
				q := *r
				q.Method, q.URL = methods[random.IntN(len(methods))], u
				h.ServeHTTP(&discard{header: make(http.Header)}, &q)
			}
			assert.LessOrEqual(t, len(seen), 20, "endpoints: %v", seen)
			assert.Greater(t, len(seen), 1)
			for endpoint := range seen {
				_, known := map[string]bool{
					"unmatched": true, "CONNECT": true, "/": true, "/login": true, "/users": true, "/users/{id}": true,
					"/codes/{code:[a-z]{2}}": true, "/static/*": true, "/slash": true, "/api": true, "/api/*": true, "/api/slash": true, "/api/items/{id}": true, "/legacy/*": true, "/legacy": true,
					"/api/orgs/{org:[a-z]{1,9}}/{part}/slash": true, "/api/orgs/{org:[a-z]{1,9}}/{part}": true, "/api/orgs/{org:[a-z]{1,9}}/{part}/*": true,
					"/api/orgs/{org:[a-z]{1,9}}/{part}/members/{id}": true, "/api/orgs/{org:[a-z]{1,9}}/{part}/files/*": true,
				}[endpoint]
				assert.True(t, known, "endpoint %q", endpoint)
			}
		})
	}
}
