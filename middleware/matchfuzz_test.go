package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

// Where http.ServeMux knows a pattern too, a rule includes every request that the
// mux hands to the pattern's handler, and excludes none that it does not. Where a
// path has one reading, both are the same.
func FuzzMatchAsServeMux(f *testing.F) {
	for _, seed := range []string{
		"/a", "/a/", "/{$}", "/a/{$}", "/a/{x}", "/a/{x...}", "/{x}/b", "GET /a/{x}/", "POST  /a", "HEAD /a", "example.com/a/", "/a%2Fb", "/%61/{x}", "CONNECT /a/{x}/b",
	} {
		f.Add(seed, "GET", "example.com", "/a/b")
	}
	for _, target := range []string{"/a", "/a/", "/", "//a", "/a/../a/", "/a%2Fb", "/%61", "/a/%2e%2e/b", "/a//b", "/a/b/.", "/a/%"} {
		f.Add("/a/{x}", "GET", "example.com:80", target)
		f.Add("/{x}/", "CONNECT", "example.com", target)
	}
	f.Fuzz(func(t *testing.T, pattern, method, host, target string) {
		if len(pattern) > 200 || len(target) > 200 || !strings.HasPrefix(target, "/") {
			t.Skip("others than these are told apart elsewhere")
		}
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || method == "" {
			t.Skip("no server hands this on")
		}
		l, err := ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{
			{Name: "on", Key: fixed("all"), Limits: []policy.Limit{policy.PerDay(1)}, On: []string{pattern}},
			{Name: "except", Key: fixed("all"), Limits: []policy.Limit{policy.PerDay(1)}, Except: []string{pattern}},
		}})
		served := false
		mux := muxOf(pattern, func(http.ResponseWriter, *http.Request) { served = true })
		if err != nil {
			return
		}
		defer l.Close()
		if mux == nil {
			if common(pattern) {
				t.Fatalf("pattern %q: New takes it, and a ServeMux does not", pattern)
			}
			return
		}

		r := &http.Request{Method: method, URL: u, Host: host, Header: http.Header{}}
		for range 3 { // redirects: to the cleaned path, and to the slash
			met := l.Met(r)
			included, excluded := slices.Contains(met, "on"), !slices.Contains(met, "except")
			served = false
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			switch {
			case served && !included:
				t.Fatalf("%s %s%s: %q serves it, and does not include it", method, host, r.URL.EscapedPath(), pattern)
			case !served && w.Code < 300 || served && w.Code != 200:
				t.Fatalf("status %d", w.Code)
			case excluded && !included:
				t.Fatalf("%s %s%s: %q excludes it, and does not include it", method, host, r.URL.EscapedPath(), pattern)
			}
			if w.Code < 300 || w.Code >= 400 {
				if excluded && !served {
					t.Fatalf("%s %s%s: %q excludes it, and does not serve it", method, host, r.URL.EscapedPath(), pattern)
				}
				if plain(r) && included != served {
					t.Fatalf("%s %s%s: %q has one reading: included is %t, served %t", method, host, r.URL.EscapedPath(), pattern, included, served)
				}
				return
			}
			to, err := url.Parse(w.Header().Get("Location"))
			if err != nil {
				return
			}
			r.URL = to
		}
	})
}

// muxOf returns a ServeMux of one pattern, or nil if it does not take it.
func muxOf(pattern string, h http.HandlerFunc) (mux *http.ServeMux) {
	defer func() {
		if recover() != nil {
			mux = nil
		}
	}()
	mux = http.NewServeMux()
	mux.Handle(pattern, h)
	return mux
}

// common tells whether a pattern has nothing that is not in a ServeMux's syntax.
func common(pattern string) bool {
	method, path, found := strings.Cut(pattern, " ")
	more := strings.Index(path, "...}")
	return !(found && strings.Contains(method, ",")) && (more < 0 || more == len(path)-len("...}"))
}

// plain tells whether a request can be read in one way only.
func plain(r *http.Request) bool {
	path := r.URL.Path
	return r.URL.RawPath == "" && (path == "/" || !strings.HasSuffix(path, "/")) && !strings.Contains(path, "//") &&
		!strings.Contains(path+"/", "/./") && !strings.Contains(path+"/", "/../") &&
		r.Host == strings.ToLower(r.Host) && !strings.ContainsAny(r.Host, ":.") && r.Method != "CONNECT"
}
