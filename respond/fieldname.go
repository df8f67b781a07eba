package respond

import (
	"fmt"
	"net/http"
	"strings"
)

// checkFieldName returns an error unless a style may write a field of the name:
// a token of RFC 9110, section 5.6.2, that is not one which frames the response
// or which the style computes.
func checkFieldName(name string) error {
	if name == "" {
		return fmt.Errorf("respond: empty field name: write a name, such as X-RateLimit-Limit")
	}
	for i := range len(name) {
		if !isTokenChar(name[i]) {
			return fmt.Errorf("respond: field name %.80q: write letters, digits and hyphens", name)
		}
	}
	switch key := http.CanonicalHeaderKey(name); key {
	case "Retry-After", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Connection", "Trailer":
		return fmt.Errorf("respond: field name %q: it is not a style's to write; leave it out", key)
	}
	return nil
}

// checkFieldValue returns an error if the value holds a line break or another
// control character.
func checkFieldValue(name, value string) error {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("respond: field %s: value %.80q: write it without control characters", name, value)
		}
	}
	return nil
}

func isTokenChar(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// appendPrintable appends s with an underscore for each byte that is not a
// printable ASCII character. Names that policy.CheckName accepts have none.
func appendPrintable(b []byte, s string) []byte {
	for i := range len(s) {
		b = append(b, printable(s[i]))
	}
	return b
}

func printable(c byte) byte {
	if c < ' ' || c > '~' {
		return '_'
	}
	return c
}
