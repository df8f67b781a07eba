package main

import (
	"bufio"
	"bytes"
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
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

const exportPath = "/api/v1/exports/chat-responses"

func send(h http.Handler, key, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, exportPath, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+key)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// slow makes each row take a while, until the test ends.
func slow(t *testing.T, d time.Duration) {
	*rowDelay = d
	t.Cleanup(func() { *rowDelay = 0 })
}

type line struct {
	Row, Part int64
	At        time.Time
}

func TestExportStreamsRows(t *testing.T) {
	h := routes(memstore.New(memstore.Options{}))
	w := send(h, basic, `{"rows":3,"from":"2025-03-01","to":"2025-03-04"}`)
	require.Equal(t, 200, w.Code)
	require.Equal(t, "application/x-ndjson", w.Header().Get("Content-Type"))
	require.Equal(t, "1", w.Header().Get("X-Export-Parts"))
	require.Equal(t, "59", w.Header().Get("X-RateLimit-Remaining-Minute"), "it is a request like others")
	require.Equal(t, "10", w.Header().Get("X-RateLimit-Limit-Hour"), "and has an hour of its own")
	require.Equal(t, "9", w.Header().Get("X-RateLimit-Remaining-Hour"))
	lines := bufio.NewScanner(w.Body)
	for i := range int64(3) {
		require.True(t, lines.Scan())
		var l line
		require.NoError(t, json.Unmarshal(lines.Bytes(), &l))
		require.Equal(t, line{i + 1, 1, time.Date(2025, 3, 1+int(i), 0, 0, 0, 0, time.UTC)}, l)
	}
	require.False(t, lines.Scan())

	// No part is longer than a million rows.
	w = send(h, premium, `{"rows":2000001}`)
	require.Equal(t, "3", w.Header().Get("X-Export-Parts"))
	rows := bytes.Split(bytes.TrimSpace(w.Body.Bytes()), []byte("\n"))
	require.Len(t, rows, 2_000_001)
	for i, part := range map[int]int64{0: 1, 999_999: 1, 1_000_000: 2, 1_999_999: 2, 2_000_000: 3} {
		var l line
		require.NoError(t, json.Unmarshal(rows[i], &l))
		require.Equal(t, part, l.Part)
	}
	for _, bad := range []string{`{"rows":-1}`, `{"rows":1.5}`, `[]`, `{"rows":"x"}`, `{"rows":100000001}`, `{"from":"yesterday"}`, `{"from":"2025-02-01","to":"2025-01-01"}`} {
		w := send(h, "nudg3_live_ak_"+strconv.Itoa(len(bad)), bad)
		require.Equal(t, 400, w.Code, bad)
		require.Contains(t, w.Body.String(), `"success":false`)
	}
}

func TestTenExportsAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := routes(memstore.New(memstore.Options{}))
		for range 10 {
			require.Equal(t, 200, send(h, premium, `{"rows":1}`).Code, "whatever the tier")
			time.Sleep(time.Minute)
		}
		w := send(h, premium, `{"rows":1}`)
		require.Equal(t, 429, w.Code)
		require.Equal(t, "3000", w.Header().Get("Retry-After"))
		require.Contains(t, w.Body.String(), `"code":"rate_limit_exceeded"`)
		require.Equal(t, 200, get(h, exportPath+"/statistics", premium).Code, "it is no export")
		require.Equal(t, "2988", get(h, "/api/v1/brands", premium).Header().Get("X-RateLimit-Remaining-Hour"))
		time.Sleep(50*time.Minute - time.Microsecond)
		require.Equal(t, 429, send(h, premium, `{"rows":1}`).Code, "exact to the microsecond")
		time.Sleep(time.Microsecond)
		require.Equal(t, 200, send(h, premium, `{"rows":1}`).Code)
	})
}

// One export of a key runs, others wait their turn.
func TestExportsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow(t, time.Second)
		h := routes(memstore.New(memstore.Options{}))
		start := time.Now()
		var ended [3]time.Duration
		done := make(chan struct{})
		for i := range ended {
			go func() {
				defer func() { done <- struct{}{} }()
				assert.Equal(t, 200, send(h, basic, `{"rows":5}`).Code)
				ended[i] = time.Since(start)
			}()
			synctest.Wait()
		}
		for range ended {
			<-done
		}
		require.Equal(t, [3]time.Duration{5 * time.Second, 10 * time.Second, 15 * time.Second}, ended)

		// Nobody waits for more than 30 s.
		go func() {
			send(h, premium, `{"rows":60}`)
			done <- struct{}{}
		}()
		synctest.Wait()
		start = time.Now()
		w := send(h, premium, `{"rows":1}`)
		require.LessOrEqual(t, time.Since(start), 30*time.Second)
		require.Equal(t, 429, w.Code)
		require.Contains(t, w.Body.String(), `"code":"queue_timeout"`)
		<-done
	})
}

func TestStatistics(t *testing.T) {
	h := routes(memstore.New(memstore.Options{}))
	w := get(h, exportPath+"/statistics", basic)
	require.Equal(t, 200, w.Code)
	require.JSONEq(t, `{"success":true,"data":{"total_rows":150000,"estimated_size_mb":45.2}}`, w.Body.String())
	w = get(h, exportPath+"/statistics?from=2025-01-01&to=2025-01-02", basic)
	require.Contains(t, w.Body.String(), `"total_rows":410,`)
	require.Equal(t, 400, get(h, exportPath+"/statistics?from=x", basic).Code)
	r := httptest.NewRequest("GET", exportPath, nil)
	r.Header.Set("Authorization", "Bearer "+basic)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	require.Equal(t, 405, rec.Code)
	require.Equal(t, "POST", rec.Header().Get("Allow"))
}

// Exports are closed without Redis, where everything else is open.
func TestExportsAreClosedWithoutRedis(t *testing.T) {
	srv := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: srv.Addr()})
	defer client.Close()
	store := redisstore.New(client)
	defer store.Close()
	h := routes(store)
	require.Equal(t, 200, send(h, basic, `{"rows":1}`).Code)
	srv.Kill()
	w := send(h, basic, `{"rows":1}`)
	require.Equal(t, 503, w.Code)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	var f failure
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &f))
	require.False(t, f.Success)
	require.Equal(t, "store_unavailable", f.Error.Code)
	require.Equal(t, 200, get(h, "/api/v1/brands", basic).Code)
	require.Equal(t, 200, get(h, exportPath+"/statistics", basic).Code)
}

// On Redis too an export waits for the one before it, and for that of a server
// that is another process.
func TestExportsQueueOnRedis(t *testing.T) {
	slow(t, 20*time.Millisecond)
	srv := redistest.Start(t)
	var handlers []http.Handler
	for range 2 {
		client := redis.NewClient(&redis.Options{Addr: srv.Addr()})
		defer client.Close()
		store := redisstore.New(client)
		defer store.Close()
		handlers = append(handlers, routes(store))
	}
	type span struct{ from, to time.Time }
	spans := make(chan span)
	for i := range 6 {
		go func() {
			w := &stamped{ResponseRecorder: httptest.NewRecorder()}
			r := httptest.NewRequest(http.MethodPost, exportPath, strings.NewReader(`{"rows":5}`))
			r.Header.Set("Authorization", "Bearer "+basic)
			handlers[i%2].ServeHTTP(w, r)
			assert.Equal(t, 200, w.Code, w.Body.String())
			spans <- span{w.first, w.last}
		}()
	}
	var all []span
	for range 6 {
		all = append(all, <-spans)
	}
	for i, a := range all {
		for _, b := range all[:i] {
			require.True(t, !a.from.Before(b.to) || !b.from.Before(a.to), fmt.Sprintf("%v and %v at once", a, b))
		}
	}
}

// stamped knows when it was written to.
type stamped struct {
	*httptest.ResponseRecorder
	first, last time.Time
}

func (s *stamped) Write(b []byte) (int, error) {
	s.last = time.Now()
	if s.first.IsZero() {
		s.first = s.last
	}
	return s.ResponseRecorder.Write(b)
}
