package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// frozen stores count at one instant, so that a slow machine refills nothing.
func frozen() policy.Store {
	now := time.Date(2026, 1, 12, 10, 0, 0, 0, time.UTC)
	return memstore.New(memstore.Options{Now: func() time.Time { return now }})
}

func get(t *testing.T, srv *httptest.Server, user, version string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/items", nil)
	require.NoError(t, err)
	if user != "" {
		r.SetBasicAuth(user, "")
	}
	if version != "" {
		r.Header.Set("API-Version", version)
	}
	resp, err := srv.Client().Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, []string{"API-Version"}, resp.Header.Values("Vary"), "on every response")
	return resp, string(body)
}

func TestOldAndNewClients(t *testing.T) {
	srv := httptest.NewServer(routes(frozen()))
	defer srv.Close()
	defer srv.Config.Close()

	resp, body := get(t, srv, "alice", "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "[]\n", body)
	require.NotContains(t, resp.Header, "Ratelimit")
	require.NotContains(t, resp.Header, "X-Ratelimit-Limit")

	for _, version := range []string{"", "2019-01-01", "2026-01-02"} {
		resp, body = get(t, srv, "alice", version)
		require.Equal(t, "HTTP/1.1", resp.Proto)
		require.Equal(t, "409 You must wait before accessing this url again.", resp.Status)
		require.Empty(t, body)
		require.NotEmpty(t, resp.Header.Get("Date"))
		resp.Header.Del("Date")
		require.Equal(t, http.Header{
			"Cache-Control": {"no-cache"}, "Pragma": {"no-cache"}, "Expires": {"-1"},
			"Retry-After": {"1"}, "Content-Length": {"0"}, "Vary": {"API-Version"},
		}, resp.Header)
	}

	// The same client, in the new way: refused for what the old one took.
	resp, body = get(t, srv, "alice", newVersion)
	require.Equal(t, "429 Too Many Requests", resp.Status)
	require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	require.Equal(t, "1", resp.Header.Get("Retry-After"))
	require.Equal(t, `"per_client/bucket-1s";q=1;w=1, "per_client/window-1h";q=600;w=3600`, resp.Header.Get("RateLimit-Policy"))
	require.Equal(t, `"per_client/bucket-1s";r=0;t=1, "per_client/window-1h";r=599;t=7200`, resp.Header.Get("RateLimit"))
	require.NotContains(t, resp.Header, "Pragma")
	var problem struct {
		Status     int
		Code       string
		RetryAfter int `json:"retry_after"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &problem))
	require.Equal(t, 429, problem.Status)
	require.Equal(t, "rate_limit_exceeded", problem.Code)
	require.Equal(t, 1, problem.RetryAfter)

	// Another client, in the new way from the start.
	resp, _ = get(t, srv, "bob", newVersion)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NotEmpty(t, resp.Header.Get("RateLimit"))
	resp, _ = get(t, srv, "bob", "")
	require.Equal(t, http.StatusConflict, resp.StatusCode, "counted together")

	resp, _ = get(t, srv, "", "")
	require.Equal(t, http.StatusOK, resp.StatusCode, "by its address")
	resp, _ = get(t, srv, "", "")
	require.Equal(t, http.StatusConflict, resp.StatusCode)
}
