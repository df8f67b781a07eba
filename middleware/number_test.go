package middleware_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/respond"
)

func TestNumber(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]int64{
		`{"rows":0}`: 0, `{"rows":5000}`: 5000, ` { "a":{"rows":1}, "rows" : 7 , "b":[{"rows":2}]} `: 7, `{"rows":9223372036854775807}`: 1<<63 - 1,
		"": -1, "{}": -1, "[]": -1, "7": -1, `{"rows":-1}`: -1, `{"rows":1.0}`: -1, `{"rows":1e3}`: -1, `{"rows":"7"}`: -1, `{"rows":null}`: -1,
		`{"rows":1,"rows":2}`: -1, `{"rows":1,"Rows":2}`: -1, `{"ROWS":2}`: -1, `{"rowſ":2}`: -1, `{"rows":1}x`: -1, `{"rows":1`: -1,
		`{"rows":9223372036854775808}`: -1, `{"r\u006fws":3}`: 3, "\xef\xbb\xbf{\"rows\":1}": -1,
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		got, err := ratelimit.Number("rows")(r)
		if want < 0 {
			refused, ok := err.(*ratelimit.CostError)
			require.True(t, ok, "%s: %v", body, err)
			require.Equal(t, respond.InvalidCost, refused.Reason)
			continue
		}
		require.NoError(t, err, body)
		require.Equal(t, want, got, body)
		rest, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.Equal(t, body, string(rest), "the handler reads it whole")
	}
	gzip := httptest.NewRequest("POST", "/", strings.NewReader(`{"rows":1}`))
	gzip.Header.Set("Content-Encoding", "gzip")
	_, err := ratelimit.Number("rows")(gzip)
	require.Error(t, err)
	long := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader(`{"rows":1,"pad":"`), strings.NewReader(strings.Repeat("x", 2<<20)), strings.NewReader(`"}`)))
	_, err = ratelimit.Number("rows")(long)
	require.ErrorContains(t, err, string(respond.BodyTooLarge))
	require.Panics(t, func() { ratelimit.Number("") })
}

// A number that is accepted is the one that a handler finds.
func FuzzNumber(f *testing.F) {
	for _, seed := range []string{`{"rows":1}`, `{"rows":1,"rows":2}`, `{"Rows":2}`, `{"rows":"\"}`, `{"rows":{"rows":1}}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		n, err := ratelimit.Number("rows")(httptest.NewRequest("POST", "/", strings.NewReader(body)))
		if err != nil {
			return
		}
		var found struct {
			Rows int64 `json:"rows"`
		}
		require.NoError(t, json.Unmarshal([]byte(body), &found))
		require.Equal(t, found.Rows, n)
	})
}

func ExampleNumber() {
	cost := ratelimit.Number("rows")
	r, _ := http.NewRequest("POST", "/v1/exports", strings.NewReader(`{"rows":5000}`))
	fmt.Println(cost(r))
	// Output: 5000 <nil>
}
