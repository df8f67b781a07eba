package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy/memstore"
)

type client struct {
	t *testing.T
	h http.Handler
}

func (c client) do(method, path, key, body string) *httptest.ResponseRecorder {
	c.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	switch {
	case strings.HasPrefix(key, "sk_"):
		r.Header.Set("Authorization", "Bearer "+key)
	case key != "":
		r.Header.Set("X-Site-Key", key)
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	return w
}

func newClient(t *testing.T) client { return client{t, routes(memstore.New(memstore.Options{}))} }

func TestSessionsPerRollingMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t)
		start := time.Now()
		for i := range 1000 {
			w := c.do("GET", "/v1/sessions?limit=1", "sk_live_A", "")
			require.Equal(t, 200, w.Code)
			require.Equal(t, "1000", w.Header().Get("X-RateLimit-Limit"))
			require.Equal(t, strconv.Itoa(999-i), w.Header().Get("X-RateLimit-Remaining"))
			time.Sleep(48 * time.Millisecond) // 48 seconds in all
		}
		w := c.do("GET", "/v1/sessions", "sk_live_A", "")
		require.Equal(t, 429, w.Code)
		require.Equal(t, "12", w.Header().Get("Retry-After"))
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		require.Equal(t, strconv.FormatInt(start.Add(time.Minute).Unix(), 10), w.Header().Get("X-RateLimit-Reset"))
		require.JSONEq(t, `{"error":"RateLimitExceeded","message":"Too many requests. Retry after 12 seconds."}`, w.Body.String())
		require.Equal(t, 200, c.do("GET", "/v1/sessions", "sk_live_B", "").Code, "another key")
		time.Sleep(12*time.Second - time.Microsecond)
		require.Equal(t, 429, c.do("GET", "/v1/sessions", "sk_live_A", "").Code)
		time.Sleep(time.Microsecond)
		require.Equal(t, 200, c.do("GET", "/v1/sessions", "sk_live_A", "").Code)
	})
}

func TestPagination(t *testing.T) {
	c := newClient(t)
	seen := map[string]bool{}
	path, pages := "/v1/sessions?limit=200", 0
	for next := ""; ; pages++ {
		w := c.do("GET", path+next, "sk_live_A", "")
		require.Equal(t, 200, w.Code)
		var p page
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
		for _, s := range p.Data {
			require.False(t, seen[s.ID])
			seen[s.ID] = true
		}
		if p.NextCursor == nil {
			break
		}
		require.True(t, strings.HasPrefix(*p.NextCursor, "eyJpZCI6InNlc3"), *p.NextCursor)
		next = "&cursor=" + *p.NextCursor
	}
	require.Len(t, seen, 1000)
	require.Equal(t, 4, pages)

	var p page
	w := c.do("GET", "/v1/sessions?from=2026-01-02&to=2026-01-02T12:00:00Z", "sk_live_A", "")
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	require.Len(t, p.Data, 12)
	for _, bad := range []string{"limit=0", "limit=201", "limit=x", "cursor=%7B", "cursor=e30", "from=yesterday", "to=1"} {
		w := c.do("GET", "/v1/sessions?"+bad, "sk_live_A", "")
		require.Equal(t, 400, w.Code, bad)
		require.NotEmpty(t, w.Header().Get("X-RateLimit-Remaining"))
	}
}

func TestEventsPerRollingMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t)
		batch := func(n int) string { return `{"events":[` + strings.TrimSuffix(strings.Repeat(`{},`, n), ",") + `]}` }
		w := c.do("POST", "/v1/events", "site_a", batch(2500))
		require.Equal(t, 200, w.Code)
		require.JSONEq(t, `{"accepted":2500}`, w.Body.String())
		require.Equal(t, "10000", w.Header().Get("X-RateLimit-Limit"))
		require.Equal(t, "7500", w.Header().Get("X-RateLimit-Remaining"))
		require.Equal(t, 200, c.do("POST", "/v1/events", "site_a", batch(7000)).Code)
		require.Equal(t, 429, c.do("POST", "/v1/events", "site_a", batch(501)).Code, "all or none")
		require.Equal(t, 200, c.do("POST", "/v1/events", "site_a", batch(500)).Code)
		require.Equal(t, 429, c.do("POST", "/v1/events", "site_a", batch(1)).Code)
		require.Equal(t, 200, c.do("POST", "/v1/events", "site_b", batch(10_000)).Code)
		for _, bad := range []string{"", "null", "[]", "{}", `{"events":1}`, `{"events":null}`, `{"events":[]}x`, `{"events":[1,]}`,
			`{"events":[{}]}}`, `{"events":[{}]}]`, `{"events":[{}]]]garbage`, `{"events":[{}]}{}`, `{"events":[{}]`, `{"events":[{}`, `{"events":[{}]} ,`,
			`{"Events":[{}]}`, `{"EVENTS":[{}]}`, `{"events":[{}],"events":[{}]}`, `{"events":[{}],"events":null}`, `{"events":{}}`, `{"other":[{}]}`, `[{"events":[{}]}]`, `"events"`} {
			w := c.do("POST", "/v1/events", "site_a", bad)
			require.Equal(t, 400, w.Code, bad)
			require.Equal(t, "0", w.Header().Get("X-RateLimit-Remaining"), bad)
		}
		time.Sleep(time.Minute)
		require.Equal(t, 200, c.do("POST", "/v1/events", "site_a", batch(10_000)).Code, "bad bodies counted nothing")

		require.Equal(t, 200, c.do("POST", "/v1/events", "site_d", "\n{\"sent\":{\"events\":[1]}, \"events\" : [1, null, [2]] ,\"v\":1} \n").Code)
		w = c.do("POST", "/v1/events", "site_d", `{"events":[]}`)
		require.Equal(t, 200, w.Code)
		require.Equal(t, "9997", w.Header().Get("X-RateLimit-Remaining"))
		spaces := strings.Repeat(" ", maxBody-len(batch(1)))
		require.Equal(t, 200, c.do("POST", "/v1/events", "site_d", batch(1)+spaces).Code)
		require.Equal(t, 413, c.do("POST", "/v1/events", "site_d", batch(1)+spaces+" ").Code)

		w = c.do("POST", "/v1/events", "site_c", batch(10_001))
		require.Equal(t, 413, w.Code)
		require.Empty(t, w.Header().Get("Retry-After"))
		require.Equal(t, 413, c.do("POST", "/v1/events", "site_c", `{"events":["`+strings.Repeat("x", maxBody)+`"]}`).Code)
	})
}

// A batch that is too large is read no further than it takes to know that.
func TestLargeBatchIsNotRead(t *testing.T) {
	h := routes(memstore.New(memstore.Options{}))
	body := strings.NewReader(`{"events":[` + strings.Repeat("1,", 1<<20))
	r := httptest.NewRequest("POST", "/v1/events", body)
	r.Header.Set("X-Site-Key", "site_a")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, 413, w.Code)
	require.Equal(t, "10000", w.Header().Get("X-RateLimit-Remaining"))
	require.JSONEq(t, `{"error":"BatchTooLarge","message":"More than 10000 events in one request."}`, w.Body.String())
	require.Greater(t, body.Len(), 1<<20)
}

func TestBodyThatCannotBeRead(t *testing.T) {
	h := routes(memstore.New(memstore.Options{}))
	for _, sent := range []string{"", `{"events":[{},`, `{"events":[{}]}`} {
		r := httptest.NewRequest("POST", "/v1/events", io.MultiReader(strings.NewReader(sent), iotest.ErrReader(errors.New("broken"))))
		r.Header.Set("X-Site-Key", "site_a")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, 400, w.Code)
		require.Equal(t, "10000", w.Header().Get("X-RateLimit-Remaining"))
	}
}

func TestNothingHere(t *testing.T) {
	c := newClient(t)
	for _, tc := range []struct {
		method, path, key string
		status            int
		remaining, allow  string
	}{
		{"GET", "/", "", 404, "", ""},
		{"GET", "/v1/nothing", "sk_live_A", 404, "", ""},
		{"BREW", "/v1/nothing", "sk_live_A", 405, "", "GET, HEAD, POST"},
		{"GET", "/v1/sessions/7", "", 401, "", ""},
		{"GET", "/v1/sessions/7", "sk_live_A", 404, "999", ""},
		{"POST", "/v1/sessions", "sk_live_A", 405, "998", "GET, HEAD"},
		{"HEAD", "/v1/sessions", "sk_live_A", 200, "997", ""},
		{"HEAD", "/v1/sessions/7", "sk_live_A", 404, "996", ""},
		{"GET", "/v1/events", "", 401, "", ""},
		{"GET", "/v1/events", "site_a", 405, "10000", "POST"},
		{"HEAD", "/v1/events", "site_a", 405, "10000", "POST"},
		{"POST", "/v1/events/7", "site_a", 404, "10000", ""},
		{"POST", "/v1/events", "site_a", 200, "9998", ""},
		{"PUT", "/v1/events", "site_a", 405, "9998", "POST"},
	} {
		w := c.do(tc.method, tc.path, tc.key, `{"events":[{},{}]}`)
		require.Equal(t, tc.status, w.Code, fmt.Sprint(tc))
		require.Equal(t, tc.remaining, w.Header().Get("X-RateLimit-Remaining"), fmt.Sprint(tc))
		require.Equal(t, tc.allow, w.Header().Get("Allow"), fmt.Sprint(tc))
		require.Equal(t, "application/json", w.Header().Get("Content-Type"), fmt.Sprint(tc))
		if tc.status != 200 {
			var e apiError
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e), fmt.Sprint(tc))
			require.NotEmpty(t, e.Error)
			require.NotEmpty(t, e.Message)
		}
	}
}

func TestOneFieldOfVisibleASCII(t *testing.T) {
	h := routes(memstore.New(memstore.Options{}))
	for _, tc := range []struct {
		name   string
		lines  []string
		status int
	}{
		{"Authorization", []string{"bearer sk_live_A "}, 200},
		{"Authorization", []string{"Bearer sk_live_A", "Bearer sk_live_A"}, 401},
		{"Authorization", []string{"Bearer sk_live_A", "Bearer sk_live_B"}, 401},
		{"Authorization", []string{"Bearer sk_live_A\u00a0"}, 401},
		{"Authorization", []string{"Basic sk_live_A"}, 401},
		{"X-Site-Key", []string{"site_a\t"}, 200},
		{"X-Site-Key", []string{"site_a", "site_a"}, 401},
		{"X-Site-Key", []string{"site_a", "site_b"}, 401},
		{"X-Site-Key", []string{"site_a\u00a0"}, 401},
	} {
		r := httptest.NewRequest("GET", "/v1/sessions", nil)
		if tc.name == "X-Site-Key" {
			r = httptest.NewRequest("POST", "/v1/events", strings.NewReader(`{"events":[]}`))
		}
		r.Header[tc.name] = tc.lines
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, tc.status, w.Code, fmt.Sprintf("%+v", tc))
		if tc.status == 401 {
			require.Contains(t, w.Body.String(), `"error":"Unauthorized"`)
		}
	}
}

func TestUnauthorized(t *testing.T) {
	c := newClient(t)
	for _, tc := range [][2]string{
		{"/v1/sessions", ""}, {"/v1/sessions", "sk_"}, {"/v1/sessions", "sk_live_"}, {"/v1/sessions", "sk_test_A"}, {"/v1/sessions", "site_a"},
		{"/v1/events", ""}, {"/v1/events", "site_"}, {"/v1/events", "shop_a"}, {"/v1/events", "sk_live_A"},
	} {
		method := "GET"
		if tc[0] == "/v1/events" {
			method = "POST"
		}
		w := c.do(method, tc[0], tc[1], `{"events":[]}`)
		require.Equal(t, 401, w.Code, fmt.Sprint(tc))
		var e apiError
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
		require.Equal(t, "Unauthorized", e.Error)
	}
}
