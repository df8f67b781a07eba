package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
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
		for _, bad := range []string{"", "null", "[]", "{}", `{"events":1}`, `{"events":null}`, `{"events":[]}x`, `{"events":[1,]}`} {
			w := c.do("POST", "/v1/events", "site_a", bad)
			require.Equal(t, 400, w.Code, bad)
			require.Equal(t, "0", w.Header().Get("X-RateLimit-Remaining"), bad)
		}
		time.Sleep(time.Minute)
		require.Equal(t, 200, c.do("POST", "/v1/events", "site_a", batch(10_000)).Code, "bad bodies counted nothing")

		w = c.do("POST", "/v1/events", "site_c", batch(10_001))
		require.Equal(t, 413, w.Code)
		require.Empty(t, w.Header().Get("Retry-After"))
		require.Equal(t, 413, c.do("POST", "/v1/events", "site_c", `{"events":["`+strings.Repeat("x", maxBody)+`"]}`).Code)
	})
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
