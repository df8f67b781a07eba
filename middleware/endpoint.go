package middleware

import (
	"bytes"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/go-chi/chi/v5"
)

// Endpoint is the KeyFunc of the endpoint that a request is for: its route's
// pattern, such as "/orders/{id}", and never its path, so that neither ids nor
// odd spellings of a path make new keys. The pattern carries no method; join
// with [Method] to count methods apart.
//
// Under chi it works wherever the limiter stands: for the whole router, in
// groups and in mounted routers. The key is the route that the path leads to as
// it was sent. Only where that is none, it is the route of the cleaned path, so
// that a limiter before CleanPath or StripSlashes has the same keys as one after
// them. Where a catch-all takes unclean paths, put the limiter after them.
// For http.ServeMux the limiter has to wrap the handlers, not the mux, for the
// mux tells the pattern to them alone.
//
// Requests for no known endpoint share the key "unmatched", and so do all
// requests to a limiter outside of any router. CONNECT requests share the key
// "CONNECT".
func Endpoint(r *http.Request) (string, error) {
	if r.Method == http.MethodConnect {
		return http.MethodConnect, nil
	}
	pattern := muxPattern(r.Pattern)
	if rctx := chi.RouteContext(r.Context()); rctx != nil {
		pattern = chiPattern(rctx, r)
	}
	if pattern == "" {
		return "unmatched", nil
	}
	return pattern, nil
}

// muxPattern returns a pattern of http.ServeMux without its method.
func muxPattern(pattern string) string {
	if i := strings.IndexAny(pattern, " \t"); i >= 0 {
		pattern = strings.TrimLeft(pattern[i:], " \t")
	}
	return pattern
}

// chiPattern returns the pattern of the route that chi has taken, or will take.
func chiPattern(rctx *chi.Context, r *http.Request) string {
	n := len(rctx.RoutePatterns)
	if n == 0 {
		return findRoute(rctx, r, rctx.RoutePath, 0)
	}
	taken := rctx.RoutePattern()
	if r.Pattern != "" && r.Pattern != taken {
		return muxPattern(r.Pattern) // of a ServeMux that is mounted in chi
	}
	if !strings.HasSuffix(rctx.RoutePatterns[n-1], "*") {
		return taken
	}
	// A catch-all, or a mounted router that has yet to choose its route.
	routePath, mount := takenPath(rctx)
	if full := findRoute(rctx, r, routePath, mount); full != "" {
		return full
	}
	return taken
}

// findRoute asks the outermost router for the route of a path; "" is that of
// the URL. What the path leads to as it is, a catch-all included, is what chi
// will serve. Only a path that leads nowhere may be one that middlewares further
// in clean, strip of its last slash, or decode, and a limit must not depend on
// which of them stands outside.
//
// The first bytes, up to mount, have led chi to the router that it is in
// already: cleaning the rest does not leave it.
func findRoute(rctx *chi.Context, r *http.Request, routePath string, mount int) string {
	if rctx.Routes == nil {
		return ""
	}
	method := rctx.RouteMethod
	if method == "" {
		method = r.Method
	}
	decoded := ""
	if routePath == "" {
		if routePath = r.URL.RawPath; routePath != "" {
			decoded = r.URL.Path
		} else {
			routePath = r.URL.Path
		}
	}
	scratch := routeContexts.Get().(*chi.Context)
	defer routeContexts.Put(scratch)
	found := find(scratch, rctx.Routes, method, routePath)
	if found != "" {
		return found
	}
	if clean := cleaned(routePath[mount:]); clean != routePath[mount:] {
		found = find(scratch, rctx.Routes, method, routePath[:mount]+clean)
	}
	if found == "" && decoded != "" {
		found = find(scratch, rctx.Routes, method, cleaned(decoded))
	}
	return found
}

// cleaned returns a path as chi's CleanPath and StripSlashes leave it.
func cleaned(p string) string {
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	return path.Clean(p)
}

func find(scratch *chi.Context, routes chi.Routes, method, path string) string {
	scratch.Reset()
	found := routes.Find(scratch, method, path)
	if found == "" && (method == http.MethodHead || method == "") {
		scratch.Reset()
		found = routes.Find(scratch, http.MethodGet, path)
	}
	if len(found) > 1 {
		found = strings.TrimSuffix(found, "/")
	}
	return found
}

var routeContexts = sync.Pool{New: func() any { return chi.NewRouteContext() }}

// takenPath returns the path that chi is routing from within a mounted router. It
// is left for the router from mount on, where there is a slash.
func takenPath(rctx *chi.Context) (routePath string, mount int) {
	var buf [128]byte
	b, mount := appendTakenPath(buf[:0], rctx)
	return string(b), mount
}

// appendTakenPath rebuilds the path that has led chi to where it is: the patterns
// on the way there, with their parameters filled in, and what is left for a
// mounted router. The URL's own path will not do, since a middleware may have
// rewritten it for chi alone.
func appendTakenPath(b []byte, rctx *chi.Context) (taken []byte, mount int) {
	rest, values := "", rctx.URLParams.Values
	next := func() (value string) {
		if len(values) > 0 {
			value, values = values[0], values[1:]
		}
		return value
	}
	mounted := false
	for n, pattern := range rctx.RoutePatterns {
		if n > 0 { // the pattern before was a mount: it ends where this one begins
			b = bytes.TrimSuffix(b, []byte("/"))
		}
		mounted = strings.HasSuffix(pattern, "*")
		for pattern != "" {
			i := strings.IndexAny(pattern, "{*")
			if i < 0 {
				b = append(b, pattern...)
				break
			}
			b = append(b, pattern[:i]...)
			if pattern[i] == '*' {
				rest = next()
				break
			}
			b = append(b, next()...)
			pattern = pattern[closing(pattern, i):]
		}
	}
	if !mounted { // a route: nothing is left
		return b, len(b)
	}
	if rest == "" { // chi empties it for the mounted router
		rest = strings.TrimPrefix(rctx.RoutePath, "/")
	}
	b = bytes.TrimSuffix(b, []byte("/"))
	return append(append(b, '/'), rest...), len(b)
}

// closing returns the index after the brace that closes the one at i.
func closing(pattern string, i int) int {
	depth := 0
	for ; i < len(pattern); i++ {
		switch pattern[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return i
}
