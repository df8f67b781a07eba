package middleware

import "net/http"

// Method is the KeyFunc of the request's method. HEAD counts as GET, and all
// methods that HTTP does not know share the key "_OTHER", so that a client
// cannot make up keys.
//
// It reads the method as it is when the limiter is reached. Put a middleware
// that lets clients override the method outside of the limiter.
func Method(r *http.Request) (string, error) {
	switch r.Method {
	case "", http.MethodHead:
		return http.MethodGet, nil
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions, http.MethodTrace, http.MethodConnect, "QUERY":
		return r.Method, nil
	}
	return "_OTHER", nil
}
