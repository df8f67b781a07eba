package respond

import (
	"net/http"
	"time"
)

// A sheet says where in a run of text the values of header fields are, so that
// however many there are, they cost one string and one slice. The text is passed
// by value beside it, which keeps what it grows from on the stack.
type sheet struct {
	memo  *memo // nil if there is none
	cells [9]cell
	n     int
	more  []cell // those that cells has no room for
}

// A cell is one field. Its value ends where the next one begins.
type cell struct {
	name  string      // canonical; "" if it stands in the text, before the value
	start int         // of the name, if it is in the text
	value int         // start of the value
	memo  *remembered // has the value, or is to have it; nil for neither
}

// begin begins a field, by its canonical name. What is then appended to text is
// its value.
func (s *sheet) begin(text []byte, name, suffix string) []byte {
	c := s.add()
	c.start = len(text)
	if suffix != "" {
		text = append(append(text, name...), suffix...)
	} else {
		c.name = name
	}
	c.value = len(text)
	return text
}

// integer adds a field, unless it has no name.
func (s *sheet) integer(text []byte, name, suffix string, v int64) []byte {
	if name == "" {
		return text
	}
	return s.number(s.begin(text, name, suffix), v, EpochSeconds)
}

// instant adds a field, unless it has no name.
func (s *sheet) instant(text []byte, name, suffix string, now time.Time, after time.Duration, f ResetFormat) []byte {
	if name == "" {
		return text
	}
	v, f := f.number(now, after)
	return s.number(s.begin(text, name, suffix), v, f)
}

// number is the value of the field that was begun, unless that is remembered.
func (s *sheet) number(text []byte, v int64, f ResetFormat) []byte {
	m := s.memo.of(s.n - 1)
	s.cell(s.n - 1).memo = m
	if m != nil {
		if m.number == v && m.form == f && m.text != "" {
			return text
		}
		m.number, m.form, m.text = v, f, ""
	}
	return f.append(text, v)
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
		value := all[c.value:stop]
		if m := c.memo; m != nil {
			if m.text == "" {
				m.text = value
			}
			value = m.text
		}
		values[i], stop = value, c.start
		// Without spare capacity, so that a later Add does not reach the next value.
		h[name] = values[i : i+1 : i+1]
	}
}

// add returns a new cell.
func (s *sheet) add() *cell {
	s.n++
	if s.n > len(s.cells) {
		s.more = append(s.more, cell{})
	}
	return s.cell(s.n - 1)
}

func (s *sheet) cell(i int) *cell {
	if i < len(s.cells) {
		return &s.cells[i]
	}
	return &s.more[i-len(s.cells)]
}
