package middleware_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// FuzzDetails has clients ask for details in any way, of costs whose parts they
// name: who asks gets them, nobody else does, they add up, and nothing that a
// client wrote begins a field or a line of its own.
func FuzzDetails(f *testing.F) {
	for _, query := range []string{
		"session=10&products=7", "cost-debug&session=10", "cost-debug=0", "Cost-Debug=1", "cost%2Ddebug=1", "cost-debug;session=1", "%zz&cost-debug", "broken&cost-debug", "refused=1&cost-debug",
		"a%0d%0aX-Evil:+1=5&cost-debug", "=5&cost-debug", "a=9223372036854775807&b=9223372036854775807&cost-debug", "a=-5&cost-debug", "\x00=1&cost-debug", "other=3&cost-debug=",
	} {
		f.Add(query, "", false)
		f.Add(query, "x\r\nX-Evil: 1", true)
	}
	f.Fuzz(func(t *testing.T, query, value string, field bool) {
		l := limiter(t, ratelimit.Config{
			Store: memstore.New(memstore.Options{}), Style: pointed, Observe: func(ratelimit.Event) {},
			Rules: []ratelimit.Rule{{Name: "points", Key: fixed("alice"), Costs: ratelimit.CostsBy(recommendation), MinCost: 1, Limits: []policy.Limit{policy.PerHour(1000)}}},
		})
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/", RawQuery: query}, Header: http.Header{}}
		if field {
			r.Header["Cost-Debug"] = []string{value}
		}
		w := httptest.NewRecorder()
		l.Handler(http.HandlerFunc(ok)).ServeHTTP(w, r)

		var sent bytes.Buffer
		resp := w.Result()
		require.NoError(t, resp.Write(&sent))
		got, err := http.ReadResponse(bufio.NewReader(&sent), nil)
		require.NoError(t, err)
		require.NoError(t, got.Body.Close())
		require.Empty(t, got.Header.Values("X-Evil"))
		for name, values := range got.Header {
			for _, v := range values {
				require.Equal(t, -1, strings.IndexFunc(v, func(r rune) bool { return r < ' ' || r > '~' }), "%s: %q", name, v)
			}
		}
		asked := field
		for _, pair := range strings.Split(query, "&") {
			name, _, _ := strings.Cut(pair, "=")
			_, wrong := url.QueryUnescape(pair)
			if name, err := url.QueryUnescape(name); err == nil && wrong == nil && !strings.Contains(pair, ";") && name == "cost-debug" {
				asked = true
			}
		}
		details := got.Header.Values("X-Details")
		if !asked || got.Header.Get("X-Status") == "" { // there is nothing to tell of what cannot be charged
			require.Empty(t, details)
			require.False(t, asked && got.StatusCode == 200)
			return
		}
		require.Len(t, details, 1)
		require.LessOrEqual(t, len(details[0]), 1024)
		var status struct{ RequestCost, CurrentlyAvailable int64 }
		require.NoError(t, json.Unmarshal([]byte(got.Header.Get("X-Status")), &status))
		sum := int64(0)
		for _, part := range strings.Split(details[0], ",") {
			name, points, _ := strings.Cut(part, "=")
			require.Empty(t, strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:"))
			n, err := strconv.ParseInt(points, 10, 64)
			require.NoError(t, err)
			sum += n
		}
		require.Equal(t, status.RequestCost, sum)
		if got.StatusCode == 200 {
			require.Equal(t, 1000-sum, status.CurrentlyAvailable)
		}
	})
}
