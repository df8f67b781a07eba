package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
	"github.com/stint-go/stint/respond"
)

func get(h http.Handler, path, key string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const (
	basic   = "nudg3_live_ak_your_key"
	premium = "nudg3_live_ak_premium_1"
)

func TestNineFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := routes(memstore.New(memstore.Options{}))
		time.Sleep(90 * time.Minute) // 2000-01-01T01:30:00Z
		for key, numbers := range map[string][3]int{basic: {60, 600, 5000}, premium: {300, 3000, 50_000}} {
			w := get(h, "/api/v1/brands?ids=a,b", key)
			require.Equal(t, 200, w.Code)
			require.JSONEq(t, `{"success":true,"data":[{"id":"a","name":"Brand a"},{"id":"b","name":"Brand b"}]}`, w.Body.String())
			for i, window := range []string{"Minute", "Hour", "Day"} {
				require.Equal(t, strconv.Itoa(numbers[i]), w.Header().Get("X-RateLimit-Limit-"+window))
				require.Equal(t, strconv.Itoa(numbers[i]-1), w.Header().Get("X-RateLimit-Remaining-"+window))
			}
			require.Equal(t, "2000-01-01T01:31:00Z", w.Header().Get("X-RateLimit-Reset-Minute"))
			require.Equal(t, "2000-01-01T02:00:00Z", w.Header().Get("X-RateLimit-Reset-Hour"))
			require.Equal(t, "2000-01-02T00:00:00Z", w.Header().Get("X-RateLimit-Reset-Day"))
		}
	})
}

func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := routes(memstore.New(memstore.Options{}))
		for range 60 {
			require.Equal(t, 200, get(h, "/api/v1/dashboard", basic).Code)
		}
		w := get(h, "/api/v1/dashboard", basic)
		require.Equal(t, 429, w.Code)
		seconds, err := strconv.Atoi(w.Header().Get("Retry-After"))
		require.NoError(t, err)
		var f failure
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &f))
		require.Equal(t, failure{Error: problem{
			Code: "rate_limit_exceeded", Message: "Rate limit exceeded. Try again in " + strconv.Itoa(seconds) + " seconds.", RetryAfter: int64(seconds),
		}}, f)
		require.Equal(t, "0", w.Header().Get("X-RateLimit-Remaining-Minute"))
		reset, err := time.Parse(time.RFC3339, w.Header().Get("X-RateLimit-Reset-Minute"))
		require.NoError(t, err)
		require.Equal(t, time.Now().Add(time.Duration(seconds)*time.Second), reset.Local())
		// A refusal costs nothing, in no window.
		require.Equal(t, "540", w.Header().Get("X-RateLimit-Remaining-Hour"))
		for range 1000 {
			get(h, "/api/v1/brands", basic)
		}
		require.Equal(t, "540", get(h, "/api/v1/brands", basic).Header().Get("X-RateLimit-Remaining-Hour"))
		require.Equal(t, 200, get(h, "/api/v1/dashboard", premium).Code)

		time.Sleep(time.Duration(seconds)*time.Second - time.Second)
		require.Equal(t, 429, get(h, "/api/v1/dashboard", basic).Code)
		time.Sleep(time.Second)
		require.Equal(t, 200, get(h, "/api/v1/dashboard", basic).Code)
	})
}

func TestUnauthorized(t *testing.T) {
	h := routes(memstore.New(memstore.Options{}))
	for _, key := range []string{"", "nudg3_live_ak_", "nudg3_test_ak_1", "sk_live_1"} {
		w := get(h, "/api/v1/brands", key)
		require.Equal(t, 401, w.Code)
		require.Contains(t, w.Body.String(), `"code":"unauthorized"`)
	}
	for _, lines := range [][]string{{"Bearer " + basic, "Bearer " + basic}, {"Bearer " + basic, "Bearer " + premium}, {"Bearer " + basic + "\u00a0"}, {"Basic " + basic}} {
		r := httptest.NewRequest(http.MethodGet, "/api/v1/brands", nil)
		r.Header["Authorization"] = lines
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, 401, w.Code, "%q", lines)
		require.Contains(t, w.Body.String(), `"code":"unauthorized"`)
	}
}

func TestNothingHere(t *testing.T) {
	h := routes(memstore.New(memstore.Options{}))
	for _, tc := range []struct {
		method, path, key string
		status            int
		remaining, code   string
	}{
		{"GET", "/", "", 404, "", "not_found"},
		{"BREW", "/", "", 405, "", "method_not_allowed"},
		{"GET", "/api/v1/nothing", "", 401, "", "unauthorized"},
		{"GET", "/api/v1/nothing", basic, 404, "59", "not_found"},
		{"GET", "/api/v1", basic, 404, "58", "not_found"},
		{"POST", "/api/v1/brands", basic, 405, "57", "method_not_allowed"},
		{"HEAD", "/api/v1/brands", basic, 200, "56", ""},
		{"HEAD", "/api/v1/nothing", basic, 404, "55", "not_found"},
	} {
		r := httptest.NewRequest(tc.method, tc.path, nil)
		if tc.key != "" {
			r.Header.Set("Authorization", "Bearer "+tc.key)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, tc.status, w.Code, tc)
		require.Equal(t, tc.remaining, w.Header().Get("X-RateLimit-Remaining-Minute"), tc)
		require.Equal(t, tc.status == 405, w.Header().Get("Allow") != "", tc)
		var f failure
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &f), tc)
		require.Equal(t, tc.code, f.Error.Code, tc)
	}
}

// Only the page's own error has the page's sentence.
func TestOtherRefusals(t *testing.T) {
	for _, reason := range []respond.Reason{respond.StoreUnavailable, respond.NoKey, respond.CostTooHigh, respond.Misconfigured} {
		report := new(respond.Report)
		report.Denial = respond.Deny(reason, report)
		w := httptest.NewRecorder()
		style.Refuse(w, httptest.NewRequest("GET", "/", nil), report)
		require.Equal(t, reason.Status(), w.Code)
		require.Contains(t, w.Body.String(), `"code":"`+string(reason)+`"`)
		require.NotContains(t, w.Body.String(), "Rate limit exceeded")
		require.NotContains(t, w.Body.String(), "retry_after")
		var f failure
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &f))
		require.NotEmpty(t, f.Error.Message)
	}
}

func TestOpenWhenRedisIsAway(t *testing.T) {
	srv := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: srv.Addr()})
	defer client.Close()
	store := redisstore.New(client)
	defer store.Close()
	h := routes(store)
	require.Equal(t, "59", get(h, "/api/v1/brands", basic).Header().Get("X-RateLimit-Remaining-Minute"))
	srv.Kill()
	start := time.Now()
	w := get(h, "/api/v1/brands", basic)
	require.Equal(t, 200, w.Code)
	require.Empty(t, w.Header().Get("X-RateLimit-Remaining-Minute"), "unknown")
	require.Less(t, time.Since(start), time.Second)
	srv.Restart()
	require.Eventually(t, func() bool {
		return get(h, "/api/v1/brands", basic).Header().Get("X-RateLimit-Remaining-Minute") != ""
	}, 5*time.Second, 10*time.Millisecond)
}
