package middleware

import (
	"cmp"
	"fmt"
	"math/bits"
	"net/http"
	"slices"

	"github.com/stint-go/stint/policy"
)

// A matcher finds the rules that a request meets, by their On and Except. All
// patterns of all rules are one tree over the segments of paths: a request walks
// it once for each reading of its path, however many rules there are.
type matcher struct {
	rules    []*rule
	always   []uint64 // a bit for each rule without On
	excepts  bool     // some rule has Except
	fold     bool
	override string           // header field for another method
	literals map[string]int32 // numbers, from 1, of those in all patterns
	nodes    []node           // the first is the root for every host
	hosts    map[string]int32
	loops    int // nodes behind {name...}
}

// A node is where one beginning of patterns leads to.
type node struct {
	edges   []edge // behind literals, in the order of their numbers
	single  int32  // behind {name}; 0 is none
	several int32  // behind {name...}; 0 is none
	loop    int32  // of one behind {name...}: its number, from 1
	ends    [endsCount][]mark
}

type edge struct{ literal, to int32 }

// follow returns where a literal leads to, or 0.
func (n *node) follow(literal int32) int32 {
	edges := n.edges
	for len(edges) > 4 {
		half := len(edges) / 2
		if edges[half].literal <= literal {
			edges = edges[half:]
		} else {
			edges = edges[:half]
		}
	}
	for i := range edges {
		if edges[i].literal == literal {
			return edges[i].to
		}
	}
	return 0
}

// A mark is which rules have a pattern that ends at a node.
type mark struct {
	methods methodSet
	except  bool
	rules   []int
}

// newMatcher returns the matcher of the rules, or nil if all meet every request.
func newMatcher(l *Limiter) (*matcher, error) {
	m := &matcher{
		rules:    l.rules,
		always:   make([]uint64, (len(l.rules)+63)/64),
		fold:     l.foldCase,
		override: l.methodOverride,
		literals: make(map[string]int32),
		nodes:    make([]node, 1),
	}
	narrow := false
	for i, r := range l.rules {
		if len(r.on) == 0 {
			m.always[i/64] |= 1 << (i % 64)
		}
		for _, p := range r.on {
			m.add(i, p, false)
			narrow = true
		}
		for _, p := range r.except {
			m.add(i, p, true)
			narrow, m.excepts = true, true
		}
	}
	if err := m.checkCharges(); err != nil {
		return nil, err
	}
	if !narrow {
		return nil, nil //nolint:nilnil // nothing to match
	}
	return m, nil
}

func (m *matcher) add(rule int, p pattern, except bool) {
	at := int32(0)
	if p.host != "" {
		if m.hosts == nil {
			m.hosts = make(map[string]int32)
		}
		if m.hosts[p.host] == 0 {
			m.hosts[p.host] = m.node()
		}
		at = m.hosts[p.host]
	}
	for _, s := range p.steps {
		at = m.child(at, s)
	}
	marks := &m.nodes[at].ends[p.end]
	i := slices.IndexFunc(*marks, func(k mark) bool { return k.methods == p.methods && k.except == except })
	if i < 0 {
		i = len(*marks)
		*marks = append(*marks, mark{methods: p.methods, except: except})
	}
	(*marks)[i].rules = append((*marks)[i].rules, rule)
}

func (m *matcher) node() int32 {
	m.nodes = append(m.nodes, node{})
	return int32(len(m.nodes) - 1) //nolint:gosec // there are not that many patterns
}

// child returns where a step leads to from a node.
func (m *matcher) child(at int32, s step) int32 {
	n := &m.nodes[at]
	switch s.kind {
	case single:
		if n.single == 0 {
			child := m.node()
			m.nodes[at].single = child
		}
		return m.nodes[at].single
	case several:
		if n.several == 0 {
			child := m.node()
			m.loops++
			m.nodes[child].loop = int32(m.loops) //nolint:gosec // as many as nodes at most
			m.nodes[at].several = child
		}
		return m.nodes[at].several
	}
	number := m.literals[s.text]
	if number == 0 {
		number = int32(len(m.literals) + 1) //nolint:gosec // as many as nodes at most
		m.literals[s.text] = number
	}
	child := n.follow(number)
	if child == 0 {
		i, _ := slices.BinarySearchFunc(n.edges, number, func(e edge, number int32) int { return cmp.Compare(e.literal, number) })
		child = m.node()
		n = &m.nodes[at]
		n.edges = slices.Insert(n.edges, i, edge{number, child})
	}
	return child
}

// checkCharges refuses rules that no request could meet together. It asks what a
// request of each pattern meets, and one of no pattern; others that meet more are
// refused when they come.
func (m *matcher) checkCharges() error {
	var w matching
	check := func(method, host, path string) error {
		n := 0
		w.begin(m)
		w.path.read(path, false, m.how(), m.literals)
		w.visit(m, methodOf(method), m.hosts[host])
		for _, r := range w.end(m) {
			n += max(1, len(r.Limits))
		}
		if n > policy.MaxCharges {
			return fmt.Errorf("ratelimit: %d limits in one request, such as %s %s%s: write at most %d", n, method, host, path, policy.MaxCharges)
		}
		return nil
	}
	if err := check(http.MethodGet, "", "/-/-/-"); err != nil {
		return err
	}
	for _, r := range m.rules {
		for _, p := range r.on {
			if err := check(p.sample()); err != nil {
				return err
			}
		}
	}
	return nil
}

// sample returns a request that the pattern matches.
func (p *pattern) sample() (method, host, path string) {
	for _, s := range p.steps {
		switch s.kind {
		case literal:
			path += "/" + s.text
		case single:
			path += "/-"
		}
	}
	if p.end != atPath {
		path += "/"
	}
	return methodNames[bits.TrailingZeros16(uint16(p.methods))], p.host, path
}

func (m *matcher) how() fold {
	if m.fold {
		return widely
	}
	return notFolded
}
