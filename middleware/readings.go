package middleware

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
)

// A reading is a path as one router or another takes it: the segments between
// its slashes. Its buffers serve for one reading after the other.
type reading struct {
	bytes    []byte
	segments []segment
	slash    bool // there is one behind the last segment
	unclean  int  // the first segment that cleaning removes, or -1
	contest  bool // folding: routers differ on a letter

	cleaned []segment
	spare   []byte
}

// A segment is a range of the reading's bytes.
type segment struct {
	from, to int
	literal  int32 // its number in the patterns; 0 if none has it
}

func (s segment) empty() bool { return s.from == s.to }

// A fold is how letters are told apart.
type fold uint8

const (
	notFolded fold = iota
	widely         // as the most generous router does
	surely         // as all do
)

// read takes a path, which may lack the slash that it should begin with.
func (g *reading) read(path string, decode bool, how fold, literals map[string]int32) {
	g.bytes, g.segments, g.unclean, g.contest = g.bytes[:0], g.segments[:0], -1, false
	path = strings.TrimPrefix(path, "/")
	g.slash = path == "" || path[len(path)-1] == '/'
	if path == "" {
		return
	}
	path = strings.TrimSuffix(path, "/")
	for more := true; more; {
		var s string
		s, path, more = strings.Cut(path, "/")
		from := len(g.bytes)
		if decode {
			g.bytes = appendDecoded(g.bytes, s)
		} else {
			g.bytes = append(g.bytes, s...)
		}
		if how != notFolded {
			g.fold(from, how)
		}
		b := g.bytes[from:]
		if g.unclean < 0 && removed(b) {
			g.unclean = len(g.segments)
		}
		g.segments = append(g.segments, segment{from, len(g.bytes), literals[string(b)]})
	}
}

func (g *reading) of(s segment) []byte { return g.bytes[s.from:s.to] }

// fold folds the last bytes.
func (g *reading) fold(from int, how fold) {
	for i, c := range g.bytes[from:] {
		switch {
		case c >= utf8.RuneSelf:
			i += from
			g.spare = append(g.spare[:0], g.bytes[i:]...)
			g.contest = g.contest || contested(g.spare)
			g.bytes = appendFolded(g.bytes[:i], g.spare, how)
			return
		case 'A' <= c && c <= 'Z':
			g.bytes[from+i] = c + 'a' - 'A'
		}
	}
}

// clean returns the segments that path.Clean would leave, where the first ones, as
// many as mounted, have led to a handler that cleans what is left to it. Climbed is
// the fewest that were left at any point: where a handler is mounted higher than
// that, it makes no difference.
func (g *reading) clean(mounted int) (cleaned []segment, climbed int) {
	g.cleaned = append(g.cleaned[:0], g.segments[:mounted]...)
	climbed = g.unclean
	for _, s := range g.segments[mounted:] {
		switch b := g.of(s); {
		case !removed(b):
			g.cleaned = append(g.cleaned, s)
		case len(b) == 2 && len(g.cleaned) > mounted:
			g.cleaned = g.cleaned[:len(g.cleaned)-1]
			climbed = min(climbed, len(g.cleaned))
		}
	}
	return g.cleaned, climbed
}

func removed(segment []byte) bool {
	switch len(segment) {
	case 0:
		return true
	case 1:
		return segment[0] == '.'
	case 2:
		return segment[0] == '.' && segment[1] == '.'
	}
	return false
}

// chiPath returns the path that chi routes by, if it may be another than the
// URL's, because a middleware has changed it for chi alone.
func (g *reading) chiPath(rctx *chi.Context, urlPath, rawPath string) (path string, other bool) {
	if len(rctx.RoutePatterns) == 0 {
		path = rctx.RoutePath
		return path, path != "" && path != urlPath && path != rawPath
	}
	g.spare, _ = appendTakenPath(g.spare[:0], rctx)
	taken := withoutSlash(g.spare) // chi takes a mounted router's path with and without it
	if string(taken) == strings.TrimSuffix(urlPath, "/") || string(taken) == strings.TrimSuffix(rawPath, "/") {
		return "", false
	}
	return string(g.spare), true
}

func withoutSlash(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '/' {
		return b[:n-1]
	}
	return b
}

// appendDecoded appends a segment without its escapes. What is none stays.
func appendDecoded(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, low := unhex(s[i+1]), unhex(s[i+2])
			if high >= 0 && low >= 0 {
				b = append(b, byte(high<<4|low)) //nolint:gosec // two digits of hex
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return b
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// appendFolded appends a string with one letter for all cases of a letter.
func appendFolded(b, s []byte, how fold) []byte {
	for len(s) > 0 {
		r, size := utf8.DecodeRune(s)
		if r == utf8.RuneError && size == 1 || how == surely && disputed(r) {
			b = append(b, s[:size]...)
		} else {
			b = utf8.AppendRune(b, folded(r))
		}
		s = s[size:]
	}
	return b
}

func folded(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }

// disputed tells whether it depends on how a router folds which letter this is:
// the Kelvin sign is a k to some, and the dotless i of Turkish an i.
func disputed(r rune) bool {
	f := folded(r)
	return r >= utf8.RuneSelf && (f < utf8.RuneSelf || unicode.ToLower(r) != f || unicode.ToUpper(r) != unicode.ToUpper(f))
}

func contested(b []byte) bool {
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if disputed(r) {
			return true
		}
		b = b[size:]
	}
	return false
}
