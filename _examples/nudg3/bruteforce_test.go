package main

import (
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// from asks for brands with a key, from an address.
func from(h http.Handler, ip, key string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/api/v1/brands", nil)
	r.RemoteAddr = ip + ":1234"
	r.Header.Set("Authorization", "Bearer "+key)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const attacker, other = "192.0.2.66", "192.0.2.67"

// requireBlocked wants the page's refusal, for as long as a block of d, or up to a
// 32nd more.
func requireBlocked(t *testing.T, w *httptest.ResponseRecorder, d time.Duration) {
	t.Helper()
	require.Equal(t, 429, w.Code, w.Body)
	seconds, err := strconv.ParseInt(w.Header().Get("Retry-After"), 10, 64)
	require.NoError(t, err)
	require.LessOrEqual(t, time.Duration(seconds)*time.Second, d+d/32+time.Second)
	require.Greater(t, time.Duration(seconds)*time.Second, d-10*time.Second)
	var f failure
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &f))
	require.Equal(t, failure{Error: problem{
		Code: "ip_blocked", Message: "Too many failed authentications. Try again in " + strconv.FormatInt(seconds, 10) + " seconds.", RetryAfter: seconds,
	}}, f)
}

// guess fails ten times, each of which is answered 401.
func guess(t *testing.T, h http.Handler) {
	t.Helper()
	for i := range 10 {
		require.Equal(t, 401, from(h, attacker, "nudg3_test_"+strconv.Itoa(i)).Code, i)
	}
}

func TestBruteForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		defer store.Close()
		h := routes(store)
		for _, block := range []time.Duration{time.Hour, 4 * time.Hour, 24 * time.Hour, 24 * time.Hour} {
			require.Equal(t, 200, from(h, attacker, basic).Code)
			guess(t, h)
			requireBlocked(t, from(h, attacker, "nudg3_test_11"), block)
			requireBlocked(t, from(h, attacker, basic), block) // a good key does not help
			require.Equal(t, 200, from(h, other, basic).Code)
			time.Sleep(block - time.Second) // what was tried meanwhile changes nothing
			require.Equal(t, 429, from(h, attacker, basic).Code)
			time.Sleep(block/32 + 2*time.Second)
		}
		require.Equal(t, 200, from(h, attacker, basic).Code)
	})
}

// Typos do not block: nine of them, an hour later nine more.
func TestTypos(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		defer store.Close()
		h := routes(store)
		for range 3 {
			for range 9 {
				require.Equal(t, 401, from(h, attacker, "nudg3_live_ak_").Code)
			}
			require.Equal(t, 200, from(h, attacker, basic).Code)
			time.Sleep(time.Hour)
		}
	})
}

// Routes that are not there, and exports, are guarded too; 404 is no failure.
func TestGuardIsEverywhere(t *testing.T) {
	store := memstore.New(memstore.Options{})
	defer store.Close()
	h := routes(store)
	at := func(method, path, key string) int {
		r := httptest.NewRequest(method, path, nil)
		r.RemoteAddr = attacker + ":1"
		r.Header.Set("Authorization", "Bearer "+key)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for range 20 {
		require.Equal(t, 404, at("GET", "/api/v1/nothing", basic))
	}
	for range 4 {
		require.Equal(t, 401, at("GET", "/api/v1/nothing", "x"))
		require.Equal(t, 401, at("POST", exportPath, "x"))
	}
	require.Equal(t, 401, at("DELETE", "/api/v1/brands", "x"))
	require.Equal(t, 401, at("GET", exportPath+"/statistics", "x"))
	require.Equal(t, 429, at("POST", exportPath, basic))
	require.Equal(t, 429, at("GET", "/api/v1/dashboard", basic))
}

// Processes on one Redis share the block; without Redis all is open but exports.
func TestBruteForceOnRedis(t *testing.T) {
	srv := redistest.Start(t)
	var offset atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	process := func() http.Handler {
		store := redisstore.Options{Now: now}.New(srv.Client(t))
		t.Cleanup(func() { _ = store.Close() })
		return routes(store)
	}
	first, second := process(), process()
	for i := range 5 {
		require.Equal(t, 401, from(first, attacker, strconv.Itoa(i)).Code)
		require.Equal(t, 401, from(second, attacker, strconv.Itoa(i)).Code)
	}
	requireBlocked(t, from(first, attacker, basic), time.Hour)
	requireBlocked(t, from(second, attacker, basic), time.Hour)
	offset.Add(int64(63 * time.Minute))
	require.Equal(t, 200, from(second, attacker, basic).Code)

	srv.Kill()
	require.Equal(t, 200, from(first, attacker, basic).Code)
	require.Equal(t, 401, from(first, attacker, "x").Code)
	require.Equal(t, 503, send(first, basic, "").Code)
}

func TestBlocksFlag(t *testing.T) {
	before := blocks
	defer func() { blocks = before }()
	require.Equal(t, "1h0m0s,4h0m0s,24h0m0s", flag.Lookup("blocks").DefValue)
	require.NoError(t, flag.Set("blocks", "2s,5s"))
	require.Equal(t, durations{2 * time.Second, 5 * time.Second}, blocks)
	for _, bad := range []string{"", "1", "1h,", "-1h", "1h,soon"} {
		require.Error(t, flag.Set("blocks", bad), bad)
	}
}
