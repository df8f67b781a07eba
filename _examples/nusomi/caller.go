package main

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/stint-go/stint/_examples/serve"
)

// apiKey is what a key looks like: the workspace, and the key's own part.
var apiKey = regexp.MustCompile(`^nus_([A-Za-z0-9-]+)_([A-Za-z0-9_.-]+)$`)

// workspaceOf returns the workspace of the request's key, or "".
func workspaceOf(r *http.Request) string {
	token, ok := serve.BearerToken(r)
	if parts := apiKey.FindStringSubmatch(token); ok && parts != nil {
		return parts[1]
	}
	return ""
}

// tier tells the plan of the request's workspace. A real service looks it up.
func tier(r *http.Request) string {
	if strings.HasPrefix(workspaceOf(r), "scale") {
		return "scale"
	}
	return "default"
}

// requireKey answers 401 to requests without a key of the right form. A real
// service verifies the key here, once, and has its workspace from there: then
// only keys that exist have a limit.
func requireKey(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if workspaceOf(r) == "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, http.StatusUnauthorized, "unauthorized", "Send your API key as Authorization: Bearer nus_<workspace>_<key>.")
			return
		}
		next.ServeHTTP(w, r)
	})
}
