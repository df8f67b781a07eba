package respond

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// A handback gives a hijacked connection back to the server that it is from. It
// is a listener of that server, whose one connection is accepted when its next
// request comes: until then the server knows of the listener, and waits for it
// when it shuts down.
//
// There is one before the connection is hijacked, so that Shutdown always sees
// one of the two.
type handback struct {
	server    *http.Server
	addr      net.Addr
	listening chan struct{} // closed by the first Accept
	ended     chan struct{} // closed when the server is done with the listener
	settled   chan struct{} // closed by take or drop
	accepted  bool          // there was an Accept: they come one after the other

	mu      sync.Mutex
	conn    net.Conn      // nil if there is none to give back
	buffer  *bufio.Reader // what was read of it
	posted  bool          // the request before was a POST
	waiting bool          // for the next request
	closed  bool          // by the server: it shuts down, or is done
}

// handBack begins to give back a connection of the server. It returns nil if the
// server takes none any more. It must be followed by take or drop.
func handBack(server *http.Server, addr net.Addr) *handback {
	h := &handback{server: server, addr: addr, listening: make(chan struct{}), ended: make(chan struct{}), settled: make(chan struct{})}
	go h.serve()
	select {
	case <-h.listening:
		return h
	case <-h.ended:
		return nil
	}
}

// serve has the server listen. A hook of the server, such as a BaseContext, that
// panics on a listener it does not know must not end the program.
func (h *handback) serve() {
	defer close(h.ended)
	defer func() {
		fault := recover()
		if fault == nil {
			return
		}
		logf := log.Printf
		if h.server.ErrorLog != nil {
			logf = h.server.ErrorLog.Printf
		}
		logf("respond: a hook of the http.Server panicked on a connection that was handed back: %v", fault)
		if h.conn != nil {
			_ = h.conn.Close()
		}
	}()
	_ = h.server.Serve(h)
}

// take gives back the connection, after a request of the method.
func (h *handback) take(conn net.Conn, buffer *bufio.Reader, method string) {
	h.mu.Lock()
	h.conn, h.buffer, h.posted = conn, buffer, method == http.MethodPost
	h.mu.Unlock()
	close(h.settled)
}

// drop gives back nothing.
func (h *handback) drop() { close(h.settled) }

// Accept returns the connection once, when its next request begins to arrive.
func (h *handback) Accept() (net.Conn, error) {
	if h.accepted {
		return nil, io.EOF
	}
	h.accepted = true
	close(h.listening)
	<-h.settled
	if !h.wait() {
		return nil, io.EOF
	}
	// The server waits for as much between the requests of its own connections.
	const some = 4
	ahead, err := h.buffer.Peek(some)
	if !h.goOn(err) {
		_ = h.conn.Close()
		return nil, io.EOF
	}
	if h.posted { // the server forgives empty lines after such a request
		_, _ = h.buffer.Discard(len(ahead) - len(bytes.TrimLeft(ahead, "\r\n")))
	}
	return resume(h.conn, h.buffer), nil
}

// wait begins to wait for the next request, as long as the server says.
func (h *handback) wait() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		return false
	}
	h.waiting = true
	var deadline time.Time
	switch {
	case h.closed:
		deadline = past
	case h.server.IdleTimeout > 0:
		deadline = time.Now().Add(h.server.IdleTimeout)
	case h.server.IdleTimeout == 0 && h.server.ReadTimeout > 0:
		deadline = time.Now().Add(h.server.ReadTimeout)
	}
	_ = h.conn.SetReadDeadline(deadline)
	return true
}

// goOn ends the wait, and tells whether the connection is to be served.
func (h *handback) goOn(err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = false
	_ = h.conn.SetReadDeadline(time.Time{})
	return err == nil && !h.closed
}

// Close ends the wait. The server calls it with a lock that it needs.
func (h *handback) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.waiting {
		_ = h.conn.SetReadDeadline(past)
	}
	return nil
}

func (h *handback) Addr() net.Addr { return h.addr }

var past = time.Unix(1, 0)

// resume returns the connection with what was read of it before it.
func resume(conn net.Conn, buffer *bufio.Reader) net.Conn {
	for {
		before, ok := conn.(interface{ drained() (net.Conn, bool) })
		if !ok {
			break
		}
		inner, drained := before.drained()
		if !drained {
			break
		}
		conn = inner
	}
	r := resumed{Conn: conn, buffer: buffer}
	if secure, ok := conn.(connectionStater); ok {
		return &resumedTLS{r, secure}
	}
	return &r
}

type connectionStater interface{ ConnectionState() tls.ConnectionState }

// A resumed connection is one that was handed back.
type resumed struct {
	net.Conn
	buffer *bufio.Reader // nil when all of it has been read
}

func (c *resumed) Read(p []byte) (int, error) {
	if c.buffer != nil {
		if n := min(c.buffer.Buffered(), len(p)); n > 0 || len(p) == 0 {
			return c.buffer.Read(p[:n])
		}
		c.buffer = nil
	}
	return c.Conn.Read(p)
}

// ReadFrom lets files be sent as over the connection within.
func (c *resumed) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// CloseWrite lets the server close as it closes the connection within.
func (c *resumed) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return nil
}

// drained returns the connection within, and whether nothing is before it.
func (c *resumed) drained() (net.Conn, bool) {
	return c.Conn, c.buffer == nil || c.buffer.Buffered() == 0
}

// resumedTLS is resumed for what net/http takes the state of TLS from.
type resumedTLS struct {
	resumed
	connectionStater
}
