package middleware

import (
	"net/http"

	"github.com/stint-go/stint/policy"
)

// Met returns the names of the rules that a request meets.
func (l *Limiter) Met(r *http.Request) []string {
	p := l.newPass(r, nil)
	defer p.free()
	names := []string{}
	for _, rule := range p.met(l) {
		names = append(names, rule.Name)
	}
	return names
}

// Matching returns a function that counts the rules that a request meets.
func (l *Limiter) Matching() func(*http.Request) int {
	p := l.newPass(nil, nil)
	return func(r *http.Request) int {
		p.request = r
		return len(p.met(l))
	}
}

// Work counts the segments that matching a request looks at, and for
// how many nodes at once it makes room.
func (l *Limiter) Work(r *http.Request) (segments, nodes int) {
	p := &pass{request: r}
	p.met(l)
	return int(p.matching.steps), max(cap(p.matching.at), cap(p.matching.next))
}

// ForgetWarnings lets the process warn again of what it warns of once.
func ForgetWarnings() { warnedOfForwarding.Store(false) }

// Quiet waits for what goes on behind requests.
func (l *Limiter) Quiet() { l.health.errands.Wait() }

// Memory returns the store that counts while the Limiter's is away, or nil.
func (l *Limiter) Memory() policy.Store {
	if l.local == nil {
		return nil
	}
	return l.local.store
}

// Remembered tells whether there is a memory in the place of a store.
func Remembered(store policy.Store) bool {
	memories.Lock()
	defer memories.Unlock()
	return memories.by[store] != nil
}
