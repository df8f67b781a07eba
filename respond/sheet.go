package respond

import (
	"net/http"
	"strconv"
)

// A sheet collects header fields in one run of text, so that however many there
// are, they cost one string and one slice. It is passed by value, which keeps
// what it grows from on the stack.
type sheet struct {
	text  []byte
	cells []cell
}

// A cell is one field. Its value ends where the next one begins.
type cell struct {
	name  string // canonical; "" if it stands in the text, before the value
	start int    // of the name, if it is in the text
	value int    // start of the value
}

// begin begins a field, by its canonical name. What is then appended to text is
// its value.
func (s sheet) begin(name, suffix string) sheet {
	c := cell{name: name, start: len(s.text)}
	if suffix != "" {
		s.text = append(append(s.text, c.name...), suffix...)
		c.name = ""
	}
	c.value = len(s.text)
	s.cells = append(s.cells, c)
	return s
}

// integer adds a field, unless it has no name.
func (s sheet) integer(name, suffix string, v int64) sheet {
	if name != "" {
		s = s.begin(name, suffix)
		s.text = strconv.AppendInt(s.text, v, 10)
	}
	return s
}

// setIn sets the fields in h.
func (s sheet) setIn(h http.Header) {
	if len(s.cells) == 0 {
		return
	}
	text := string(s.text)
	values := make([]string, len(s.cells))
	for i, c := range s.cells {
		stop := len(text)
		if i+1 < len(s.cells) {
			stop = s.cells[i+1].start
		}
		if c.name == "" {
			c.name = text[c.start:c.value]
		}
		values[i] = text[c.value:stop]
		// Without spare capacity, so that a later Add does not reach the next value.
		h[c.name] = values[i : i+1 : i+1]
	}
}
