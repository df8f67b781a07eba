package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
)

// FuzzEndpoint sends any method and path to a router, wherever in it the limiter
// stands. The key is always one of the router's patterns, or one of two words, so
// that no spelling makes a new one; and the limiter in front of the router says
// what the limiter at the route does.
func FuzzEndpoint(f *testing.F) {
	for _, target := range []string{
		"/", "/login", "/users/42", "/users/4%2F2", "/codes/de", "/static/a/b.css", "/static/", "/slash/", "//login", "/api/../login", "/api", "/api/", "/api/items/3",
		"/api/orgs/acme/x/members/9", "/api/orgs/acme/x/files/9/8", "/api/orgs/%61cme/x/files/", "/legacy", "/legacy/7", "/legacy/../7", "/users/{id}", "/users/*", "/%2e%2e/login", "/api//items/3", "/api/orgs/*/x/slash/", "/api/orgs//00", "/lo\x00gin",
	} {
		for place := range uint8(6) {
			f.Add(place, "GET", target)
		}
		f.Add(uint8(0), "HEAD", target)
		f.Add(uint8(1), "POST", target)
		f.Add(uint8(2), "CONNECT", target)
		f.Add(uint8(0), "BREW", target)
	}
	places := []string{"root", "leaf", "sub", "subsub", "servemux", "before mount"}
	patterns := []string{
		"unmatched", "CONNECT", "(not reached)",
		"/", "/login", "/users/{id}", "/codes/{code:[a-z]{2}}", "/static/*", "/users", "/slash",
		"/api", "/api/items/{id}", "/api/slash", "/api/*",
		"/api/orgs/{org:[a-z]{1,9}}/{part}/members/{id}", "/api/orgs/{org:[a-z]{1,9}}/{part}/files/*", "/api/orgs/{org:[a-z]{1,9}}/{part}/slash",
		"/api/orgs/{org:[a-z]{1,9}}/{part}/*", "/api/orgs/{org:[a-z]{1,9}}/{part}", "/legacy", "/legacy/*", "/legacy/{id}",
	}
	f.Fuzz(func(t *testing.T, place uint8, method, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || !strings.HasPrefix(target, "/") || method == "" {
			t.Skip("no server hands this on")
		}
		keyAt := func(at string) (key string, status int) {
			key = "(not reached)"
			h := shop(at)(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					var err error
					key, err = ratelimit.Endpoint(r)
					require.NoError(t, err)
					next.ServeHTTP(w, r)
				})
			})
			w, copied := httptest.NewRecorder(), *u
			h.ServeHTTP(w, &http.Request{Method: method, URL: &copied, Host: "example.com", Header: http.Header{}})
			return key, w.Code
		}
		at := places[int(place)%len(places)]
		key, status := keyAt(at)
		require.Contains(t, patterns, key)
		require.Contains(t, []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY", "_OTHER"}, methodKey(t, method))
		front, _ := keyAt("root")
		switch {
		case at == "leaf" && key != "(not reached)" && status == 200:
			require.Equal(t, key, front, "before the router, and at the route")
		case front == "unmatched" && method != "CONNECT":
			require.NotEqual(t, 200, status)
		}
		if method != "CONNECT" && status == 200 && !slices.Contains(patterns[3:], front) {
			t.Fatalf("served as %q", front)
		}
	})
}

func methodKey(t *testing.T, method string) string {
	key, err := ratelimit.Method(&http.Request{Method: method})
	require.NoError(t, err)
	return key
}
