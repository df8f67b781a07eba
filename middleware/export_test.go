package middleware

import "net/http"

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

// Matches is Met without its result, for benchmarks: how many rules those are.
func (l *Limiter) Matches(r *http.Request) int {
	p := l.newPass(r, nil)
	defer p.free()
	return len(p.met(l))
}
