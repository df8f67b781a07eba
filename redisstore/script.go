package redisstore

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"regexp"
	"strings"
)

//go:embed stint.lua
var written string

// The script as the server gets it, and the name that the server knows it by.
var (
	source    = inline(written)
	sourceSHA = func() string {
		sum := sha1.Sum([]byte(source))
		return hex.EncodeToString(sum[:])
	}()
)

var (
	comment  = regexp.MustCompile(`(?m)[ \t]*--.*$`)
	constant = regexp.MustCompile(`(?m)^local ([A-Z_]+(?:, [A-Z_]+)*) = ([^{}\n]+)$`)
	word     = regexp.MustCompile(`\b[A-Z][A-Z_]*\b`)
)

// inline puts the script's constants where their names are, and leaves its
// comments out. The server runs the whole text anew for each call: each function
// in it is made, and for each local of the text that a function uses, that local
// is looked for among all that any function does. With constants for names these
// are a third, and arithmetic needs no look at a local of another function. Lines
// stay where they are, so that what the server says of them is true.
func inline(text string) string {
	text = comment.ReplaceAllString(text, "")
	values := map[string]string{}
	put := func(text string) string {
		return word.ReplaceAllStringFunc(text, func(name string) string {
			if value, ok := values[name]; ok {
				return value
			}
			return name
		})
	}
	return put(constant.ReplaceAllStringFunc(text, func(line string) string {
		m := constant.FindStringSubmatch(line)
		names, expressions := strings.Split(m[1], ", "), strings.Split(m[2], ", ")
		for i, name := range names {
			values[name] = "(" + put(expressions[i]) + ")"
		}
		return ""
	}))
}
