package respond

import (
	"net/http"
	"strconv"
)

// A sheet says where in a run of text the values of header fields are, so that
// however many there are, they cost one string and one slice. The text is passed
// by value beside it, which keeps what it grows from on the stack.
type sheet struct {
	cells [8]cell
	n     int
	more  []cell // those that cells has no room for
}

// A cell is one field. Its value ends where the next one begins.
type cell struct {
	name  string // canonical; "" if it stands in the text, before the value
	start int    // of the name, if it is in the text
	value int    // start of the value
}

// begin begins a field, by its canonical name. What is then appended to text is
// its value.
func (s *sheet) begin(text []byte, name, suffix string) []byte {
	c := cell{name: name, start: len(text)}
	if suffix != "" {
		text = append(append(text, name...), suffix...)
		c.name = ""
	}
	c.value = len(text)
	if s.n < len(s.cells) {
		s.cells[s.n] = c
	} else {
		s.more = append(s.more, c)
	}
	s.n++
	return text
}

// integer adds a field, unless it has no name.
func (s *sheet) integer(text []byte, name, suffix string, v int64) []byte {
	if name == "" {
		return text
	}
	return strconv.AppendInt(s.begin(text, name, suffix), v, 10)
}

// setIn sets the fields in h.
func (s *sheet) setIn(h http.Header, text []byte) {
	if s.n == 0 {
		return
	}
	values, all, stop := make([]string, s.n), string(text), len(text)
	for i := s.n - 1; i >= 0; i-- {
		c := s.cell(i)
		name := c.name
		if name == "" {
			name = all[c.start:c.value]
		}
		values[i], stop = all[c.value:stop], c.start
		// Without spare capacity, so that a later Add does not reach the next value.
		h[name] = values[i : i+1 : i+1]
	}
}

func (s *sheet) cell(i int) *cell {
	if i < len(s.cells) {
		return &s.cells[i]
	}
	return &s.more[i-len(s.cells)]
}
