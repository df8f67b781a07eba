package middleware

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// A batchError is why a body is no batch.
type batchError string

const (
	errNoBody  batchError = "there is no body"
	errNotJSON batchError = "it is not JSON"
	errNoBatch batchError = "it is neither a batch nor an object"
	errNoField batchError = "it is an object without the field"
	errNoArray batchError = "the field is not an array"
	errTwice   batchError = "the field is there twice"
	errCase    batchError = "a field has the name in other letters"
)

func (e batchError) Error() string { return string(e) }

// maxNesting is how deep encoding/json reads.
const maxNesting = 10_000

// An itemScan counts the items of a batch in one walk over a JSON text, and
// makes no values of it. It takes no text that encoding/json would not, so that
// a handler finds as many items as were counted.
type itemScan struct {
	text []byte
	at   int // the byte that comes next

	field string // whose array is the batch; "" if the text is one itself
	found bool   // the batch
	batch int    // how deep the batch's items lie, while the walk is among them
	items int64

	depth   int                       // how many arrays and objects are open
	objects [maxNesting/64 + 1]uint64 // which of them are objects, a bit each
}

// countItems counts the items of the array that is the value of a field of the
// text's object, or that the text is if the field is "". If the text is an
// object without such an array the error is errNoField.
//
// A field that is there twice is refused, and so is one of the same name but
// for upper and lower case: which of them counts depends on who reads it.
func countItems(text []byte, field string) (int64, error) {
	s := itemScan{text: text, field: field}
	if err := s.walk(); err != nil {
		return 0, err
	}
	if !s.found {
		return 0, errNoField
	}
	return s.items, nil
}

func (s *itemScan) walk() error {
	if c := s.peek(); c != '{' && (c != '[' || s.field != "") {
		return errNoBatch
	}
	for isBatch := s.field == ""; ; {
		opened, err := s.value(isBatch)
		if err != nil {
			return err
		}
		if !opened {
			if more, err := s.afterValue(); !more {
				return err
			}
		}
		isBatch = false
		if s.inObject() {
			if isBatch, err = s.key(); err != nil {
				return err
			}
		}
	}
}

// value reads a value, or only the bracket that opens one with something in it.
func (s *itemScan) value(isBatch bool) (opened bool, err error) {
	switch c := s.peek(); c {
	case '{', '[':
		return s.open(c, isBatch && c == '[')
	case '"':
		return false, s.str()
	case 't':
		return false, s.word("true")
	case 'f':
		return false, s.word("false")
	case 'n':
		return false, s.word("null")
	}
	return false, s.number()
}

func (s *itemScan) open(bracket byte, isBatch bool) (opened bool, err error) {
	if s.depth == maxNesting {
		return false, errNotJSON
	}
	s.depth++
	if bit := uint64(1) << (s.depth % 64); bracket == '{' {
		s.objects[s.depth/64] |= bit
	} else {
		s.objects[s.depth/64] &^= bit
	}
	if isBatch {
		s.found, s.batch = true, s.depth
	}
	s.at++
	if s.peek() == s.closing() {
		s.close()
		return false, nil
	}
	if isBatch {
		s.items = 1
	}
	return true, nil
}

// afterValue reads the brackets that close after a value, and the comma before
// the next. Without a comma the text has to end.
func (s *itemScan) afterValue() (more bool, err error) {
	for s.depth > 0 {
		switch s.peek() {
		case ',':
			s.at++
			if s.depth == s.batch {
				s.items++
			}
			return true, nil
		case s.closing():
			s.close()
		default:
			return false, errNotJSON
		}
	}
	if s.peek(); s.at < len(s.text) {
		return false, errNotJSON
	}
	return false, nil
}

func (s *itemScan) close() {
	if s.depth == s.batch {
		s.batch = 0
	}
	s.depth--
	s.at++
}

func (s *itemScan) inObject() bool { return s.objects[s.depth/64]>>(s.depth%64)&1 == 1 }

func (s *itemScan) closing() byte {
	if s.inObject() {
		return '}'
	}
	return ']'
}

// key reads a key and its colon, and tells whether the batch comes next.
func (s *itemScan) key() (isBatch bool, err error) {
	if s.peek() != '"' {
		return false, errNotJSON
	}
	start := s.at
	if err := s.str(); err != nil {
		return false, err
	}
	key := s.text[start:s.at]
	if s.peek() != ':' {
		return false, errNotJSON
	}
	s.at++
	if s.depth > 1 || s.field == "" {
		return false, nil
	}
	switch same, folded := s.isField(key); {
	case !folded:
		return false, nil
	case !same:
		return false, errCase
	case s.found:
		return false, errTwice
	case s.peek() != '[':
		return false, errNoArray
	}
	return true, nil
}

// isField tells whether a quoted key is the field's name, and whether it is but
// for upper and lower case.
func (s *itemScan) isField(quoted []byte) (same, folded bool) {
	key := quoted[1 : len(quoted)-1]
	if len(key) > len(`\u0000`)*len(s.field) {
		return false, false // however it is escaped
	}
	if bytes.IndexByte(key, '\\') >= 0 {
		var short [128]byte
		key = appendUnescaped(short[:0], key)
	}
	return string(key) == s.field, bytes.EqualFold(key, []byte(s.field))
}

// appendUnescaped appends what a string stands for, as encoding/json reads it.
func appendUnescaped(b, text []byte) []byte {
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\\' {
			i++
			switch c = text[i]; c {
			case 'b':
				c = '\b'
			case 'f':
				c = '\f'
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case 'u':
				r, n := unicodeEscape(text[i-1:])
				b = utf8.AppendRune(b, r)
				i += n - 2
				continue
			}
		}
		b = append(b, c)
	}
	return b
}

// unicodeEscape returns the rune that an escape at the head of the text stands
// for, or a pair of them, and their length. Half a pair is no rune.
func unicodeEscape(text []byte) (r rune, n int) {
	const size = len(`\u0000`)
	r = hexRune(text[2:size])
	if next := text[size:]; utf16.IsSurrogate(r) && bytes.HasPrefix(next, []byte(`\u`)) {
		if pair := utf16.DecodeRune(r, hexRune(next[2:size])); pair != utf8.RuneError {
			return pair, 2 * size
		}
	}
	return r, size
}

func hexRune(digits []byte) rune {
	r, _ := strconv.ParseUint(string(digits), 16, 32)
	return rune(r)
}

// peek passes over white space and returns the byte after it, or 0.
func (s *itemScan) peek() byte {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

func (s *itemScan) str() error {
	text := s.text
	for i := s.at + 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			s.at = i + 1
			return nil
		case c == '\\':
			n := escaped(text[i+1:])
			if n == 0 {
				return errNotJSON
			}
			i += n
		case c < ' ':
			return errNotJSON
		}
	}
	return errNotJSON
}

// escaped returns the length of what a backslash escapes at the head of the
// text, or 0 if there is no such thing.
func escaped(text []byte) int {
	if len(text) == 0 {
		return 0
	}
	switch text[0] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 1
	case 'u':
		if len(text) < 5 {
			return 0
		}
		for _, c := range text[1:5] {
			if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
				return 0
			}
		}
		return 5
	}
	return 0
}

func (s *itemScan) word(w string) error {
	if rest := s.text[s.at:]; len(rest) < len(w) || string(rest[:len(w)]) != w {
		return errNotJSON
	}
	s.at += len(w)
	return nil
}

func (s *itemScan) number() error {
	s.oneOf('-', '-')
	if !s.oneOf('0', '0') && !s.digits() {
		return errNotJSON
	}
	if s.oneOf('.', '.') && !s.digits() {
		return errNotJSON
	}
	if s.oneOf('e', 'E') {
		s.oneOf('+', '-')
		if !s.digits() {
			return errNotJSON
		}
	}
	return nil
}

// oneOf reads one of two bytes, if it comes next.
func (s *itemScan) oneOf(a, b byte) bool {
	if s.at < len(s.text) && (s.text[s.at] == a || s.text[s.at] == b) {
		s.at++
		return true
	}
	return false
}

// digits reads at least one digit.
func (s *itemScan) digits() bool {
	start := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}
