package middleware

import (
	"math/bits"
	"net"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
)

// A matching is the memory of a matcher at work. It is used again for other
// requests, and by other matchers.
type matching struct {
	rules []*rule // the result
	path  reading

	at, next []int32  // nodes that the segments so far have led to
	steps    uint64   // counts segments, and never begins anew
	seen     []uint64 // at which step each loop was last entered

	// Sets of rules: those that some reading includes; those that all readings
	// exclude; and those that this one does, as it is, and where it ends in a slash,
	// with it and without it.
	on, except, anyway, slashed, bare []uint64
	sets                              []uint64 // the memory of these
	begun                             bool     // there was a reading
}

// met returns the rules that the request meets.
func (p *pass) met(l *Limiter) []*rule {
	if l.matcher == nil {
		return l.rules
	}
	return l.matcher.match(&p.matching, p.request)
}

func (m *matcher) match(w *matching, r *http.Request) []*rule {
	w.begin(m)
	m.read(w, r, r.URL.Path, false)
	raw := r.URL.Path
	if r.URL.RawPath != "" {
		raw = r.URL.RawPath
		m.read(w, r, raw, false)
		m.read(w, r, raw, true)
	}
	if rctx := chi.RouteContext(r.Context()); rctx != nil {
		if path, other := w.path.chiPath(rctx, r.URL.Path, raw); other {
			m.read(w, r, path, false)
		}
	}
	return w.end(m)
}

// read matches all readings of one spelling of the path.
func (m *matcher) read(w *matching, r *http.Request, path string, decode bool) {
	how := m.how()
	w.path.read(path, decode, how, m.literals)
	m.readMethods(w, r)
	if w.path.contest && m.excepts {
		w.path.read(path, decode, surely, m.literals)
		m.readMethods(w, r)
	}
	if path == "" || path[0] != '/' {
		clear(w.except) // routers differ on what this is
	}
}

// readMethods matches what was read, by the request's method and by what its
// client would have in its place.
func (m *matcher) readMethods(w *matching, r *http.Request) {
	host, other := m.host(r)
	m.readPaths(w, methodOf(r.Method), host, other)
	if m.override == "" {
		return
	}
	for _, name := range r.Header[m.override] {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		set := methodOf(name)
		m.readPaths(w, set, host, other)
		if set == unknownMethod { // some read it in any case
			if set = methodOf(strings.ToUpper(name)); set != unknownMethod {
				m.readPaths(w, set, host, other)
			}
		}
	}
}

// host returns the root of the patterns for the request's host, and another one
// if there are routers that do not take it for that host.
func (m *matcher) host(r *http.Request) (root, other int32) {
	if m.hosts == nil {
		return 0, 0
	}
	sent := r.Host
	if strings.IndexByte(sent, ':') >= 0 {
		if host, _, err := net.SplitHostPort(sent); err == nil {
			sent = host
		}
	}
	root = m.hosts[plainHost(sent)]
	if sent != plainHost(sent) || r.Method == http.MethodConnect && sent != r.Host {
		return root, 0 // http.ServeMux compares byte by byte, and with the port of a CONNECT
	}
	return root, root
}

// plainHost returns a host in the one form that its names have.
func plainHost(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// deepestMount is for how many segments a path that climbs (..) is read as leading
// to a handler that is mounted there. It bounds what such a path costs.
const deepestMount = 16

// readPaths matches a path as it was sent and as it is when cleaned: as a whole,
// or beneath a point where a handler is mounted that cleans its part.
func (m *matcher) readPaths(w *matching, method methodSet, host, other int32) {
	g := &w.path
	w.visits(m, method, host, other)
	if g.unclean < 0 {
		return
	}
	sent, slash := g.segments, g.slash
	cleaned, climbed := g.clean(0)
	for mount := 0; ; cleaned, _ = g.clean(mount) {
		g.segments, g.slash = cleaned, slash || len(cleaned) == mount
		w.visits(m, method, host, other)
		g.segments, g.slash = sent, slash
		if mount = max(mount+1, climbed); mount > min(g.unclean, climbed+deepestMount) {
			return
		}
	}
}

func (w *matching) begin(m *matcher) {
	n := len(m.always)
	if cap(w.sets) < 5*n {
		w.sets = make([]uint64, 5*n)
	}
	sets := w.sets[:5*n]
	w.on, w.except, w.anyway, w.slashed, w.bare = sets[:n], sets[n:2*n], sets[2*n:3*n], sets[3*n:4*n], sets[4*n:]
	copy(w.on, m.always)
	clear(w.except)
	w.begun = false
	if len(w.seen) < m.loops+1 {
		w.seen = append(w.seen, make([]uint64, m.loops+1-len(w.seen))...)
	}
}

// end returns the rules that are included, and not excluded.
func (w *matching) end(m *matcher) []*rule {
	w.rules = w.rules[:0]
	for i, on := range w.on {
		for set := on &^ w.except[i]; set != 0; set &= set - 1 {
			w.rules = append(w.rules, m.rules[i*64+bits.TrailingZeros64(set)])
		}
	}
	return w.rules
}

func (w *matching) visits(m *matcher, method methodSet, host, other int32) {
	w.visit(m, method, host)
	if other != host {
		w.visit(m, method, other)
	}
}

// visit walks the tree by the segments of a reading.
func (w *matching) visit(m *matcher, method methodSet, host int32) {
	if m.excepts {
		clear(w.anyway)
		clear(w.slashed)
		clear(w.bare)
	}
	g := &w.path
	w.steps++
	w.at = w.enter(m, method, w.at[:0], 0)
	if host != 0 {
		w.at = w.enter(m, method, w.at, host)
	}
	last := len(g.segments) - 1
	for i := 0; i <= last && len(w.at) > 0; i++ {
		segment := g.segments[i]
		if i == last && g.slash && segment.empty() { // "//": one slash is left without the last
			w.mark(m, method, atSlash, w.bare)
		}
		w.steps++
		w.next = w.next[:0]
		for _, at := range w.at {
			n := &m.nodes[at]
			if n.loop != 0 {
				w.next = w.enter(m, method, w.next, at)
			}
			if n.single != 0 {
				w.next = w.enter(m, method, w.next, n.single)
			}
			if segment.literal != 0 && len(n.edges) > 0 {
				if child := n.follow(segment.literal); child != 0 {
					w.next = w.enter(m, method, w.next, child)
				}
			}
		}
		w.at, w.next = w.next, w.at
	}
	if g.slash {
		w.mark(m, method, atSlash, w.slashed)
	}
	if !g.slash || last >= 0 && !g.segments[last].empty() {
		w.mark(m, method, atPath, w.bare)
	}
	if m.excepts {
		w.exclude(last >= 0)
	}
	w.begun = true
}

// enter adds a node, and what is behind it at no distance.
func (w *matching) enter(m *matcher, method methodSet, nodes []int32, at int32) []int32 {
	n := &m.nodes[at]
	if n.loop != 0 {
		if w.seen[n.loop] == w.steps {
			return nodes
		}
		w.seen[n.loop] = w.steps
	}
	nodes = append(nodes, at)
	if len(n.ends[beneath]) > 0 {
		w.apply(n.ends[beneath], method, w.anyway)
	}
	if n.several != 0 {
		nodes = w.enter(m, method, nodes, n.several)
	}
	return nodes
}

// mark takes the patterns that end here.
func (w *matching) mark(m *matcher, method methodSet, how end, excluded []uint64) {
	for _, at := range w.at {
		if marks := m.nodes[at].ends[how]; len(marks) > 0 {
			w.apply(marks, method, excluded)
		}
	}
}

func (w *matching) apply(marks []mark, method methodSet, excluded []uint64) {
	for i := range marks {
		k := &marks[i]
		if k.methods&method == 0 {
			continue
		}
		set := w.on
		if k.except {
			set = excluded
		}
		for _, r := range k.rules {
			set[r/64] |= 1 << (r % 64)
		}
	}
}

// exclude takes what the reading excludes: with its last slash and, where it has
// one and is not the slash alone, also without.
func (w *matching) exclude(deep bool) {
	for i := range w.except {
		set := w.anyway[i]
		switch {
		case !w.path.slash:
			set |= w.bare[i]
		case deep:
			set |= w.bare[i] & w.slashed[i]
		default:
			set |= w.slashed[i]
		}
		if w.begun {
			set &= w.except[i]
		}
		w.except[i] = set
	}
}

// free forgets the request, and gives up what an odd one made large.
func (w *matching) free() {
	clear(w.rules)
	if cap(w.path.bytes) > 8<<10 || cap(w.path.segments) > 1<<10 {
		w.path = reading{}
	}
}
