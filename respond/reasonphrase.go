package respond

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ReasonPhrases returns next as a handler that says the [Style.ReasonPhrase] of
// refusals: net/http itself has no way to. Put it around all else, loggers too:
//
//	server := &http.Server{Handler: respond.ReasonPhrases(router)}
//
// A refusal is held until the handler has returned. Its connection is then
// hijacked, the response written to it, and the connection handed back to the
// server, which serves its next request. What stands inside sees an ordinary
// response: a logger its status, and what others add to header and body is sent.
//
// The phrase is left out, and all else is as ever, where there is none or it
// would do harm: in HTTP/2 and HTTP/1.0; while the server shuts down; where the
// client still sends a body, which is one of more than 1 MiB, or waits for 100
// Continue; in tests with a recorder; inside of http.TimeoutHandler and of
// whatever else has a response writer without Unwrap; and where another
// handler's response writer is between this one and the server. A smaller body
// that no handler has read is read first, for ten seconds at most or the server's
// ReadTimeout.
//
// What a refusal with a phrase does to its connection:
//
//   - It stays open for further requests, those that were sent ahead too, unless
//     the client or a handler asked for Connection: close, or the server has a
//     ConnContext, to which no connection is shown twice: then the response says
//     Connection: close.
//   - The server's IdleTimeout and, for the next request, all its time-outs hold.
//     The response has five seconds, or the server's WriteTimeout if that is less.
//   - [http.Server.Shutdown] waits until the response has been written, whatever
//     its context says, and then closes the connection. Close does so too.
//   - ConnState hears of it as hijacked, and as new when the next request comes.
//     BaseContext is called again. The next request has its TLS, but a handler
//     that hijacks gets a net.Conn of another type.
//   - After SetKeepAlivesEnabled(false) it is still kept: what ends it is the next
//     response without a phrase, the IdleTimeout, or Shutdown.
//
// Clients are told by RFC 9112 to ignore the phrase, and proxies drop it: say
// nothing in it that is nowhere else.
func ReasonPhrases(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		server, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
		own, ok := w.(serverWriter)
		if _, wrapped := w.(unwrapper); !ok || wrapped || server == nil || r.ProtoMajor != 1 || r.ProtoMinor < 1 {
			next.ServeHTTP(w, r)
			return
		}
		p := &phraseWriter{serverWriter: own, server: server, request: r, body: r.Body, closes: r.Close}
		next.ServeHTTP(p, r)
		if p.held {
			p.finish()
		}
	})
}

// checkPhrase returns an error unless the phrase may stand in a status line.
func checkPhrase(phrase string) error {
	const longest = 200
	switch {
	case len(phrase) > longest:
		return fmt.Errorf("respond: ReasonPhrase of %d bytes: write at most %d", len(phrase), longest)
	case strings.TrimSpace(phrase) != phrase:
		return errors.New("respond: ReasonPhrase: write it without space around it")
	}
	for i := range len(phrase) {
		if printable(phrase[i]) != phrase[i] {
			return fmt.Errorf("respond: ReasonPhrase %q: write printable ASCII", phrase)
		}
	}
	return nil
}

// announcePhrase tells the handler of ReasonPhrases, if there is one, what to say
// with a status that is about to be written.
func announcePhrase(w http.ResponseWriter, status int, phrase string) {
	if checkPhrase(phrase) != nil {
		return
	}
	for {
		switch v := w.(type) {
		case *phraseWriter:
			v.phrase, v.phraseStatus = phrase, status
			return
		case unwrapper:
			w = v.Unwrap()
		default:
			return
		}
	}
}

type unwrapper interface{ Unwrap() http.ResponseWriter }

// A serverWriter does all that net/http's own writers of HTTP/1 do.
type serverWriter interface {
	http.ResponseWriter
	http.Flusher
	http.Hijacker
	io.ReaderFrom
	io.StringWriter
	CloseNotify() <-chan bool
	EnableFullDuplex() error
	FlushError() error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// A phraseWriter hands on all that a handler writes, but for a response with a
// phrase, which it holds.
type phraseWriter struct {
	serverWriter
	server  *http.Server
	request *http.Request
	body    io.Reader // the request's, as the server made it
	closes  bool      // the client wants the connection to end

	phrase       string
	phraseStatus int

	begun  bool // another response has
	held   bool
	header http.Header
	text   []byte
}

func (w *phraseWriter) WriteHeader(status int) {
	switch {
	case w.held:
	case !w.begun && w.phrase != "" && status == w.phraseStatus:
		w.held, w.header = true, w.Header().Clone()
	default:
		w.begun = w.begun || status >= 200 || status == http.StatusSwitchingProtocols
		w.serverWriter.WriteHeader(status)
	}
}

func (w *phraseWriter) Write(p []byte) (int, error) {
	if w.held {
		w.text = append(w.text, p...)
		return len(p), nil
	}
	w.begun = true
	return w.serverWriter.Write(p)
}

func (w *phraseWriter) WriteString(s string) (int, error) {
	if w.held {
		w.text = append(w.text, s...)
		return len(s), nil
	}
	w.begun = true
	return w.serverWriter.WriteString(s)
}

func (w *phraseWriter) ReadFrom(r io.Reader) (int64, error) {
	if w.held {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	w.begun = true
	return w.serverWriter.ReadFrom(r)
}

func (w *phraseWriter) Flush() { _ = w.FlushError() }

func (w *phraseWriter) FlushError() error {
	if w.held {
		return nil
	}
	w.begun = true
	return w.serverWriter.FlushError()
}

// finish sends what was held.
func (w *phraseWriter) finish() {
	if w.drained() && w.say() {
		if form := w.request.MultipartForm; form != nil {
			_ = form.RemoveAll() // as net/http does after other responses
		}
		return
	}
	h := w.Header()
	clear(h)
	maps.Copy(h, w.header)
	w.serverWriter.WriteHeader(w.phraseStatus)
	if len(w.text) > 0 {
		_, _ = w.serverWriter.Write(w.text)
	}
}

// drained reads what is left of the request's body, so that a client that sends
// all before it reads gets its answer. That is bounded, in bytes and in time. It
// is false if there may be more, which net/http deals with in its own way.
func (w *phraseWriter) drained() bool {
	const most, longest = 1 << 20, 10 * time.Second
	switch {
	case w.body == nil, w.body == http.NoBody:
		return true
	case w.request.ContentLength > most, len(w.request.Header["Expect"]) > 0:
		return false
	}
	if w.server.ReadTimeout <= 0 {
		_ = w.SetReadDeadline(time.Now().Add(longest))
	}
	_, err := io.CopyN(io.Discard, w.body, most+1)
	return err == io.EOF
}

// say sends the response with its phrase. It is false if nothing was sent.
func (w *phraseWriter) say() bool {
	addr, _ := w.request.Context().Value(http.LocalAddrContextKey).(net.Addr)
	back := handBack(w.server, addr)
	if back == nil {
		return false
	}
	conn, buffered, err := w.Hijack()
	if err != nil {
		back.drop()
		return false
	}
	closes := w.closes || w.server.ConnContext != nil || listHas(strings.Join(w.header["Connection"], ","), "close")
	response := w.response(closes)
	_ = conn.SetWriteDeadline(time.Now().Add(writeTime(w.server)))
	if _, err := conn.Write(response); err != nil || closes {
		_ = conn.Close()
		back.drop()
		return true
	}
	_ = conn.SetWriteDeadline(time.Time{})
	back.take(conn, buffered.Reader, w.request.Method)
	return true
}

// response returns the response as it is sent.
func (w *phraseWriter) response(closes bool) []byte {
	h := w.header
	if closes {
		h["Connection"] = []string{"close"}
	}
	if w.request.Method != http.MethodHead {
		h["Content-Length"] = []string{strconv.Itoa(len(w.text))}
		if len(w.text) > 0 && len(h["Content-Type"]) == 0 && len(h["Content-Encoding"]) == 0 {
			h["Content-Type"] = []string{http.DetectContentType(w.text)}
		}
	} else {
		w.text = nil
	}
	if _, ok := h["Date"]; !ok {
		h["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)}
	}
	exclude := map[string]bool{"Transfer-Encoding": true, "Trailer": true}
	for name := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			exclude[name] = true
		}
	}
	b := bytes.NewBuffer(make([]byte, 0, 512+len(w.text)))
	fmt.Fprintf(b, "HTTP/1.1 %d %s\r\n", w.phraseStatus, w.phrase)
	_ = h.WriteSubset(b, exclude)
	b.WriteString("\r\n")
	b.Write(w.text)
	return b.Bytes()
}

// writeTime returns how long a response may take. Shutdown waits for it, whatever
// its context says, so that it is never without an end.
func writeTime(s *http.Server) time.Duration {
	const most = 5 * time.Second
	if s.WriteTimeout > 0 {
		return min(s.WriteTimeout, most)
	}
	return most
}
