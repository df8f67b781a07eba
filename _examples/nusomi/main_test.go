package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

var defaults = monthly{minutes: 25_000, rows: policy.Unlimited}

func send(h http.Handler, method, path, key, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func errorOf(t *testing.T, w *httptest.ResponseRecorder) problem {
	t.Helper()
	var f failure
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &f), w.Body.String())
	return f.Error
}

func frames(n int) string { return `{"frames":[` + strings.Repeat("{},", max(n-1, 0)) + `{}]}` }

// Every surface of the page's table: twice the number at once, then as they
// refill, per key and per workspace.
func TestSurfaces(t *testing.T) {
	for _, tt := range []struct {
		name, method, path, body string
		key, workspace           int
		per                      time.Duration
		status                   int
	}{
		{"sessions", "POST", "/v1/sessions", "{}", 30, 200, time.Second, 201},
		{"events", "POST", "/v1/sessions/s/events", `{"events":[{},{}]}`, 1000, 5000, time.Second, 202},
		{"frames", "POST", "/v1/sessions/s/frames", frames(2), 200, 1000, time.Second, 202},
		{"reads", "GET", "/v1/sessions/s", "", 200, 2000, time.Second, 200},
		{"reads", "GET", "/v1/sessions", "", 200, 2000, time.Second, 200},
		{"reads", "GET", "/v1/sessions/s/frames", "", 200, 2000, time.Second, 200},
		{"reads", "GET", "/v1/events", "", 200, 2000, time.Second, 200},
		{"exports", "POST", "/v1/exports", `{"rows":10}`, 5, 30, time.Minute, 202},
		{"replays", "POST", "/v1/replays", "", 10, 50, time.Minute, 201},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := routes(memstore.New(memstore.Options{}), monthly{minutes: 1_000_000, rows: policy.Unlimited})
				for i := range 2 * tt.key {
					w := send(h, tt.method, tt.path, "nus_acme_one", tt.body)
					require.Equal(t, tt.status, w.Code, w.Body.String())
					if i == 0 {
						require.Equal(t, strconv.Itoa(tt.key), w.Header().Get("X-RateLimit-Limit"))
						require.Equal(t, strconv.Itoa(2*tt.key-1), w.Header().Get("X-RateLimit-Remaining"))
						require.Equal(t, "per_key", w.Header().Get("X-Scope"))
					}
				}
				w := send(h, tt.method, tt.path, "nus_acme_one", tt.body)
				require.Equal(t, 429, w.Code)
				require.Equal(t, "per_key", w.Header().Get("X-Scope"))
				require.Equal(t, "rate_limited", errorOf(t, w).Code)
				require.Equal(t, "per_key", errorOf(t, w).Scope)
				seconds, err := strconv.Atoi(w.Header().Get("Retry-After"))
				require.NoError(t, err)
				require.Equal(t, strconv.FormatInt(time.Now().Unix()+int64(seconds), 10), w.Header().Get("X-RateLimit-Reset"))

				// The bucket refills continuously: one by one.
				for range 3 {
					time.Sleep(tt.per/time.Duration(tt.key) - 10*time.Microsecond)
					require.Equal(t, 429, send(h, tt.method, tt.path, "nus_acme_one", tt.body).Code)
					time.Sleep(11 * time.Microsecond)
					require.Equal(t, tt.status, send(h, tt.method, tt.path, "nus_acme_one", tt.body).Code)
				}

				// Other keys of the workspace share its bucket.
				time.Sleep(time.Hour)
				served := 0
				for i := 0; ; i++ {
					w = send(h, tt.method, tt.path, fmt.Sprintf("nus_acme_k%d", i/(2*tt.key)), tt.body)
					if w.Code != tt.status {
						break
					}
					served++
				}
				require.Equal(t, 2*tt.workspace, served)
				require.Equal(t, 429, w.Code)
				require.Equal(t, "per_workspace", w.Header().Get("X-Scope"))
				require.Equal(t, "per_workspace", errorOf(t, w).Scope)
				require.Equal(t, strconv.Itoa(tt.workspace), w.Header().Get("X-RateLimit-Limit"))
				require.Equal(t, tt.status, send(h, tt.method, tt.path, "nus_other_one", tt.body).Code)
			})
		})
	}
}

func TestTiers(t *testing.T) {
	h := routes(memstore.New(memstore.Options{}), defaults)
	for key, limit := range map[string]string{"nus_acme_1": "200", "nus_scale_1": "1000", "nus_scaleup-2_1": "1000", "nus_custom_1": "4000", "nus_customer_1": "200"} {
		w := send(h, "GET", "/v1/sessions", key, "")
		require.Equal(t, 200, w.Code)
		require.Equal(t, limit, w.Header().Get("X-RateLimit-Limit"), key)
	}
}

// A batch is one request and many frames; one that does not fit is refused whole.
func TestBatchesAndQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := routes(memstore.New(memstore.Options{}), monthly{minutes: 99, rows: 1000})
		const frame, export = "/v1/sessions/s/frames", "/v1/exports"
		w := send(h, "POST", frame, "nus_acme_1", frames(50))
		require.Equal(t, 202, w.Code, w.Body.String())
		require.JSONEq(t, `{"accepted":50}`, w.Body.String())
		require.Equal(t, "399", w.Header().Get("X-RateLimit-Remaining"), "one request")

		w = send(h, "POST", frame, "nus_acme_2", frames(50)) // 49 are left
		require.Equal(t, 429, w.Code)
		require.Equal(t, problem{Code: "quota_exceeded", Message: "Over the limit of 99 per month.", Scope: "per_workspace"}, errorOf(t, w))
		require.Equal(t, "per_workspace", w.Header().Get("X-Scope"))
		require.Equal(t, "2147483", w.Header().Get("Retry-After"))
		quota := func(key string) string { return send(h, "GET", "/v1/quota", key, "").Body.String() }
		require.JSONEq(t, `{"period_start":"2000-01-01T00:00:00Z","period_end":"2000-02-01T00:00:00Z",
			"captured_minutes":50,"captured_minutes_limit":99,"exported_rows":0,"exported_rows_limit":1000}`, quota("nus_acme_3"))
		require.Contains(t, send(h, "GET", "/v1/limits", "nus_acme_2", "").Body.String(), `"frames":{"per_key":{"limit":200,"remaining":400},`, "nothing was charged")
		require.Equal(t, 202, send(h, "POST", frame, "nus_acme_1", frames(49)).Code)
		require.Equal(t, 429, send(h, "POST", frame, "nus_acme_1", frames(1)).Code)

		require.Equal(t, 202, send(h, "POST", export, "nus_acme_1", `{"rows":1000}`).Code)
		w = send(h, "POST", export, "nus_acme_1", `{"rows":1}`)
		require.Equal(t, "quota_exceeded", errorOf(t, w).Code)
		require.Equal(t, 413, send(h, "POST", export, "nus_acme_1", `{"rows":1001}`).Code, "no month allows as much")

		time.Sleep(31 * 24 * time.Hour) // another month
		require.Equal(t, 202, send(h, "POST", frame, "nus_acme_1", frames(50)).Code)
		require.Contains(t, quota("nus_acme_1"), `"period_start":"2000-02-01T00:00:00Z"`)
	})
}

// What is no batch is refused, and counts as one request.
func TestBadBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := routes(memstore.New(memstore.Options{}), defaults)
		for i, tt := range []struct {
			path, body string
			status     int
			code       string
		}{
			{"events", `{"events":[]}`, 202, ""},
			{"events", `{"type":"click"}`, 202, ""},
			{"events", `{"events":[` + strings.Repeat("{},", 100) + `{}]}`, 400, "batch_too_large"},
			{"events", `{"events":`, 400, "invalid_batch"},
			{"events", ``, 400, "invalid_batch"},
			{"frames", frames(51), 400, "batch_too_large"},
			{"frames", `{}`, 400, "invalid_batch"},
			{"frames", `[]`, 400, "invalid_batch"},
		} {
			w := send(h, "POST", "/v1/sessions/s/"+tt.path, "nus_acme_"+tt.path, tt.body)
			require.Equal(t, tt.status, w.Code, "%d: %s", i, w.Body)
			if tt.code != "" {
				require.Equal(t, tt.code, errorOf(t, w).Code)
			}
			require.NotEmpty(t, w.Header().Get("X-RateLimit-Remaining"))
		}
		for i, body := range []string{``, `{}`, `{"rows":-1}`, `{"rows":1.5}`, `{"rows":"1"}`, `{"rows":1`, `[]`} {
			w := send(h, "POST", "/v1/exports", "nus_acme_"+strconv.Itoa(i), body)
			require.Equal(t, 400, w.Code, "%s: %s", body, w.Body)
			require.NotEmpty(t, errorOf(t, w).Code)
		}
		// Each counted: the events are 1,000 a second, the frames 200.
		limits := send(h, "GET", "/v1/limits", "nus_acme_frames", "").Body.String() // no time passes here
		var shown map[string]map[string]struct{ Limit, Remaining int }
		require.NoError(t, json.Unmarshal([]byte(limits), &shown))
		require.Len(t, shown, 7)
		require.Equal(t, 1997, shown["frames"]["per_workspace"].Remaining)
		require.Equal(t, 9995, shown["events"]["per_workspace"].Remaining)
		require.Contains(t, send(h, "GET", "/v1/quota", "nus_acme_1", "").Body.String(), `"captured_minutes":0,`)
		require.Contains(t, send(h, "GET", "/v1/quota", "nus_acme_1", "").Body.String(), `"exported_rows_limit":null`)
	})
}

func TestEveryResponseTells(t *testing.T) {
	h := routes(memstore.New(memstore.Options{}), defaults)
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/v1/sessions", 200}, {"HEAD", "/v1/sessions", 200}, {"GET", "/v1/limits", 200}, {"GET", "/v1/quota", 200},
		{"GET", "/v1/nothing", 404}, {"DELETE", "/v1/sessions", 405},
	} {
		w := send(h, tt.method, tt.path, "nus_acme_1", "")
		require.Equal(t, tt.status, w.Code, tt)
		for _, field := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Scope"} {
			require.NotEmpty(t, w.Header().Get(field), "%s of %v", field, tt)
		}
	}
	for _, key := range []string{"", "nus_", "nus_acme", "nus_acme_", "nus__k", "sk_acme_k", "nus_a me_k"} {
		w := send(h, "GET", "/v1/sessions", key, "")
		require.Equal(t, 401, w.Code, key)
		require.Equal(t, "unauthorized", errorOf(t, w).Code)
	}
	r := httptest.NewRequest("GET", "/v1/sessions", nil)
	r.Header.Set("Authorization", "Basic nus_acme_1") // another scheme
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, 401, w.Code)
}

// Streams are counted while they are open, per key and per workspace. On Redis,
// as in memory.
func TestStreams(t *testing.T) {
	for name, open := range map[string]func(*testing.T) policy.Store{
		"memory": func(*testing.T) policy.Store { return memstore.New(memstore.Options{}) },
		"redis": func(t *testing.T) policy.Store {
			client := redis.NewClient(&redis.Options{Addr: redistest.Start(t).Addr()})
			store := redisstore.New(client)
			t.Cleanup(func() {
				_ = store.Close()
				_ = client.Close()
			})
			return store
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(routes(open(t), defaults))
			t.Cleanup(srv.Close) // after the test's context, and with it its streams
			stream := func(key string) *http.Response {
				r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/v1/sessions/s/events/stream", nil)
				require.NoError(t, err)
				r.Header.Set("Authorization", "Bearer "+key)
				resp, err := srv.Client().Do(r)
				require.NoError(t, err)
				return resp
			}
			var streams []*http.Response
			for range 50 {
				resp := stream("nus_acme_1")
				require.Equal(t, 200, resp.StatusCode)
				require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
				require.Equal(t, "50", resp.Header.Get("X-RateLimit-Limit"))
				require.Equal(t, "per_key", resp.Header.Get("X-Scope"))
				line, err := bufio.NewReader(resp.Body).ReadString('\n')
				require.NoError(t, err)
				require.True(t, strings.HasPrefix(line, ":"))
				streams = append(streams, resp)
			}
			refused := stream("nus_acme_1")
			require.Equal(t, 429, refused.StatusCode)
			require.Equal(t, "per_key", refused.Header.Get("X-Scope"))
			require.Equal(t, "0", refused.Header.Get("X-RateLimit-Remaining"))
			_ = refused.Body.Close()
			require.NoError(t, streams[0].Body.Close())
			require.Eventually(t, func() bool {
				again := stream("nus_acme_1")
				streams = append(streams, again)
				return again.StatusCode == 200
			}, 5*time.Second, 10*time.Millisecond)
			for k := 2; k <= 10; k++ {
				for range 50 {
					resp := stream(fmt.Sprintf("nus_acme_%d", k))
					require.Equal(t, 200, resp.StatusCode)
					streams = append(streams, resp)
				}
			}
			refused = stream("nus_acme_11")
			require.Equal(t, 429, refused.StatusCode)
			require.Equal(t, "per_workspace", refused.Header.Get("X-Scope"))
			_ = refused.Body.Close()
			for _, resp := range streams {
				_ = resp.Body.Close()
			}
		})
	}
}
