package middleware_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// The naive matcher holds the compiled one to what the documentation says: it
// takes one pattern and one reading at a time, and backtracks.

// A naivePattern is a pattern in its parts.
type naivePattern struct {
	methods []string
	host    string
	steps   []string // literals as they are, "{}", "{...}"
	end     string   // "", "/", "/{$}"
}

// String writes the pattern, with names for the wildcards.
func (p naivePattern) String() string {
	var b strings.Builder
	if len(p.methods) > 0 {
		b.WriteString(strings.Join(p.methods, ",") + " ")
	}
	b.WriteString(p.host)
	for i, s := range p.steps {
		name := string(rune('p' + i))
		b.WriteString("/" + strings.NewReplacer("{}", "{"+name+"}", "{...}", "{"+name+"...}", "%", "%25", "/", "%2F").Replace(s))
	}
	return b.String() + p.end
}

// A naiveReading is the segments of a path, and whether a slash follows.
type naiveReading struct {
	segments []string
	slash    bool
}

func naiveReadings(u *url.URL) []naiveReading {
	spelled := []naiveReading{split(u.Path)}
	if u.RawPath != "" {
		raw := split(u.RawPath)
		decoded := naiveReading{slash: raw.slash}
		for _, s := range raw.segments {
			if d, err := url.PathUnescape(s); err == nil {
				s = d
			}
			decoded.segments = append(decoded.segments, s)
		}
		spelled = append(spelled, raw, decoded)
	}
	var all []naiveReading
	for _, g := range spelled {
		all = append(all, g)
		unclean := slices.IndexFunc(g.segments, func(s string) bool { return s == "" || s == "." || s == ".." })
		for mount := range unclean + 1 {
			cleaned := naiveReading{segments: slices.Clone(g.segments[:mount]), slash: g.slash}
			for _, s := range g.segments[mount:] {
				switch {
				case s == ".." && len(cleaned.segments) > mount:
					cleaned.segments = cleaned.segments[:len(cleaned.segments)-1]
				case s != "" && s != "." && s != "..":
					cleaned.segments = append(cleaned.segments, s)
				}
			}
			cleaned.slash = cleaned.slash || len(cleaned.segments) == mount
			all = append(all, cleaned)
		}
	}
	for _, g := range slices.Clone(all) {
		if n := len(g.segments); n > 0 && g.slash {
			if g.segments[n-1] == "" {
				all = append(all, naiveReading{g.segments[:n-1], true})
			} else {
				all = append(all, naiveReading{g.segments, false})
			}
		}
	}
	return all
}

func split(path string) naiveReading {
	segments := strings.Split(path[1:], "/")
	n := len(segments) - 1
	if segments[n] == "" {
		return naiveReading{segments[:n], true}
	}
	return naiveReading{segments, false}
}

func (p naivePattern) matches(method, host string, g naiveReading) bool {
	in := len(p.methods) == 0
	for _, m := range p.methods {
		in = in || m == method || m == "GET" && method == "HEAD"
	}
	return in && (p.host == "" || p.host == host) && p.walk(p.steps, g.segments, g.slash)
}

func (p naivePattern) walk(steps, segments []string, slash bool) bool {
	if len(steps) == 0 {
		switch p.end {
		case "/":
			return true
		case "/{$}":
			return len(segments) == 0 && slash
		}
		return len(segments) == 0 && !slash
	}
	if steps[0] == "{...}" {
		if len(steps) == 1 && p.end == "" {
			return true
		}
		for n := range len(segments) + 1 {
			if p.walk(steps[1:], segments[n:], slash) {
				return true
			}
		}
		return false
	}
	return len(segments) > 0 && (steps[0] == "{}" || steps[0] == segments[0]) && p.walk(steps[1:], segments[1:], slash)
}

// meets tells whether a request meets a rule, by what it includes and excludes.
func meets(r *http.Request, methods []string, on, except []naivePattern) bool {
	included, excluded := len(on) == 0, true
	for _, method := range methods {
		for _, g := range naiveReadings(r.URL) {
			out := false
			for _, p := range on {
				included = included || p.matches(method, r.Host, g)
			}
			for _, p := range except {
				out = out || p.matches(method, r.Host, g)
			}
			excluded = excluded && out
		}
	}
	return included && !excluded
}
