package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// operate sends a request to /_admin/scale from this machine, but for what change says.
func operate(h http.Handler, method, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:8080/_admin/scale", strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:40000"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestScale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := inMemory()
		search := func() answer { return send(t, h, "POST", "/search", "std_a", `{"query":"x"}`) }
		require.JSONEq(t, `{"factor":1}`, operate(h, "GET", "", nil).Body.String())
		require.EqualValues(t, 9400, search().Available)

		w := operate(h, "PUT", `{"factor":0.5,"seconds":600}`, nil)
		require.Equal(t, 200, w.Code, w.Body.String())
		require.JSONEq(t, `{"factor":0.5,"until":"2000-01-01T00:10:00Z"}`, w.Body.String())
		require.JSONEq(t, w.Body.String(), operate(h, "GET", "", nil).Body.String())
		a := search()
		require.Equal(t, answer{a.ResponseRecorder, 600, 5000, 3800, 5000}, a, "what was used stays used")
		for range 6 {
			require.Equal(t, 200, search().Code)
		}
		a = search()
		require.Equal(t, 429, a.Code)
		require.Equal(t, "temporary_reduced_capacity", a.code(t))
		require.Equal(t, "1", a.Header().Get("Retry-After"))
		a = send(t, h, "POST", "/graphql", "adv_a", graphQLBody("{ __typename }"))
		require.Equal(t, answer{a.ResponseRecorder, 10, 25_000, 24_990, 25_000}, a, "of all budgets")

		require.Equal(t, 200, operate(h, "PUT", `{"factor":1}`, nil).Code)
		require.EqualValues(t, 10_000-9*600, search().Available)
		require.Equal(t, 200, operate(h, "PUT", `{"factor":0.5,"seconds":600}`, nil).Code)
		time.Sleep(10 * time.Minute)
		require.EqualValues(t, 10_000, search().Max, "it is over")

		// A vector search that only the whole limit holds waits for all of the reduced.
		require.Equal(t, 200, operate(h, "PUT", `{"factor":0.1}`, nil).Code)
		time.Sleep(10 * time.Second)
		require.Equal(t, 200, send(t, h, "POST", "/search", "std_a", `{"query":"x","vector":true}`).Code)
		a = search()
		require.Equal(t, 429, a.Code)
		require.Equal(t, "2", a.Header().Get("Retry-After"), "1100 points at 1000 a second")
	})
}

func TestWrongScale(t *testing.T) {
	h := inMemory()
	for body, code := range map[string]string{
		``: "invalid_json", `{`: "invalid_json", `[]`: "invalid_json", `{"factor":"0.5"}`: "invalid_json", `{"factor":1e999}`: "invalid_json",
		`{"factor":0.5}{"factor":0.1}`: "invalid_json", strings.Repeat(" ", 2000) + `{"factor":0.5}`: "invalid_json",
		`{}`: "invalid_factor", `null`: "invalid_factor", `{"factor":0}`: "invalid_factor", `{"factor":-0.5}`: "invalid_factor", `{"factor":1.0001}`: "invalid_factor",
		`{"factor":0.5,"seconds":-1}`: "invalid_seconds", `{"factor":0.5,"seconds":0.1}`: "invalid_seconds", `{"factor":0.5,"seconds":1e300}`: "invalid_seconds",
	} {
		w := operate(h, "PUT", body, nil)
		assert.Equal(t, 400, w.Code, body)
		assert.Contains(t, w.Body.String(), `"`+code+`"`, body)
	}
	require.JSONEq(t, `{"factor":1}`, operate(h, "GET", "", nil).Body.String())
	require.Equal(t, 405, operate(h, "POST", `{"factor":0.5}`, nil).Code)
}

// Only the connection's peer can be this machine, and a sign of a proxy tells that
// it is another that asks.
func TestLoopbackOnly(t *testing.T) {
	h := inMemory()
	field := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	peer := func(address string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = address } }
	host := func(host string) func(*http.Request) { return func(r *http.Request) { r.Host = host } }
	for name, tt := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"IPv4":                  {nil, 200},
		"all of the network":    {peer("127.8.8.8:1"), 200},
		"IPv6":                  {peer("[::1]:1"), 200},
		"IPv4 as IPv6":          {peer("[::ffff:127.0.0.1]:1"), 200},
		"by name":               {host("localhost:8080"), 200},
		"by IPv6":               {host("[::1]:8080"), 200},
		"by IPv6, no port":      {host("[::1]"), 200},
		"with a key":            {field("Authorization", "Bearer std_a"), 200},
		"elsewhere":             {peer("192.0.2.1:1"), 403},
		"elsewhere by IPv6":     {peer("[2001:db8::1]:1"), 403},
		"a socket":              {peer("@"), 403},
		"no address":            {peer(""), 403},
		"another host":          {host("evil.example"), 403},
		"almost this host":      {host("localhost.evil.example:8080"), 403},
		"X-Forwarded-For":       {field("X-Forwarded-For", "127.0.0.1"), 403},
		"X-Forwarded-Host":      {field("X-Forwarded-Host", "localhost"), 403},
		"X-Real-IP":             {field("X-Real-IP", "127.0.0.1"), 403},
		"True-Client-IP":        {field("True-Client-IP", "127.0.0.1"), 403},
		"CF-Connecting-IP":      {field("CF-Connecting-IP", "127.0.0.1"), 403},
		"Forwarded":             {field("Forwarded", "for=127.0.0.1"), 403},
		"Via":                   {field("Via", "1.1 proxy"), 403},
		"elsewhere, and forged": {func(r *http.Request) { peer("192.0.2.1:1")(r); field("X-Forwarded-For", "127.0.0.1")(r) }, 403},
	} {
		for _, method := range []string{"GET", "PUT"} {
			w := operate(h, method, `{"factor":1}`, tt.change)
			assert.Equal(t, tt.status, w.Code, "%s %s: %s", name, method, w.Body)
		}
	}
}
