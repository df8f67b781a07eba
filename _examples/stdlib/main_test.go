package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy/memstore"
)

func TestTenPerTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := routes(memstore.New(memstore.Options{}))
		get := func(key string) *http.Response {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("X-API-Key", key)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Result()
		}
		for range 10 {
			require.Equal(t, http.StatusOK, get("a").StatusCode)
			time.Sleep(100 * time.Millisecond)
		}
		refused := get("a")
		require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
		require.Equal(t, "9", refused.Header.Get("Retry-After"))
		require.Equal(t, http.StatusOK, get("b").StatusCode, "another key")
		require.Equal(t, http.StatusBadRequest, get("").StatusCode, "no key")
		time.Sleep(9 * time.Second)
		require.Equal(t, http.StatusOK, get("a").StatusCode)
	})
}
