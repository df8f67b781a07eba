package graphqlcost

import (
	"errors"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONNesting is how deep a request's JSON may nest.
const maxJSONNesting = 128

var errNotJSON = errors.New("it is not JSON, or nests too deeply")

// checkJSON tells whether a text is one JSON value, by the grammar of RFC 8259.
// What reads values afterwards relies on it.
func checkJSON(text string) error {
	at, ok := jsonValue(text, space(text, 0), maxJSONNesting)
	if !ok || space(text, at) != len(text) {
		return errNotJSON
	}
	return nil
}

// jsonValue returns where the value that begins at a place ends.
func jsonValue(s string, at, depth int) (end int, ok bool) {
	if at >= len(s) || depth < 0 {
		return at, false
	}
	switch c := s[at]; c {
	case '"':
		return jsonString(s, at)
	case '{', '[':
		return jsonItems(s, at, depth)
	case 't':
		return at + 4, strings.HasPrefix(s[at:], "true")
	case 'f':
		return at + 5, strings.HasPrefix(s[at:], "false")
	case 'n':
		return at + 4, strings.HasPrefix(s[at:], "null")
	}
	return jsonNumber(s, at)
}

// jsonItems reads an object or an array.
func jsonItems(s string, at, depth int) (end int, ok bool) {
	isObject := s[at] == '{'
	closing := byte(']')
	if isObject {
		closing = '}'
	}
	at = space(s, at+1)
	if at < len(s) && s[at] == closing {
		return at + 1, true
	}
	for {
		if isObject {
			if at >= len(s) || s[at] != '"' {
				return at, false
			}
			if at, ok = jsonString(s, at); !ok {
				return at, false
			}
			if at = space(s, at); at >= len(s) || s[at] != ':' {
				return at, false
			}
			at = space(s, at+1)
		}
		if at, ok = jsonValue(s, at, depth-1); !ok {
			return at, false
		}
		if at = space(s, at); at >= len(s) {
			return at, false
		}
		switch s[at] {
		case closing:
			return at + 1, true
		case ',':
			at = space(s, at+1)
		default:
			return at, false
		}
	}
}

func jsonString(s string, at int) (end int, ok bool) {
	for at = textEnd(s, at+1); at < len(s); at = textEnd(s, at) {
		switch {
		case s[at] == '"':
			return at + 1, true
		case s[at] < ' ', at+1 >= len(s):
			return at, false
		case s[at+1] == 'u':
			if at+6 > len(s) {
				return at, false
			}
			for i := at + 2; i < at+6; i++ {
				if c := s[i]; (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
					return at, false
				}
			}
			at += 6
		case strings.IndexByte(`"\/bfnrt`, s[at+1]) < 0:
			return at, false
		default:
			at += 2
		}
	}
	return at, false
}

// textEnd returns where the next quote, backslash or control character is. It looks
// at eight bytes at a time: in each of the three sums, the lowest byte whose high
// bit is set is one that is looked for.
func textEnd(s string, at int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; at+8 <= len(s); at += 8 {
		x := eight(s, at)
		quotes, slashes := x^'"'*ones, x^'\\'*ones
		found := ((quotes-ones)&^quotes | (slashes-ones)&^slashes | (x-' '*ones)&^x) & highs
		if found != 0 {
			return at + bits.TrailingZeros64(found)/8
		}
	}
	for at < len(s) && s[at] >= ' ' && s[at] != '"' && s[at] != '\\' {
		at++
	}
	return at
}

// eight returns eight bytes as a number, the first of them lowest.
func eight(s string, at int) uint64 {
	s = s[at : at+8]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func jsonNumber(s string, at int) (end int, ok bool) {
	if at < len(s) && s[at] == '-' {
		at++
	}
	whole := digits(s, at)
	if whole == at || s[at] == '0' && whole > at+1 {
		return at, false
	}
	if at = whole; at < len(s) && s[at] == '.' {
		fraction := digits(s, at+1)
		if fraction == at+1 {
			return at, false
		}
		at = fraction
	}
	if at < len(s) && (s[at] == 'e' || s[at] == 'E') {
		at++
		if at < len(s) && (s[at] == '+' || s[at] == '-') {
			at++
		}
		exponent := digits(s, at)
		if exponent == at {
			return at, false
		}
		at = exponent
	}
	return at, true
}

func digits(s string, at int) int {
	for at < len(s) && '0' <= s[at] && s[at] <= '9' {
		at++
	}
	return at
}

func space(s string, at int) int {
	for at < len(s) && (s[at] == ' ' || s[at] == '\n' || s[at] == '\t' || s[at] == '\r') {
		at++
	}
	return at
}

// unquoted returns what a JSON string says. Halves of surrogate pairs that stand
// alone become U+FFFD, as they do in encoding/json.
func unquoted(quoted string) string {
	inner := quoted[1 : len(quoted)-1]
	next := strings.IndexByte(inner, '\\')
	if next < 0 {
		return inner
	}
	var out strings.Builder
	out.Grow(len(inner))
	for ; next >= 0; next = strings.IndexByte(inner, '\\') {
		out.WriteString(inner[:next])
		c := inner[next+1]
		inner = inner[next+2:]
		switch c {
		case 'b':
			out.WriteByte('\b')
		case 'f':
			out.WriteByte('\f')
		case 'n':
			out.WriteByte('\n')
		case 'r':
			out.WriteByte('\r')
		case 't':
			out.WriteByte('\t')
		case 'u':
			var r rune
			r, inner = hexRune(inner)
			if utf16.IsSurrogate(r) {
				pair := utf8.RuneError
				if strings.HasPrefix(inner, `\u`) {
					low, rest := hexRune(inner[2:])
					if pair = utf16.DecodeRune(r, low); pair != utf8.RuneError {
						inner = rest
					}
				}
				r = pair
			}
			out.WriteRune(r)
		default:
			out.WriteByte(c)
		}
	}
	out.WriteString(inner)
	return out.String()
}

func hexRune(s string) (rune, string) {
	n, _ := strconv.ParseUint(s[:4], 16, 16)
	return rune(n), s[4:]
}

// A value is a value as JSON, which is known to be valid but for this: $3 stands
// for the fourth variable. The empty value is none at all.
type value string

const null value = "null"

// members calls yield with each member of an object until it is false.
func (v value) members(yield func(name string, member value) bool) {
	if v == "" || v[0] != '{' {
		return
	}
	s := string(v)
	for at := space(s, 1); s[at] != '}'; {
		end := valueEnd(s, at)
		name := unquoted(s[at:end])
		at = space(s, space(s, end)+1) // past the colon
		end = valueEnd(s, at)
		if !yield(name, value(s[at:end])) {
			return
		}
		if at = space(s, end); s[at] == ',' {
			at = space(s, at+1)
		}
	}
}

// items calls yield with each item of an array until it is false.
func (v value) items(yield func(value) bool) {
	if v == "" || v[0] != '[' {
		return
	}
	s := string(v)
	for at := space(s, 1); s[at] != ']'; {
		end := valueEnd(s, at)
		if !yield(value(s[at:end])) {
			return
		}
		if at = space(s, end); s[at] == ',' {
			at = space(s, at+1)
		}
	}
}

// A mark is what a byte is to valueEnd.
type mark uint8

const (
	inside mark = iota
	opening
	closing
	quote
	separating
)

var marks = [256]mark{
	'{': opening, '[': opening, '}': closing, ']': closing, '"': quote,
	',': separating, ':': separating, ' ': separating, '\n': separating, '\t': separating, '\r': separating,
}

// valueEnd returns where a valid value ends.
func valueEnd(s string, at int) int {
	depth := 0
	for ; at < len(s); at++ {
		switch marks[s[at]] {
		case quote:
			if at = quoted(s, at); depth == 0 {
				return at + 1
			}
		case opening:
			depth++
		case closing:
			if depth == 0 {
				return at // a number or a word has ended before
			}
			if depth--; depth == 0 {
				return at + 1
			}
		case separating:
			if depth == 0 {
				return at
			}
		}
	}
	return at
}

// quoted returns where the string that begins at a place has its last quote.
func quoted(s string, at int) int {
	for at++; ; at++ {
		at += strings.IndexByte(s[at:], '"')
		escapes := 0
		for s[at-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return at
		}
	}
}

var errNotWhole = errors.New("it is not a whole number")

// integer returns a whole number, however it is written: servers differ in
// whether they take 10.0, 1e1 and "10" for one.
func (v value) integer() (int64, error) {
	s := string(v)
	if s != "" && s[0] == '"' {
		s = unquoted(s)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, errNotWhole
	}
	return int64(f), nil
}
