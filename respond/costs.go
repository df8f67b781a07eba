package respond

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// A Part is a named share of what a request costs, in units.
type Part struct {
	Name   string // what it is for: "products"
	Points int64  // 7
}

// Costs are what a request costs, part by part. Its zero value is that of a
// request which costs nothing. Costs are a slice: they are not to be changed by
// two goroutines at once.
type Costs []Part

// Add adds points to the part of that name, which it appends if there is none
// yet. Zero points leave no trace; a sum is at most the largest int64.
func (c *Costs) Add(name string, points int64) {
	if points == 0 {
		return
	}
	for i := range *c {
		if part := &(*c)[i]; part.Name == name {
			part.Points = add(part.Points, points)
			return
		}
	}
	*c = append(*c, Part{Name: name, Points: points})
}

// Sum returns what the parts add up to, at most the largest int64.
func (c Costs) Sum() int64 {
	sum := int64(0)
	for i := range c {
		sum = add(sum, c[i].Points)
	}
	return sum
}

// add adds without overflow.
func add(a, b int64) int64 {
	switch sum := a + b; {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	default:
		return sum
	}
}

const (
	// maxDetails is the most bytes that a field with a request's parts has.
	maxDetails = 1024

	// maxPartName is the most bytes of a part's name that are told.
	maxPartName = 64

	// otherPart names the sum of the parts for which there is no room.
	otherPart = "other"
)

// append appends the parts as name=points, with commas between. What does not fit
// is told as one part, so that the points always add up.
func (c Costs) append(b []byte) []byte {
	const most = len(",") + len(otherPart) + len("=9223372036854775807")
	start := len(b)
	for i := range c {
		last := len(b)
		if i > 0 {
			b = append(b, ',')
		}
		b = appendPart(b, c[i].Name, c[i].Points)
		room := maxDetails
		if i < len(c)-1 {
			room -= most
		}
		if len(b)-start > room {
			b = b[:last]
			if i > 0 {
				b = append(b, ',')
			}
			return appendPart(b, otherPart, c[i:].Sum())
		}
	}
	return b
}

func appendPart(b []byte, name string, points int64) []byte {
	b = append(appendPartName(b, name), '=')
	return strconv.AppendInt(b, points, 10)
}

// appendPartName appends letters, digits, and what separates words in names. An
// underscore stands for any other character, and for no name.
func appendPartName(b []byte, name string) []byte {
	start := len(b)
	for i, r := range name {
		switch {
		case len(b)-start == maxPartName:
			return b
		case r < utf8.RuneSelf && isNameChar(byte(r)) && (i > 0 || isWordChar(byte(r))):
			b = append(b, byte(r))
		default:
			b = append(b, '_')
		}
	}
	if len(b) == start {
		b = append(b, '_')
	}
	return b
}

func isNameChar(c byte) bool { return isWordChar(c) || c == '-' || c == '.' || c == '/' || c == ':' }

func isWordChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}
