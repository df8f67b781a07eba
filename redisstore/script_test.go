package redisstore

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the server gets has no name of a constant and no comment, and its lines are
// those of the file.
func TestInline(t *testing.T) {
	require.Equal(t, "\n\n\nreturn (2) + (-(2)), t.ONE, ('S\\1')\n", inline(
		"-- ONE is one.\nlocal TWO, MARK = 2, 'S\\1' -- two\nlocal MINUS = -TWO\nreturn TWO + MINUS, t.ONE, MARK\n"))

	require.Equal(t, strings.Count(written, "\n"), strings.Count(source, "\n"))
	require.NotContains(t, source, "--")
	names := regexp.MustCompile(`(?m)^local ([A-Z_]+) = [^{]`).FindAllStringSubmatch(written, -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		require.NotRegexp(t, `\b`+name[1]+`\b`, source)
	}
}
