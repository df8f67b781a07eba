package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
)

func TestClientIP(t *testing.T) {
	t.Parallel()
	trusting := chimiddleware.ClientIPFromXFF("10.0.0.0/8")
	tests := []struct {
		name  string
		peer  string
		chain func(http.Handler) http.Handler // in front of the limiter
		xff   []string
		want  string // "" for ErrNoKey
	}{
		{name: "IPv4", peer: "192.0.2.1:1234", want: "192.0.2.1"},
		{name: "IPv4 without port", peer: "192.0.2.1", want: "192.0.2.1"},
		{name: "IPv4 mapped", peer: "[::ffff:192.0.2.1]:1234", want: "192.0.2.1"},
		{name: "IPv4 mapped, in hexadecimal", peer: "[::ffff:102:304]:1", want: "1.2.3.4"},
		{name: "IPv4 in NAT64 is not mapped", peer: "[64:ff9b::1.2.3.4]:1", want: "64:ff9b::/64"},
		{name: "IPv4 notation in IPv6 is not mapped", peer: "[2001:db8::1.2.3.4]:1", want: "2001:db8::/64"},
		{name: "IPv6", peer: "[2001:db8:1:2:3:4:5:6]:1234", want: "2001:db8:1:2::/64"},
		{name: "IPv6, another of its network", peer: "[2001:db8:1:2:ffff::]:1234", want: "2001:db8:1:2::/64"},
		{name: "IPv6, another network", peer: "[2001:db8:1:3::1]:1234", want: "2001:db8:1:3::/64"},
		{name: "IPv6 without port", peer: "2001:db8::1", want: "2001:db8::/64"},
		{name: "IPv6 with a zone", peer: "[fe80::1%eth0]:1234", want: "fe80::/64"},
		{name: "IPv6 longest", peer: "[2001:db80:1111:2222:3333:4444:5555:6666]:1", want: "2001:db80:1111:2222::/64"},
		{name: "Unix socket", peer: "@", want: ""},
		{name: "no peer", peer: "", want: ""},
		{name: "garbage", peer: "localhost:80", want: ""},
		{name: "header that nobody configured", peer: "192.0.2.1:1", xff: []string{"203.0.113.9"}, want: "192.0.2.1"},
		{name: "behind a proxy", peer: "10.0.0.1:1", chain: trusting, xff: []string{"203.0.113.9"}, want: "203.0.113.9"},
		{name: "behind two proxies", peer: "10.0.0.1:1", chain: trusting, xff: []string{"203.0.113.9, 10.0.0.2"}, want: "203.0.113.9"},
		{name: "prepended spoof", peer: "10.0.0.1:1", chain: trusting, xff: []string{"198.51.100.7, 203.0.113.9"}, want: "203.0.113.9"},
		{name: "spoof on a line of its own", peer: "10.0.0.1:1", chain: trusting, xff: []string{"198.51.100.7", "203.0.113.9"}, want: "203.0.113.9"},
		{name: "mapped behind a proxy", peer: "10.0.0.1:1", chain: trusting, xff: []string{"::ffff:203.0.113.9"}, want: "203.0.113.9"},
		{name: "IPv6 with a zone behind a proxy", peer: "10.0.0.1:1", chain: trusting, xff: []string{"2001:db8::1%1"}, want: "2001:db8::/64"},
		{name: "around the proxy", peer: "203.0.113.50:1", chain: trusting, xff: []string{"198.51.100.7"}, want: "203.0.113.50"},
		{name: "proxy itself, as in a health check", peer: "10.0.0.1:1", chain: trusting, want: "10.0.0.1"},
		{name: "from a header of the proxy", peer: "10.0.0.1:1", chain: chimiddleware.ClientIPFromHeader("X-Forwarded-For", "10.0.0.0/8"), xff: []string{"2001:db8::7"}, want: "2001:db8::/64"},
		{name: "from the peer", peer: "[::ffff:192.0.2.1]:1", chain: chimiddleware.ClientIPFromRemoteAddr, want: "192.0.2.1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var key string
			var err error
			h := http.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { key, err = ratelimit.ClientIP(r) }))
			if test.chain != nil {
				h = test.chain(h)
			}
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = test.peer
			if test.xff != nil {
				r.Header["X-Forwarded-For"] = test.xff
			}
			h.ServeHTTP(httptest.NewRecorder(), r)
			assert.Equal(t, test.want, key)
			if test.want == "" {
				require.ErrorIs(t, err, ratelimit.ErrNoKey)
			} else {
				require.NoError(t, err)
			}
		})
	}
}
