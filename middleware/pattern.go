package middleware

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// A pattern is one of a rule's On or Except, in one form for all patterns of one
// meaning.
type pattern struct {
	text    string
	methods methodSet
	host    string // "" for every host
	steps   []step
	end     end
}

// A step is what a pattern says of one segment of the path, or of several.
type step struct {
	kind stepKind
	text string // of a literal, folded if the paths are
}

type stepKind uint8

const (
	literal stepKind = iota
	single           // {name}
	several          // {name...}: none, or more
)

// An end is how a pattern ends.
type end uint8

const (
	atPath    end = iota // /x: at the last segment
	atSlash              // /x/{$}: at the slash behind it
	beneath              // /x/ and /x/{name...}: there, or anywhere beneath
	endsCount            // how many there are
)

// parsePatterns parses what a rule has in one field.
func parsePatterns(field string, texts []string, fold bool) ([]pattern, error) {
	patterns := make([]pattern, 0, len(texts))
	seen := make(map[string]pattern, len(texts))
	methods := make(map[string]methodSet, len(texts))
	for _, text := range texts {
		p, err := parsePattern(text, fold)
		if err != nil {
			return nil, fmt.Errorf("in %s, %q: %w", field, text, err)
		}
		place := p.place()
		if twice := methods[place] & p.methods; twice != 0 {
			return nil, fmt.Errorf("in %s, %q: %q has %s there already: write it once", field, text, seen[place].text, twice)
		}
		seen[place], methods[place] = p, methods[place]|p.methods
		patterns = append(patterns, p)
	}
	return patterns, nil
}

// patterns parses a rule's patterns.
func (l *Limiter) patterns(r *Rule) (on, except []pattern, err error) {
	if on, err = parsePatterns("On", r.On, l.foldCase); err != nil {
		return nil, nil, err
	}
	except, err = parsePatterns("Except", r.Except, l.foldCase)
	return on, except, err
}

// parsePattern parses "[METHOD[,METHOD]… ][HOST]/[PATH]".
func parsePattern(text string, fold bool) (pattern, error) {
	p := pattern{text: text, methods: everyMethod}
	rest := text
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		var err error
		if p.methods, err = parseMethods(text[:i]); err != nil {
			return p, err
		}
		rest = strings.TrimLeft(text[i:], " \t")
	}
	i := strings.IndexByte(rest, '/')
	switch {
	case rest == "":
		return p, errors.New(`no path: write one, such as "/orders/"`)
	case i < 0:
		return p, fmt.Errorf(`no slash: write "/%s" for a path`, rest)
	case strings.ContainsAny(rest, " \t"):
		return p, errors.New("a space within: write methods with commas alone between them, and %20 for a space in a path")
	}
	p.host, rest = rest[:i], rest[i:]
	if err := checkHost(p.host); err != nil {
		return p, err
	}
	names := make(map[string]bool)
	for rest != "" {
		segment := rest[1:]
		rest = ""
		if i := strings.IndexByte(segment, '/'); i >= 0 {
			segment, rest = segment[:i], segment[i:]
		}
		switch {
		case segment == "" && rest == "":
			p.end = beneath
		case segment == "{$}" && rest != "":
			return p, errors.New("{$} is for the end: nothing comes behind it")
		case segment == "{$}":
			p.end = atSlash
		default:
			s, err := parseStep(segment, names, fold)
			if err != nil {
				return p, err
			}
			p.steps = append(p.steps, s)
		}
	}
	p.normalize()
	return p, nil
}

func parseMethods(list string) (methodSet, error) {
	var set methodSet
	for name := range strings.SplitSeq(list, ",") {
		one := methodOf(name)
		switch {
		case name == "":
			return 0, fmt.Errorf("methods %q: write them with commas alone between them", list)
		case one == unknownMethod && methodOf(strings.ToUpper(name)) != unknownMethod:
			return 0, fmt.Errorf("method %q: write %s", name, strings.ToUpper(name))
		case one == unknownMethod:
			return 0, fmt.Errorf("unknown method %q: write some of %s, or none for all", name, everyMethod&^unknownMethod)
		case one == methodGet:
			one |= methodHead
		}
		if twice := set & one; twice != 0 {
			return 0, fmt.Errorf("%s is there twice: write it once, and GET for HEAD too", twice)
		}
		set |= one
	}
	return set, nil
}

func checkHost(host string) error {
	port := strings.LastIndexByte(host, ':')
	switch {
	case strings.ContainsAny(host, "{}"):
		return errors.New("a wildcard in the host: write hosts as they are, and a slash before the path")
	case host != plainHost(host):
		return fmt.Errorf("host %q: write %q", host, plainHost(host))
	case strings.Count(host, ":") == 1:
		return fmt.Errorf("host %q: write it without its port: %q", host, host[:port])
	case strings.ContainsAny(host, "[],"):
		return fmt.Errorf("host %q: write a host's name or its bare address", host)
	}
	return nil
}

// parseStep parses what stands between two slashes.
func parseStep(segment string, names map[string]bool, fold bool) (step, error) {
	if !strings.ContainsAny(segment, "{}") {
		text, err := url.PathUnescape(segment)
		switch {
		case err != nil:
			return step{}, fmt.Errorf("segment %q: write %%25 for a percent sign", segment)
		case text == "" || text == "." || text == "..":
			return step{}, fmt.Errorf("segment %q: no cleaned path has it: leave it out", segment)
		case segment == "*" || text == "**":
			return step{}, fmt.Errorf("segment %q stands for itself alone: write {name}, {name...}, or %%2A for the sign", segment)
		}
		if fold {
			text = string(appendFolded(nil, []byte(text), widely))
		}
		return step{kind: literal, text: text}, nil
	}
	name, whole := strings.CutPrefix(segment, "{")
	name, closed := strings.CutSuffix(name, "}")
	name, more := strings.CutSuffix(name, "...")
	switch {
	case !whole || !closed || strings.ContainsAny(name, "{}"):
		return step{}, fmt.Errorf("segment %q: a wildcard is a whole segment: write {name} or {name...}", segment)
	case !isIdentifier(name):
		return step{}, fmt.Errorf("wildcard %q: write a name of letters and digits, such as {id} or {rest...}", segment)
	case names[name]:
		return step{}, fmt.Errorf("two wildcards named %q: give each a name of its own", name)
	}
	names[name] = true
	if more {
		return step{kind: several}, nil
	}
	return step{kind: single}, nil
}

// normalize gives patterns of one meaning one form. Within a row of wildcards
// their order does not matter, and one that stands for several segments is as good
// as two. At the end it is what a slash is.
func (p *pattern) normalize() {
	steps := p.steps
	if n := len(steps); n > 0 && p.end == atPath && steps[n-1].kind == several {
		p.end = beneath
	}
	for from := 0; from < len(steps); {
		to := from
		for to < len(steps) && steps[to].kind != literal {
			to++
		}
		slices.SortFunc(steps[from:to], func(a, b step) int { return cmp.Compare(a.kind, b.kind) })
		from = to + 1
	}
	steps = slices.CompactFunc(steps, func(a, b step) bool { return a.kind == several && b.kind == several })
	if n := len(steps); n > 0 && p.end == beneath && steps[n-1].kind == several {
		steps = steps[:n-1]
	}
	p.steps = steps
}

// place is what two patterns have in common that match the same, but for methods.
func (p *pattern) place() string {
	var b strings.Builder
	b.WriteString(p.host)
	for _, s := range p.steps {
		fmt.Fprintf(&b, "/%d%q", s.kind, s.text)
	}
	fmt.Fprintf(&b, "/%d", p.end)
	return b.String()
}

func isIdentifier(name string) bool {
	for i, c := range name {
		if c != '_' && !unicode.IsLetter(c) && (i == 0 || !unicode.IsDigit(c)) {
			return false
		}
	}
	return name != ""
}
