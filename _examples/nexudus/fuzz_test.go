package main

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy/memstore"
)

// FuzzClients sends two requests with any Authorization to a row that allows one:
// the second is refused just if both are of one user, or both are of none and so of
// one IP.
func FuzzClients(f *testing.F) {
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, one := range []string{
		"", basic("a:"), basic("a:b"), basic("a"), basic(":b"), basic("a:b:c"), basic("192.0.2.1:"), basic("user:192.0.2.1"), basic("\x00\xff:"), basic("A:"), basic("user|a:"),
		"basic YTo=", "BASIC YTo=", "Basic  YTo=", "Basic YTo", "Basic YTo=\n", "Bearer YTo=", "Basic", basic(strings.Repeat("a", 5000) + ":"),
	} {
		f.Add(one, basic("a:z"))
		f.Add(one, one)
		f.Add(one, "")
	}
	// By RFC 7617: all up to the first colon.
	user := func(line string) string {
		if len(line) < 6 || !strings.EqualFold(line[:6], "basic ") {
			return ""
		}
		text, err := base64.StdEncoding.DecodeString(line[6:])
		name, _, found := strings.Cut(string(text), ":")
		if err != nil || !found {
			return ""
		}
		return name
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		store := memstore.New(memstore.Options{})
		defer store.Close()
		h, err := routes(store, options{status: http.StatusConflict})
		require.NoError(t, err)
		send := func(line string) int {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, &http.Request{
				Method: "PATCH", URL: &url.URL{Path: "/api/Sys/AuditTrailEntries"},
				Header: http.Header{"Authorization": {line}}, RemoteAddr: "192.0.2.1:1234",
			})
			return w.Code
		}
		require.Equal(t, 200, send(one))
		want := 200
		if user(one) == user(other) {
			want = 409
		}
		require.Equal(t, want, send(other), "%q, %q", user(one), user(other))
	})
}
