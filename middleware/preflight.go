package middleware

import "net/http"

// Preflight reports whether a request is a CORS preflight: an OPTIONS request
// with Origin and Access-Control-Request-Method. Such requests carry no
// credentials and so no key. It is a ready [Rule.Skip].
func Preflight(r *http.Request) bool {
	return r.Method == http.MethodOptions &&
		r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}
