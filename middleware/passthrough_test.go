package middleware_test

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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

// The writer that a handler gets is the one that the server gave.
func TestTheWriterIsNotWrapped(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	chain := ratelimit.PerKey(apiKey, policy.PerMinute(10))(ratelimit.PerIP(policy.PerMinute(10))(
		http.HandlerFunc(func(got http.ResponseWriter, _ *http.Request) {
			assert.Same(t, w, got)
		})))
	chain.ServeHTTP(w, request("/", "a"))
	assert.Equal(t, "9", w.Header().Get("X-RateLimit-Remaining"))
}

// server serves h behind two stacked limits.
func server(t *testing.T, h http.HandlerFunc, http2 bool) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(
		ratelimit.PerKey(apiKey, policy.PerMinute(100))(ratelimit.PerIP(policy.PerMinute(200))(h)))
	s.EnableHTTP2 = http2
	if http2 {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func send(t *testing.T, s *httptest.Server) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL, nil)
	require.NoError(t, err)
	r.Header.Set("X-API-Key", "a")
	response, err := s.Client().Do(r)
	require.NoError(t, err)
	return response
}

func TestServersFeaturesReachTheHandler(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			s := server(t, func(w http.ResponseWriter, r *http.Request) {
				_, flusher := w.(http.Flusher)
				_, hijacker := w.(http.Hijacker)
				_, pusher := w.(http.Pusher)
				_, reader := w.(io.ReaderFrom)
				assert.True(t, flusher)
				assert.Equal(t, r.ProtoMajor == 1, hijacker)
				assert.Equal(t, r.ProtoMajor == 1, reader)
				assert.Equal(t, r.ProtoMajor == 2, pusher)
				assert.NoError(t, http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)))
				w.WriteHeader(http.StatusEarlyHints)
				w.WriteHeader(http.StatusTeapot)
			}, proto == "HTTP/2.0")
			response := send(t, s)
			defer response.Body.Close()
			assert.Equal(t, proto, response.Proto)
			assert.Equal(t, http.StatusTeapot, response.StatusCode)
			assert.Equal(t, "99", response.Header.Get("X-RateLimit-Remaining"))
		})
	}
}

func TestServerSentEvents(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			t.Parallel()
			read := make(chan struct{})
			s := server(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for i := range 3 {
					_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
					w.(http.Flusher).Flush()
					<-read // the next event is written only after this one was read
				}
			}, http2)
			response := send(t, s)
			defer response.Body.Close()
			lines := bufio.NewScanner(response.Body)
			for i := range 3 {
				require.True(t, lines.Scan())
				assert.Equal(t, fmt.Sprintf("data: %d", i), lines.Text())
				lines.Scan()
				read <- struct{}{}
			}
		})
	}
}

// An upgrade, as of a WebSocket, takes the connection over.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		conn, buf, err := w.(http.Hijacker).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-RateLimit-Remaining: %s\r\n\r\n",
			w.Header().Get("X-RateLimit-Remaining"))
		_ = buf.Flush()
		line, _ := buf.ReadString('\n')
		_, _ = buf.WriteString(strings.ToUpper(line))
		_ = buf.Flush()
	}, false)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello\n")
	require.NoError(t, err)
	buf := bufio.NewReader(conn)
	response, err := http.ReadResponse(buf, nil)
	require.NoError(t, err)
	defer response.Body.Close()
	assert.Equal(t, 101, response.StatusCode)
	assert.Equal(t, "99", response.Header.Get("X-RateLimit-Remaining"))
	line, err := buf.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "HELLO\n", line)
}

// A handler's panic goes through, and the request stays counted.
func TestPanicInTheHandler(t *testing.T) {
	t.Parallel()
	store := newSpy()
	l := rated(t, store, "api", policy.PerHour(10))
	for _, value := range []any{"boom", http.ErrAbortHandler} {
		h := l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(value) }))
		assert.PanicsWithValue(t, value, func() { get(h, "/", "a") })
	}
	assert.EqualValues(t, 2, used(t, store, "api", "per_key", hashed("a"), policy.PerHour(10)))
	assert.Equal(t, 200, get(l.Handler(http.HandlerFunc(ok)), "/", "a").Code)
}

// A handler may run in another goroutine, and outlive the request.
func TestTimeoutHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSpy()
		limit := policy.PerHour(10)
		release, done := make(chan struct{}), make(chan struct{})
		inner := rated(t, store, "inner", limit).Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			defer close(done)
			<-release
			assert.NoError(t, ratelimit.SetCost(r.Context(), "per_key", 4))
		}))
		h := rated(t, store, "outer", limit).Handler(http.TimeoutHandler(inner, time.Second, "late"))
		assert.Equal(t, 503, get(h, "/", "a").Code)
		close(release)
		<-done
		synctest.Wait()
		assert.EqualValues(t, 4, used(t, store, "inner", "per_key", hashed("a"), limit))
		assert.EqualValues(t, 4, used(t, store, "outer", "per_key", hashed("a"), limit))
	})
}
