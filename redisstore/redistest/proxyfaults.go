package redistest

import (
	"net"
	"sync/atomic"
)

// What a network does to traffic, until Heal. The zero harm does none.
type harm struct {
	loseRequests, loseReplies atomic.Bool
	hole                      atomic.Bool
	reset                     atomic.Bool
	truncate                  atomic.Int64 // bytes of a reply that pass, plus one
	corrupt                   atomic.Int64 // one in so many bytes is wrong
}

// DropRequests loses what clients send from now on: it reaches nobody, and nobody is
// told. Connections stay open.
func (p *Proxy) DropRequests() { p.harm.loseRequests.Store(true) }

// DropReplies loses what the target sends from now on: requests are carried out, and
// their replies never come, Heal or not.
func (p *Proxy) DropReplies() { p.harm.loseReplies.Store(true) }

// BlackHole loses everything, both ways. New connections are accepted, whether or not
// there is a target, and hear nothing either.
func (p *Proxy) BlackHole() {
	p.harm.hole.Store(true)
	p.DropRequests()
	p.DropReplies()
}

// Truncate lets no more than n bytes of what the target sends at once pass, and never
// all of it, and closes the connection then: requests are carried out, and their
// replies end in the middle.
func (p *Proxy) Truncate(n int) { p.harm.truncate.Store(int64(n) + 1) }

// Reset answers with a TCP reset, as a host does that knows nothing of a
// connection: it ends those there are, and each new one once it is made.
func (p *Proxy) Reset() {
	p.harm.reset.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.reset()
	}
}

// Corrupt turns one in n bytes of what the target sends into another one, beginning
// with the first: by 1 all of them. Requests arrive as they were sent.
func (p *Proxy) Corrupt(n int) { p.harm.corrupt.Store(int64(max(n, 1))) }

// Heal ends all faults of the network, delays and frozen traffic too. Connections that
// lost something are closed, since no network goes on with a stream that has a hole.
func (p *Proxy) Heal() {
	p.harm.loseRequests.Store(false)
	p.harm.loseReplies.Store(false)
	p.harm.hole.Store(false)
	p.harm.reset.Store(false)
	p.harm.truncate.Store(0)
	p.harm.corrupt.Store(0)
	p.SetDelay(0)
	p.mu.Lock()
	for c := range p.open {
		if c.harmed.Load() {
			c.close()
		}
	}
	p.mu.Unlock()
	p.Thaw()
}

// nowhere is the target's side of a connection into a black hole.
func nowhere() net.Conn {
	near, _ := net.Pipe()
	return near
}

// request returns what is left of a request.
func (h *harm) request(c *link, data []byte) []byte {
	if h.loseRequests.Load() {
		c.harmed.Store(true)
		return nil
	}
	return data
}

// reply returns what is left of a reply, and whether the connection ends with it.
func (h *harm) reply(c *link, data []byte) (left []byte, last bool) {
	if h.loseReplies.Load() {
		c.harmed.Store(true)
		return nil, false
	}
	if n := h.corrupt.Load(); n > 0 {
		c.harmed.Store(true)
		for i := range data {
			if c.replied%n == 0 {
				data[i] ^= 1 << (c.replied / n % 8)
			}
			c.replied++
		}
	}
	if n := h.truncate.Load(); n > 0 {
		return data[:min(int(n)-1, len(data)-1)], true
	}
	return data, false
}

// reset closes the link with a TCP reset to the client.
func (c *link) reset() {
	if tcp, ok := c.client.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.close()
}
