package respond_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/textproto"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// FuzzReasonPhrases sends the same bytes to a server with ReasonPhrases and to one
// without. But for the phrase both give the same answers, one after the other: to
// what was sent ahead, to bodies that nobody reads, and to what is no HTTP. The
// connection ends in time, and nothing that served it is left.
func FuzzReasonPhrases(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\nHEAD /text HTTP/1.1\r\nHost: a\r\n\r\nGET /text HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /text HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbodyGET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3\r\nabc\r\n0\r\nX: 1\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbodyGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /read HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbodyGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00",
		"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGARBAGE\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody", "GET /early HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		f.Add([]byte(seed), uint16(0))
		f.Add([]byte(seed), uint16(len(seed)*2/3))
	}
	plain := listenRaw(f, echoing)
	phrased := listenRaw(f, respond.ReasonPhrases(echoing))
	f.Fuzz(func(t *testing.T, sent []byte, split uint16) {
		if len(sent) > 64<<10 {
			t.Skip("a body that net/http does not read to its end is another matter")
		}
		goroutines := runtime.NumGoroutine()
		want, got := plain.exchange(t, sent, int(split)), phrased.exchange(t, sent, int(split))
		for i := range got {
			if a := &got[i]; a.phrase == phrase {
				require.Equal(t, http.StatusConflict, a.status)
				a.phrase = http.StatusText(a.status)
			}
		}
		require.Equal(t, want, got, "%q", sent)
		for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines; time.Sleep(100 * time.Microsecond) {
			if time.Now().After(end) {
				stacks := make([]byte, 1<<20)
				t.Fatalf("%q leaves goroutines:\n%s", sent, stacks[:runtime.Stack(stacks, true)])
			}
		}
	})
}

// echoing says which request it answers. Paths tell it what to do.
var echoing = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Method", r.Method)
	w.Header().Set("X-Target", strconv.Quote(r.URL.Path))
	style := legacy
	switch r.URL.Path {
	case "/ok":
		fmt.Fprintf(w, "%s %q", r.Method, r.URL)
		return
	case "/read":
		body, err := io.ReadAll(r.Body)
		w.Header().Set("X-Body", fmt.Sprintf("%q %t", body, err == nil))
	case "/early":
		w.WriteHeader(http.StatusEarlyHints)
	case "/text":
		style.Refusal = respond.Text
	}
	style.Refuse(w, r, report(refused(policy.TokenBucket(1, time.Second), 1)))
})

// A rawServer serves whoever connects to its socket, and hears what its server
// complains of.
type rawServer struct {
	path string

	mu  sync.Mutex
	log bytes.Buffer
}

func (s *rawServer) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(line)
}

func listenRaw(tb testing.TB, h http.Handler) *rawServer {
	tb.Helper()
	s := &rawServer{path: filepath.Join(tb.TempDir(), "s")}
	listener, err := net.Listen("unix", s.path)
	require.NoError(tb, err)
	server := &http.Server{Handler: h, ErrorLog: log.New(s, "", 0)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	tb.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return s
}

// A rawAnswer is what a client can tell of a response.
type rawAnswer struct {
	status                       int
	phrase                       string
	method, target, body, header string
}

// exchange sends bytes, in two parts, and nothing more, and reads all answers.
func (s *rawServer) exchange(t *testing.T, sent []byte, split int) (answers []rawAnswer) {
	t.Helper()
	dialled, err := net.Dial("unix", s.path)
	require.NoError(t, err)
	conn := dialled.(*net.UnixConn)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	var writer sync.WaitGroup
	writer.Go(func() {
		split = min(split, len(sent))
		_, err := conn.Write(sent[:split])
		if err == nil {
			runtime.Gosched()
			_, err = conn.Write(sent[split:])
		}
		if err == nil {
			_ = conn.CloseWrite()
		}
	})
	all, err := io.ReadAll(conn)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		t.Fatalf("%q: no end after %q", sent, all)
	}
	writer.Wait()
	s.mu.Lock()
	complaints := s.log.String()
	s.log.Reset()
	s.mu.Unlock()
	require.NotContains(t, complaints, "panic")

	r := bufio.NewReader(bytes.NewReader(all))
	for {
		line, err := textproto.NewReader(r).ReadLine()
		if err == io.EOF && line == "" {
			return answers
		}
		require.NoError(t, err, "%q", all)
		header, err := textproto.NewReader(r).ReadMIMEHeader()
		require.NoError(t, err, "%q", all)
		a := rawAnswer{method: header.Get("X-Method"), target: header.Get("X-Target"), header: header.Get("X-Body") + header.Get("Retry-After") + header.Get("Content-Type") + header.Get("Content-Length")}
		fields := strings.SplitN(line, " ", 3)
		require.Len(t, fields, 3, "%q", all)
		a.status, err = strconv.Atoi(fields[1])
		require.NoError(t, err)
		a.phrase = fields[2]
		switch length := header.Get("Content-Length"); {
		case a.method == "HEAD", a.status < 200:
		case length != "":
			n, err := strconv.Atoi(length)
			require.NoError(t, err)
			body := make([]byte, n)
			_, err = io.ReadFull(r, body)
			require.NoError(t, err, "%q", all)
			a.body = string(body)
		default: // an error of the server's own: it is the last
			body, err := io.ReadAll(r)
			require.NoError(t, err)
			a.body = string(body)
		}
		answers = append(answers, a)
	}
}
