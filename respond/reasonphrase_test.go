package respond_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/felixge/httpsnoop"
	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

const phrase = "You must wait before accessing this url again."

var legacy = respond.Style{
	Status:       http.StatusConflict,
	ReasonPhrase: phrase,
	Fields:       []respond.FieldWriter{},
	Refusal:      respond.Empty,
	Header:       http.Header{"Cache-Control": {"no-cache"}, "Pragma": {"no-cache"}, "Expires": {"-1"}},
}

// refusing refuses everything but /ok, which says whence the request came.
var refusing http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/ok" {
		fmt.Fprint(w, r.RemoteAddr, " ", r.TLS != nil)
		return
	}
	style := legacy
	if r.URL.Path == "/text" {
		style.Refusal = respond.Text
	}
	style.Refuse(w, r, report(refused(policy.TokenBucket(1, time.Second), 1)))
})

// serveOne starts a server of one's own settings.
func serveOne(t *testing.T, h http.Handler, change func(*http.Server)) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(respond.ReasonPhrases(h))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	if change != nil {
		change(srv.Config)
	}
	srv.Start()
	t.Cleanup(func() {
		_ = srv.Config.Close()
		srv.Close()
	})
	return srv
}

// fetch makes a request.
func fetch(t *testing.T, client *http.Client, method, url string, body io.Reader) (resp *http.Response, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	require.NoError(t, err)
	resp, err = client.Do(req)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp, string(b)
}

func TestReasonPhrase(t *testing.T) {
	t.Parallel()
	srv := serveOne(t, refusing, nil)
	for _, method := range []string{"GET", "HEAD", "POST", "DELETE"} {
		resp, body := fetch(t, srv.Client(), method, srv.URL, nil)
		assert.Equal(t, "409 "+phrase, resp.Status, method)
		assert.Equal(t, "HTTP/1.1", resp.Proto)
		assert.Empty(t, body)
		_, err := http.ParseTime(resp.Header.Get("Date"))
		require.NoError(t, err)
		resp.Header.Del("Date")
		assert.Equal(t, http.Header{
			"Cache-Control": {"no-cache"}, "Pragma": {"no-cache"}, "Expires": {"-1"},
			"Retry-After": {"1"}, "Content-Length": {"0"},
		}, resp.Header)
	}
	resp, body := fetch(t, srv.Client(), "GET", srv.URL+"/text", nil)
	assert.Equal(t, "409 "+phrase, resp.Status)
	assert.Equal(t, "Over the limit of 1 per second. Retry in 1 second.\n", body)
	head, none := fetch(t, srv.Client(), "HEAD", srv.URL+"/text", nil)
	assert.Empty(t, none)
	assert.Equal(t, resp.ContentLength, head.ContentLength)
}

func TestReasonPhraseByCurl(t *testing.T) {
	t.Parallel()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip(err)
	}
	srv := serveOne(t, refusing, nil)
	out, err := exec.CommandContext(t.Context(), curl, "-sv", srv.URL, srv.URL+"/text", srv.URL+"/ok").CombinedOutput()
	require.NoError(t, err)
	assert.Equal(t, 2, strings.Count(string(out), "< HTTP/1.1 409 "+phrase+"\r\n"))
	assert.Contains(t, string(out), "< HTTP/1.1 200 OK\r\n")
	assert.Equal(t, 2, strings.Count(string(out), "Re-using existing connection"), "%s", out)
}

// A connection goes on after refusals: in the clear and with TLS, whose state the
// next handlers see, and with what was sent ahead of the answers.
func TestReasonPhraseKeepsTheConnection(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewUnstartedServer(respond.ReasonPhrases(refusing))
			dial := func() (net.Conn, error) { return net.Dial("tcp", srv.Listener.Addr().String()) }
			if secure {
				srv.StartTLS()
				dial = func() (net.Conn, error) {
					return tls.Dial("tcp", srv.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
				}
			} else {
				srv.Start()
			}
			defer srv.Close()
			defer srv.Config.Close()

			conn, err := dial()
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
			answers := bufio.NewReader(conn)
			const request = "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n%04d"
			status := map[string]string{"/": "409 " + phrase, "/text": "409 " + phrase, "/ok": "200 OK"}
			answer := func(path string) string {
				resp, err := http.ReadResponse(answers, nil)
				require.NoError(t, err)
				text, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Equal(t, status[path], resp.Status)
				return string(text)
			}
			// Each request after the answer to the one before.
			for i := range 30 {
				for _, path := range []string{"/", "/ok"} {
					_, err = fmt.Fprintf(conn, request, path, i)
					require.NoError(t, err)
					if said := answer(path); path == "/ok" {
						require.Equal(t, conn.LocalAddr().String()+" "+fmt.Sprint(secure), said)
					}
				}
			}

			// 300 requests at once, which is more than the server's buffer holds.
			path := func(i int) string { return []string{"/", "/ok", "/text"}[i%3] }
			go func() {
				for i := range 300 {
					_, _ = fmt.Fprintf(conn, request, path(i), i)
				}
			}()
			for i := range 300 {
				answer(path(i))
			}
		})
	}
}

// What net/http forgives between two requests is forgiven after a refusal too: the
// empty lines that old clients send behind a POST, and a few bytes at the very end.
func TestReasonPhraseForgivesWhatComesBetween(t *testing.T) {
	t.Parallel()
	for sent, statuses := range map[string][]int{
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n": {409, 200},
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n":                            {409, 400},
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET":                                                                {409},
	} {
		for _, h := range []http.Handler{refusing, respond.ReasonPhrases(refusing)} {
			var got []int
			for _, a := range listenRaw(t, h).exchange(t, []byte(sent), len(sent)) {
				got = append(got, a.status)
			}
			assert.Equal(t, statuses, got, sent)
		}
	}
}

// A server that wants its connections to end ends them with its own responses.
func TestReasonPhraseWithoutKeepAlives(t *testing.T) {
	t.Parallel()
	srv := serveOne(t, refusing, nil)
	srv.Config.SetKeepAlivesEnabled(false)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	answers := bufio.NewReader(conn)
	for _, path := range []string{"/", "/", "/ok"} {
		_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
		require.NoError(t, err)
		resp, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		assert.Equal(t, path == "/ok", resp.Close)
	}
	_, err = answers.ReadByte()
	assert.Equal(t, io.EOF, err)
}

// The phrase is left out where it has no place, and nothing else is.
func TestReasonPhraseIsLeftOut(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, resp *http.Response) {
		t.Helper()
		assert.Equal(t, http.StatusConflict, resp.StatusCode)
		assert.NotContains(t, resp.Status, phrase)
		assert.Equal(t, "1", resp.Header.Get("Retry-After"))
		assert.Equal(t, "no-cache", resp.Header.Get("Cache-Control"))
	}
	t.Run("HTTP/2", func(t *testing.T) {
		srv := httptest.NewUnstartedServer(respond.ReasonPhrases(refusing))
		srv.EnableHTTP2 = true
		srv.StartTLS()
		defer srv.Close()
		resp, _ := fetch(t, srv.Client(), "GET", srv.URL, nil)
		check(t, resp)
		assert.Equal(t, 2, resp.ProtoMajor)
	})
	t.Run("HTTP/1.0", func(t *testing.T) {
		srv := serveOne(t, refusing, nil)
		resp := raw(t, srv, "GET / HTTP/1.0\r\n\r\n")
		check(t, resp)
		assert.Equal(t, "409 Conflict", resp.Status)
	})
	t.Run("recorder", func(t *testing.T) {
		w := httptest.NewRecorder()
		respond.ReasonPhrases(refusing).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		check(t, w.Result())
	})
	t.Run("no handler", func(t *testing.T) {
		srv := httptest.NewServer(refusing)
		defer srv.Close()
		resp, _ := fetch(t, srv.Client(), "GET", srv.URL, nil)
		check(t, resp)
	})
	t.Run("TimeoutHandler", func(t *testing.T) {
		srv := serveOne(t, http.TimeoutHandler(refusing, time.Minute, ""), nil)
		resp, _ := fetch(t, srv.Client(), "GET", srv.URL, nil)
		check(t, resp)
	})
	t.Run("a wrapper outside", func(t *testing.T) {
		var status int
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			status = httpsnoop.CaptureMetrics(respond.ReasonPhrases(refusing), w, r).Code
		}))
		defer srv.Close()
		resp, _ := fetch(t, srv.Client(), "GET", srv.URL, nil)
		check(t, resp)
		assert.Equal(t, http.StatusConflict, status)
	})
	t.Run("another status", func(t *testing.T) {
		srv := serveOne(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			legacy.Refuse(w, r, &respond.Report{Denial: respond.Deny(respond.StoreUnavailable, nil)})
		}), nil)
		resp, _ := fetch(t, srv.Client(), "GET", srv.URL, nil)
		assert.Equal(t, "503 Service Unavailable", resp.Status)
	})
	t.Run("a status of another's", func(t *testing.T) {
		srv := serveOne(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			legacy.Refuse(w, r, nil)
		}), nil)
		resp, _ := fetch(t, srv.Client(), "GET", srv.URL, nil)
		assert.Equal(t, "202 Accepted", resp.Status)
	})
	t.Run("not validated", func(t *testing.T) {
		srv := serveOne(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			style := respond.Style{Status: 409, ReasonPhrase: "a\r\nSet-Cookie: b"}
			style.Refuse(w, r, nil)
		}), nil)
		resp, _ := fetch(t, srv.Client(), "GET", srv.URL, nil)
		assert.Equal(t, "409 Conflict", resp.Status)
		assert.NotContains(t, resp.Header, "Set-Cookie")
	})
	t.Run("a BaseContext that panics on other listeners", func(t *testing.T) {
		var said bytes.Buffer
		srv := serveOne(t, refusing, func(s *http.Server) {
			s.ErrorLog = log.New(&said, "", 0)
			s.BaseContext = func(l net.Listener) context.Context { return context.WithValue(t.Context(), l.(*net.TCPListener), 0) }
		})
		for range 2 {
			resp, _ := fetch(t, srv.Client(), "GET", srv.URL, nil)
			check(t, resp)
		}
		assert.Equal(t, 2, strings.Count(said.String(), "hook of the http.Server panicked"))
	})
}

// raw sends a request as it is written, and reads the answer, after which the
// connection must end.
func raw(t *testing.T, srv *httptest.Server, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Empty(t, rest)
	return resp
}

// Where the connection ends with the refusal, the refusal says so.
func TestReasonPhraseSaysThatTheConnectionEnds(t *testing.T) {
	t.Parallel()
	type key struct{}
	for name, tc := range map[string]struct {
		handler http.Handler
		field   string
		change  func(*http.Server)
	}{
		"the client asks": {refusing, "Connection: close\r\n", nil},
		"a handler asks": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			refusing.ServeHTTP(w, r)
		}), "", nil},
		"ConnContext": {refusing, "", func(s *http.Server) {
			s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
				return context.WithValue(ctx, key{}, c.(*net.TCPConn))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := serveOne(t, tc.handler, tc.change)
			resp := raw(t, srv, "GET / HTTP/1.1\r\nHost: a\r\n"+tc.field+"\r\n")
			assert.Equal(t, "409 "+phrase, resp.Status)
			assert.True(t, resp.Close)
		})
	}
}

// A body that the client has sent does not stand in the way; one that is still to
// come is net/http's to deal with, and its client gets the status all the same.
func TestReasonPhraseAndBodies(t *testing.T) {
	t.Parallel()
	srv := serveOne(t, refusing, nil)
	small := strings.Repeat("x", 1<<20)
	for name, body := range map[string]io.Reader{
		"of a length": strings.NewReader(small), "in chunks": io.MultiReader(strings.NewReader(small)),
	} {
		for range 3 {
			resp, _ := fetch(t, srv.Client(), "POST", srv.URL, body)
			assert.Equal(t, "409 "+phrase, resp.Status, name)
			assert.False(t, resp.Close)
		}
	}
	resp, _ := fetch(t, srv.Client(), "POST", srv.URL, io.MultiReader(strings.NewReader(small+"x")))
	assert.Equal(t, "409 Conflict", resp.Status, "one byte more, in chunks")
	resp = raw(t, srv, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
	assert.Equal(t, "409 Conflict", resp.Status, "the client waits")

	readAll := serveOne(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		refusing.ServeHTTP(w, r)
	}), nil)
	resp, _ = fetch(t, readAll.Client(), "POST", readAll.URL, strings.NewReader(small))
	assert.Equal(t, "409 "+phrase, resp.Status, "a handler has read it")
}

func TestRefusedUploadsGetTheirStatus(t *testing.T) {
	t.Parallel()
	srv := serveOne(t, refusing, nil)
	body := strings.Repeat("x", 1<<20)
	const clients, each = 20, 50
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range each {
				resp, err := srv.Client().Post(srv.URL, "text/plain", strings.NewReader(body))
				if !assert.NoError(t, err) {
					return
				}
				assert.Equal(t, "409 "+phrase, resp.Status)
				assert.NoError(t, resp.Body.Close())
			}
		})
	}
	wg.Wait()
}

// What stands between sees the refusal as any other response, and what it adds is
// sent.
func TestReasonPhraseIsSeenByMiddlewares(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	var snooped httpsnoop.Metrics
	r := chi.NewRouter()
	r.Use(chimiddleware.RequestLogger(&chimiddleware.DefaultLogFormatter{Logger: log.New(&logged, "", 0), NoColor: true}))
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { snooped = httpsnoop.CaptureMetrics(next, w, r) })
	})
	r.Use(chimiddleware.Compress(5, "text/plain"))
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(httpsnoop.Wrap(w, httpsnoop.Hooks{WriteHeader: func(f httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
				return func(code int) {
					w.Header().Set("X-Late", "seen")
					f(code)
				}
			}}), r)
		})
	})
	r.Handle("/*", refusing)
	srv := serveOne(t, r, nil)
	resp, text := fetch(t, srv.Client(), "GET", srv.URL+"/text", nil)
	assert.Equal(t, "409 "+phrase, resp.Status)
	assert.Equal(t, "Over the limit of 1 per second. Retry in 1 second.\n", text)
	assert.True(t, resp.Uncompressed, "it was compressed on its way")
	assert.Equal(t, "seen", resp.Header.Get("X-Late"))
	assert.Contains(t, logged.String(), " - 409 ")
	assert.Equal(t, http.StatusConflict, snooped.Code)
	assert.Positive(t, snooped.Written)
}

// What is no refusal goes through as it is: files, streams, hijacked connections.
func TestReasonPhrasesHandsOnTheRest(t *testing.T) {
	t.Parallel()
	r := http.NewServeMux()
	r.HandleFunc("/early", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		legacy.Refuse(w, nil, nil)
	})
	r.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
		c := http.NewResponseController(w)
		assert.NoError(t, c.EnableFullDuplex())
		assert.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Minute)))
		_, _ = io.WriteString(w, "a")
		assert.NoError(t, c.Flush())
		_, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader("b"))
	})
	r.HandleFunc("/hijack", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if assert.NoError(t, err) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 Mine\r\nContent-Length: 0\r\n\r\n")
			_ = conn.Close()
		}
	})
	srv := serveOne(t, r, nil)
	resp, _ := fetch(t, srv.Client(), "GET", srv.URL+"/early", nil)
	assert.Equal(t, "409 "+phrase, resp.Status)
	_, text := fetch(t, srv.Client(), "GET", srv.URL+"/stream", nil)
	assert.Equal(t, "ab", text)
	resp, _ = fetch(t, srv.Client(), "GET", srv.URL+"/hijack", nil)
	assert.Equal(t, "200 Mine", resp.Status)
}

// Shutdown waits while a refusal is being written: here its client is slow to
// read it. It does not wait for a connection that is idle after one.
func TestShutdownWaitsForReasonPhrases(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	pipes := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: respond.ReasonPhrases(refusing)}
	served := make(chan error)
	go func() { served <- server.Serve(pipes) }()

	idle := pipes.dial()
	_, _ = io.WriteString(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(idle), nil)
	require.NoError(t, err)
	require.Equal(t, "409 "+phrase, resp.Status)

	slow := pipes.dial()
	_, _ = io.WriteString(slow, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	one := make([]byte, 1)
	_, err = slow.Read(one) // the response is being written now
	require.NoError(t, err)

	over := make(chan error)
	go func() { over <- server.Shutdown(context.Background()) }()
	require.ErrorIs(t, <-served, http.ErrServerClosed)
	_, err = idle.Read(one)
	require.Equal(t, io.EOF, err, "the idle connection was closed")
	select {
	case <-over:
		t.Fatal("Shutdown did not wait")
	case <-time.After(50 * time.Millisecond):
	}
	rest, err := io.ReadAll(slow)
	require.NoError(t, err)
	require.Contains(t, string(one)+string(rest), "Retry-After: 1\r\n")
	require.True(t, bytes.HasSuffix(rest, []byte("\r\n\r\n")))
	start := time.Now()
	require.NoError(t, <-over)
	require.Less(t, time.Since(start), 3*time.Second, "as for idle connections, not for new ones")
}

// A refusal that comes while the server shuts down is sent, without the phrase.
func TestReasonPhraseDuringShutdown(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	srv := serveOne(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		refusing.ServeHTTP(w, r)
	}), nil)
	over := make(chan error)
	srv.Config.RegisterOnShutdown(func() { close(leave) })
	go func() {
		<-entered
		over <- srv.Config.Shutdown(context.Background())
	}()
	resp := raw(t, srv, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	assert.Equal(t, "409 Conflict", resp.Status)
	assert.True(t, resp.Close)
	require.NoError(t, <-over)
}

// A connection that is idle after a refusal ends as the server says.
func TestReasonPhraseIdleTimeout(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*http.Server){
		"IdleTimeout": func(s *http.Server) { s.IdleTimeout = 500 * time.Millisecond },
		"ReadTimeout": func(s *http.Server) { s.ReadTimeout = 500 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp := raw(t, serveOne(t, refusing, change), "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			assert.Equal(t, "409 "+phrase, resp.Status)
			assert.False(t, resp.Close)
		})
	}
}

func TestReasonPhraseIsValidated(t *testing.T) {
	t.Parallel()
	for phrase, want := range map[string]string{
		"":                       "",
		phrase:                   "",
		"a\r\nb":                 "respond: ReasonPhrase \"a\\r\\nb\": write printable ASCII",
		"caf\u00e9":              "respond: ReasonPhrase \"café\": write printable ASCII",
		" a":                     "respond: ReasonPhrase: write it without space around it",
		strings.Repeat("a", 201): "respond: ReasonPhrase of 201 bytes: write at most 200",
	} {
		style := respond.Style{ReasonPhrase: phrase}
		if err := style.Validate(); want == "" {
			assert.NoError(t, err)
		} else {
			assert.EqualError(t, err, want)
		}
	}
}

// A pipeListener's connections have no buffer: a write ends when it is read.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	l.conns <- server
	return client
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// The price of a refusal with a phrase, beside one without.
func BenchmarkReasonPhrase(b *testing.B) {
	for name, handler := range map[string]http.Handler{"with": respond.ReasonPhrases(refusing), "without": refusing} {
		b.Run(name, func(b *testing.B) {
			srv := httptest.NewServer(handler)
			defer srv.Close()
			defer srv.Config.Close()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					resp, err := srv.Client().Get(srv.URL)
					if err != nil {
						b.Error(err)
						return
					}
					_ = resp.Body.Close()
				}
			})
		})
	}
}
