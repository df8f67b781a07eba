package redistest

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Proxy stands between clients and an address, and can delay, hold, lose, spoil,
// cut and count what passes. Its methods may be called at any time, by anybody.
type Proxy struct {
	listener net.Listener
	target   string
	pumps    sync.WaitGroup

	delay      atomic.Int64 // each way
	conns      atomic.Int64
	roundTrips atomic.Int64
	sent       atomic.Int64
	received   atomic.Int64

	harm harm

	mu       sync.Mutex
	closed   bool
	open     map[*link]struct{}
	requests *gate
	replies  *gate
}

// Traffic is what has passed a Proxy.
type Traffic struct {
	// Connections is how many connections were opened.
	Connections int64

	// RoundTrips is how often a connection's traffic turned from sending to
	// receiving: how often a client that waits for each reply has waited.
	// Requests that a client sends before the reply to the first has come are
	// one round trip with it.
	RoundTrips int64

	// Sent and Received are bytes to and from the target.
	Sent, Received int64
}

// StartProxy starts a proxy in front of an address. It ends with the test.
func StartProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		tb.Fatalf("redistest: proxy: %v", err)
	}
	p := &Proxy{
		listener: l, target: target, open: map[*link]struct{}{},
		requests: newGate(), replies: newGate(),
	}
	p.pumps.Go(p.accept)
	tb.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		_ = l.Close()
		p.Cut()
		p.pumps.Wait()
	})
	return p
}

// Addr returns the address that clients dial.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// SetDelay delays from now on what passes, by d each way: a round trip takes 2d
// longer. Order is kept, and what already waits keeps its delay. 0 is none.
func (p *Proxy) SetDelay(d time.Duration) { p.delay.Store(int64(d)) }

// Freeze holds back everything, both ways, as a network does that is down for a
// while: connections stay open, and new ones are accepted. What was held passes after
// Thaw.
func (p *Proxy) Freeze() {
	p.requests.shut()
	p.replies.shut()
}

// FreezeReplies holds back replies alone: requests reach the target, and their
// replies come late (Thaw) or never (Cut).
func (p *Proxy) FreezeReplies() { p.replies.shut() }

// Thaw ends Freeze and FreezeReplies.
func (p *Proxy) Thaw() {
	p.requests.raise()
	p.replies.raise()
}

// Cut closes all connections there are, and drops what they held. New ones are
// accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.close()
	}
}

// Open returns how many connections there are now.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

// Traffic returns what has passed since the start. A request counts when the
// proxy hands it on, a reply when it arrives at the proxy.
func (p *Proxy) Traffic() Traffic {
	return Traffic{
		Connections: p.conns.Load(),
		RoundTrips:  p.roundTrips.Load(),
		Sent:        p.sent.Load(),
		Received:    p.received.Load(),
	}
}

// Since returns what has passed since the earlier traffic.
func (t Traffic) Since(earlier Traffic) Traffic {
	return Traffic{
		Connections: t.Connections - earlier.Connections,
		RoundTrips:  t.RoundTrips - earlier.RoundTrips,
		Sent:        t.Sent - earlier.Sent,
		Received:    t.Received - earlier.Received,
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.pumps.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	const patience = 5 * time.Second
	c := &link{client: client, done: make(chan struct{})}
	if p.harm.hole.Load() {
		c.server = nowhere()
		c.harmed.Store(true)
	} else {
		server, err := net.DialTimeout("tcp", p.target, patience)
		if err != nil {
			_ = client.Close()
			return
		}
		c.server = server
	}
	server := c.server
	p.mu.Lock()
	switch {
	case p.closed:
		c.close()
	case p.harm.reset.Load():
		c.reset()
	case c.harmed.Load() && !p.harm.hole.Load():
		c.close() // the hole was healed meanwhile, and Heal has not seen this one
	}
	p.open[c] = struct{}{}
	p.mu.Unlock()
	p.conns.Add(1)

	var pumps sync.WaitGroup
	pumps.Go(func() {
		p.pump(c, client, server, p.requests, nil, func(data []byte) ([]byte, bool) {
			data = p.harm.request(c, data)
			if len(data) > 0 {
				p.sent.Add(int64(len(data)))
				c.asked.Store(true)
			}
			return data, false
		})
	})
	pumps.Go(func() {
		p.pump(c, server, client, p.replies, func(n int) {
			p.received.Add(int64(n))
			if c.asked.Swap(false) {
				p.roundTrips.Add(1)
			}
		}, func(data []byte) ([]byte, bool) { return p.harm.reply(c, data) })
	})
	pumps.Wait()

	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
}

// A chunk is what was read at once, and when it is due at the other side.
type chunk struct {
	data []byte
	due  time.Time
}

// pump moves what one side sends to the other, in order, until either closes. What
// leaves is what leaving makes of it, which also tells whether it is the last.
func (p *Proxy) pump(c *link, from, to net.Conn, g *gate, arrived func(n int), leaving func([]byte) (left []byte, last bool)) {
	const (
		queue  = 4096
		buffer = 64 << 10
	)
	chunks := make(chan chunk, queue)
	var writer sync.WaitGroup
	writer.Go(func() {
		defer c.close()
		for k := range chunks {
			if !c.sleep(time.Until(k.due)) || !c.pass(g) {
				return
			}
			data, last := leaving(k.data)
			if len(data) > 0 {
				if _, err := to.Write(data); err != nil {
					return
				}
			}
			if last {
				return
			}
		}
	})
	for buf := make([]byte, buffer); ; {
		n, err := from.Read(buf)
		if n > 0 {
			if arrived != nil {
				arrived(n)
			}
			k := chunk{append([]byte(nil), buf[:n]...), time.Now().Add(time.Duration(p.delay.Load()))}
			select {
			case chunks <- k:
			case <-c.done:
			}
		}
		if err != nil {
			break
		}
	}
	close(chunks)
	writer.Wait()
}

// A link is a client's connection and its other half, to the target.
type link struct {
	client, server net.Conn
	asked          atomic.Bool // a request went out and no reply has come since
	harmed         atomic.Bool // something of it was lost
	replied        int64       // bytes that came while replies were spoilt
	once           sync.Once
	done           chan struct{}
}

func (c *link) close() {
	c.once.Do(func() {
		close(c.done)
		_ = c.client.Close()
		_ = c.server.Close()
	})
}

// sleep waits for d, and returns false if the link was closed meanwhile.
func (c *link) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.done:
		return false
	}
}

// pass waits until the gate is open, and returns false if the link was closed
// meanwhile.
func (c *link) pass(g *gate) bool {
	select {
	case <-g.opened():
		return true
	case <-c.done:
		return false
	}
}

// A gate lets everybody pass, or nobody.
type gate struct {
	mu     sync.Mutex
	isOpen bool
	open   chan struct{} // closed while the gate is open
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	g.raise()
	return g
}

func (g *gate) opened() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen {
		g.isOpen, g.open = false, make(chan struct{})
	}
}

func (g *gate) raise() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.isOpen {
		g.isOpen = true
		close(g.open)
	}
}
