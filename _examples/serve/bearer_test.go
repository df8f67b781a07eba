package serve

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
)

func TestBearerToken(t *testing.T) {
	for _, tc := range []struct {
		name  string
		lines []string
		want  string // "" if it is refused
	}{
		{"plain", []string{"Bearer abc"}, "abc"},
		{"any case", []string{"bEARER abc"}, "abc"},
		{"spaces around", []string{" Bearer   abc "}, "abc"},
		{"tabs around", []string{"Bearer \tabc\t"}, "abc"},
		{"none", nil, ""},
		{"empty", []string{""}, ""},
		{"no token", []string{"Bearer"}, ""},
		{"blank token", []string{"Bearer  "}, ""},
		{"a tab for the space", []string{"Bearer\tabc"}, ""},
		{"a space within", []string{"Bearer a b"}, ""},
		{"a tab within", []string{"Bearer a\tb"}, ""},
		{"NBSP behind", []string{"Bearer abc\u00a0"}, ""},
		{"NBSP before", []string{"Bearer \u00a0abc"}, ""},
		{"not UTF-8", []string{"Bearer abc\xa0"}, ""},
		{"DEL", []string{"Bearer abc\x7f"}, ""},
		{"another scheme", []string{"Basic abc"}, ""},
		{"two different lines", []string{"Bearer abc", "Bearer abd"}, ""},
		{"two equal lines", []string{"Bearer abc", "Bearer abc"}, ""},
		{"an empty second line", []string{"Bearer abc", ""}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header["Authorization"] = tc.lines
			token, ok := BearerToken(r)
			require.Equal(t, tc.want != "", ok)
			if !ok {
				return
			}
			require.Equal(t, tc.want, token)
			// The limiter counts the same token.
			counted, err := ratelimit.Bearer()(r)
			require.NoError(t, err)
			r.Header["Authorization"] = []string{"Bearer " + token}
			again, err := ratelimit.Bearer()(r)
			require.NoError(t, err)
			require.Equal(t, again, counted)
		})
	}
}
