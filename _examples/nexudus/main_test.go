package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

func handler(t *testing.T, store policy.Store, status int) http.Handler {
	h, err := routes(store, status)
	require.NoError(t, err)
	return h
}

func send(h http.Handler, method, path, user string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	if user != "" {
		r.SetBasicAuth(user, "secret")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// A refusal on the wire is the page's, line by line.
func TestRefusalOnTheWire(t *testing.T) {
	store := memstore.New(memstore.Options{})
	defer store.Close()
	for status, line := range map[int]string{
		409: "HTTP/1.1 409 You must wait before accessing this url again.\r\n",
		429: "HTTP/1.1 429 Too Many Requests\r\n",
	} {
		srv := httptest.NewServer(handler(t, store, status))
		defer srv.Close()
		path := fmt.Sprintf("/api/Sys/AuditTrailEntries/%d", status)
		ask := func() (string, http.Header) {
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
			_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\nConnection: close\r\n\r\n", path, map[int]string{409: "YTo=", 429: "Yjo="}[status])
			require.NoError(t, err)
			reader := bufio.NewReader(conn)
			first, err := reader.ReadString('\n')
			require.NoError(t, err)
			rest, err := io.ReadAll(reader)
			require.NoError(t, err)
			h := http.Header{}
			head, body, _ := strings.Cut(string(rest), "\r\n\r\n")
			for _, l := range strings.Split(head, "\r\n") {
				name, value, _ := strings.Cut(l, ": ")
				h.Add(name, value)
			}
			if first == line {
				require.Empty(t, body)
			}
			return first, h
		}
		first, h := ask()
		require.Equal(t, "HTTP/1.1 200 OK\r\n", first)
		require.Empty(t, h.Get("X-RateLimit-Limit"), "the page promises none")
		first, h = ask()
		require.Equal(t, line, first)
		require.Equal(t, []string{"no-cache"}, h["Cache-Control"])
		require.Equal(t, []string{"no-cache"}, h["Pragma"])
		require.Equal(t, []string{"-1"}, h["Expires"])
		require.Equal(t, []string{"0"}, h["Content-Length"])
		require.Equal(t, []string{"60"}, h["Retry-After"])
		require.Equal(t, []string{"Retry-After"}, h["Access-Control-Expose-Headers"])
		require.Equal(t, []string{"*"}, h["Access-Control-Allow-Origin"])
		require.NotEmpty(t, h.Get("Date"))
		require.Empty(t, h.Get("Content-Type"))
	}
}

// One that keeps the pace of a row of "1 request per …" is never refused.
func TestPace(t *testing.T) {
	for path, every := range map[string]time.Duration{
		"/api/spaces/coworkers":                  500 * time.Millisecond, // 120 a minute; 100 ms is for bursts
		"/api/spaces/users":                      720 * time.Millisecond, // 5000 an hour
		"/api/spaces/CoworkerPricePlanHistories": 10 * time.Second,
		"/api/sys/AuditTrailEntries":             time.Minute,
		"/api/spaces/bigquery/pushall":           12 * time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			store := memstore.New(memstore.Options{})
			defer store.Close()
			h := handler(t, store, 409)
			for i := range 100 {
				require.Equal(t, 200, send(h, "GET", path, "me").Code, "%s: request %d", path, i+1)
				time.Sleep(every)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		defer store.Close()
		h := handler(t, store, 409)
		for i := range 100 { // ten seconds at the base limit's pace
			require.Equal(t, 200, send(h, "GET", "/api/spaces/coworkers", "me").Code, "request %d", i+1)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		require.Equal(t, 200, send(h, "GET", "/api/spaces/coworkers", "me").Code)
		time.Sleep(100*time.Millisecond - time.Microsecond)
		w := send(h, "GET", "/api/spaces/coworkers", "me")
		require.Equal(t, 409, w.Code)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
	})
}

// One row is one count for a client, whatever the path beneath, its spelling and
// the method.
func TestOneCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		defer store.Close()
		h := handler(t, store, 409)
		for i := range 10 {
			path := []string{"/api/spaces/bookings", "/API/Spaces/Bookings/7", "/api/spaces/bookings/"}[i%3]
			method := []string{"GET", "POST", "OPTIONS"}[i%3]
			require.Equal(t, 200, send(h, method, path, "me").Code)
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, 409, send(h, "PUT", "/api/spaces/bookings", "me").Code)
		require.Equal(t, 200, send(h, "PUT", "/api/spaces/bookings", "another").Code)
		require.Equal(t, 200, send(h, "GET", "/api/spaces/resources", "me").Code)
		require.Equal(t, 200, send(h, "GET", "/api/spaces/bookings", "").Code, "an IP is another client")
	})
}

// Business is limited by nothing, public by the rows of modifying methods alone.
func TestExcluded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		defer store.Close()
		h := handler(t, store, 409)
		for range 300 {
			require.Equal(t, 200, send(h, "POST", "/api/business/1", "me").Code)
			require.Equal(t, 200, send(h, "GET", "/api/public/1", "me").Code)
		}
		for range 60 {
			require.Equal(t, 200, send(h, "POST", "/api/public/1", "me").Code)
		}
		require.Equal(t, 409, send(h, "POST", "/api/public/1", "me").Code)
		require.Equal(t, 200, send(h, "GET", "/api/public/1", "me").Code)
	})
}

func TestEcho(t *testing.T) {
	h := handler(t, memstore.New(memstore.Options{}), 409)
	w := send(h, "DELETE", "/API/Anything/At%20all", "me")
	require.Equal(t, 200, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.JSONEq(t, `{"method":"DELETE","path":"/API/Anything/At all"}`, w.Body.String())
	require.Equal(t, 404, send(h, "GET", "/elsewhere", "you").Code)
}

// A preflight is answered and not counted.
func TestPreflight(t *testing.T) {
	h := handler(t, memstore.New(memstore.Options{}), 409)
	for range 10 {
		r := httptest.NewRequest("OPTIONS", "/api/sys/AuditTrailEntries", nil)
		r.Header.Set("Origin", "https://example.com")
		r.Header.Set("Access-Control-Request-Method", "GET")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, 204, w.Code)
		require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
		require.Contains(t, w.Header().Get("Access-Control-Allow-Headers"), "Authorization")
	}
	require.Equal(t, 200, send(h, "GET", "/api/sys/AuditTrailEntries", "").Code)
}

func TestBadStatus(t *testing.T) {
	_, err := routes(nil, 418)
	require.ErrorContains(t, err, "Status 418")
}

func TestOnRedis(t *testing.T) {
	srv := redistest.Start(t)
	store := redisstore.New(srv.Client(t))
	defer store.Close()
	h := handler(t, store, 409)
	require.Equal(t, 200, send(h, "GET", "/api/sys/users/resetPassword", "me").Code)
	for i := range 11 {
		w := send(h, "POST", "/api/public/checkin", "me")
		require.Equal(t, 200, w.Code, i)
	}
	require.Equal(t, 200, send(h, "GET", "/api/x/bigquery/pushall", "her").Code)
	w := send(h, "GET", "/api/y/BigQuery/PushAll", "her")
	require.Equal(t, 409, w.Code)
	require.Equal(t, "720", w.Header().Get("Retry-After"))
}
