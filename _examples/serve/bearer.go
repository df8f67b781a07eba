package serve

import (
	"net/http"
	"net/textproto"
	"strings"
)

// BearerToken returns the token that the request's Authorization field has under
// the Bearer scheme, as ratelimit.Bearer reads it. It is false if the field is
// not there exactly once, has another scheme, or if the token is not visible
// ASCII: what is let in has to be what is counted.
func BearerToken(r *http.Request) (string, bool) {
	value, ok := OneField(r, "Authorization")
	if !ok {
		return "", false
	}
	scheme, token, _ := strings.Cut(value, " ")
	token = textproto.TrimString(token)
	return token, strings.EqualFold(scheme, "Bearer") && isVisible(token)
}

// OneField returns the value of a header field, without the spaces around it. It
// is false if the field is not there exactly once.
func OneField(r *http.Request, name string) (string, bool) {
	lines := r.Header.Values(name)
	if len(lines) != 1 {
		return "", false
	}
	return textproto.TrimString(lines[0]), true
}

// isVisible tells whether there is anything, and nothing but visible ASCII.
func isVisible(s string) bool {
	return s != "" && strings.IndexFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }) < 0
}
