package middleware_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
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
		{name: "garbage in the middle", peer: "10.0.0.1:1", chain: chimiddleware.ClientIPFromXFF("10.0.0.0/8"), xff: []string{"203.0.113.9, unknown, 10.0.0.2"}, want: "10.0.0.1"},
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

// keyOf returns the key of a request behind a chain of middlewares.
func keyOf(t *testing.T, key ratelimit.KeyFunc, chain func(http.Handler) http.Handler, remote string, fields http.Header) (k string, err error) {
	t.Helper()
	h := http.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { k, err = key(r) }))
	if chain != nil {
		h = chain(h)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = remote
	for name, values := range fields {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	h.ServeHTTP(httptest.NewRecorder(), r)
	return k, err
}

// Where a middleware was configured, a request in which it finds nothing has no key:
// not the proxy's, which all its clients would share. The cases are those that chi
// leaves without an address.
func TestClientIPFrom(t *testing.T) {
	t.Parallel()
	xff := ratelimit.ClientIPFrom(chimiddleware.ClientIPFromXFF("10.0.0.0/8", "2001:db8:f::/48"))
	counted := ratelimit.ClientIPFrom(chimiddleware.ClientIPFromXFFTrustedProxies(2))
	real := ratelimit.ClientIPFrom(chimiddleware.ClientIPFromHeader("X-Real-IP", "10.0.0.0/8"))
	view := ratelimit.ClientIPFrom(chimiddleware.ClientIPFromHeader("CloudFront-Viewer-Address", "10.0.0.0/8"))
	remote := ratelimit.ClientIPFrom(chimiddleware.ClientIPFromRemoteAddr)
	for _, test := range []struct {
		name   string
		chain  func(http.Handler) http.Handler
		peer   string
		fields http.Header
		want   string // "" for ErrNoKey
	}{
		{"found", xff, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.9"}}, "203.0.113.9"},
		{"over all lines", xff, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"198.51.100.1", "203.0.113.9", "10.0.0.3, 10.0.0.2"}}, "203.0.113.9"},
		{"empty entries", xff, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.9, ,, ", ""}}, "203.0.113.9"},
		{"white space", xff, "10.0.0.1:1", http.Header{"X-Forwarded-For": {" \t203.0.113.9\t "}}, "203.0.113.9"},
		{"a trusted proxy written as IPv6", xff, "[::ffff:10.0.0.1]:1", http.Header{"X-Forwarded-For": {"203.0.113.9, ::ffff:10.0.0.2"}}, "203.0.113.9"},
		{"a trusted proxy with a zone", xff, "[2001:db8:f::1%eth0]:1", http.Header{"X-Forwarded-For": {"203.0.113.9"}}, "203.0.113.9"},
		{"a client in a mapped /64", xff, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"::ffff:1.2.3.4"}}, "1.2.3.4"},
		{"not trusted", xff, "203.0.113.50:1", http.Header{"X-Forwarded-For": {"198.51.100.1"}}, "203.0.113.50"},
		{"no field", xff, "10.0.0.1:1", nil, ""},
		{"an empty field", xff, "10.0.0.1:1", http.Header{"X-Forwarded-For": {""}}, ""},
		{"all trusted", xff, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"10.0.0.3, 10.0.0.2"}}, ""},
		{"unparsable", xff, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.9, unknown"}}, ""},
		{"with a port", xff, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.9:4711"}}, ""},
		{"in brackets", xff, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"[2001:db8::1]"}}, ""},
		{"no second header is read", xff, "10.0.0.1:1", http.Header{"X-Real-IP": {"198.51.100.1"}, "Forwarded": {"for=198.51.100.1"}}, ""},
		{"a peer that is no address", xff, "@", http.Header{"X-Forwarded-For": {"203.0.113.9"}}, ""},
		{"counted", counted, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.9, 10.0.0.2"}}, "203.0.113.9"},
		{"counted, on a Unix socket", counted, "@", http.Header{"X-Forwarded-For": {"203.0.113.9, 10.0.0.2"}}, "203.0.113.9"},
		{"counted, and too few", counted, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.9"}}, ""},
		{"one header", real, "10.0.0.1:1", http.Header{"X-Real-IP": {"203.0.113.9"}}, "203.0.113.9"},
		{"one header, twice: the last counts", real, "10.0.0.1:1", http.Header{"X-Real-IP": {"198.51.100.1", "203.0.113.9"}}, "203.0.113.9"},
		{"one header, with a list", real, "10.0.0.1:1", http.Header{"X-Real-IP": {"198.51.100.1, 203.0.113.9"}}, ""},
		{"one header is not there", real, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.9"}}, ""},
		{"address and port of CloudFront", view, "10.0.0.1:1", http.Header{"CloudFront-Viewer-Address": {"203.0.113.9:443"}}, ""},
		{"the peer", remote, "[fe80::1%eth0]:1", nil, "fe80::/64"},
		{"the peer is none", remote, "@", nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for name, key := range map[string]ratelimit.KeyFunc{"": ratelimit.ClientIP, "unix": ratelimit.IPOptions{Unix: "local"}.ClientIP()} {
				got, err := keyOf(t, key, test.chain, test.peer, test.fields)
				assert.Equal(t, test.want, got, name)
				if test.want == "" {
					require.ErrorIs(t, err, ratelimit.ErrNoKey, "400 to this request, and no key that all share")
				} else {
					require.NoError(t, err)
				}
			}
			// Who wants the peer then has to say so.
			got, err := keyOf(t, ratelimit.FirstOf(ratelimit.ClientIP, ratelimit.PeerIP), test.chain, test.peer, test.fields)
			switch {
			case test.want != "":
				assert.Equal(t, test.want, got)
			case test.peer == "@":
				require.ErrorIs(t, err, ratelimit.ErrNoKey)
			default:
				assert.Equal(t, "10.0.0.1", got)
			}
		})
	}
	assert.PanicsWithValue(t, `ratelimit: ClientIPFrom(nil): write how to find the address, such as chimiddleware.ClientIPFromXFF("192.0.2.0/24")`,
		func() { ratelimit.ClientIPFrom(nil) })
}

// The Forwarded field of RFC 7239 is never read, however it is written: chi has nothing
// that would say whom to believe.
func TestForwardedIsNeverRead(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		`for="[2001:db8::1]:4711"`, `For=1.2.3.4`, `for=unknown`, `for=_x`, `for="1.2.3.4, 9.9.9.9"`,
		`proto=https;by=203.0.113.43`, `for=1.2.3.4;for=5.6.7.8`, `for=1.2.3.4, for=5.6.7.8`,
	} {
		got, err := keyOf(t, ratelimit.ClientIP, nil, "192.0.2.1:1", http.Header{"Forwarded": {value}})
		require.NoError(t, err)
		assert.Equal(t, "192.0.2.1", got, value)
		_, err = keyOf(t, ratelimit.ClientIP, ratelimit.ClientIPFrom(chimiddleware.ClientIPFromXFF("192.0.2.0/24")), "192.0.2.1:1", http.Header{"Forwarded": {value}})
		require.ErrorIs(t, err, ratelimit.ErrNoKey, value)
	}
}

func TestIPOptions(t *testing.T) {
	t.Parallel()
	for bits, want := range map[int]string{
		0: "2001:db8:1:2::/64", 48: "2001:db8:1::/48", 56: "2001:db8:1::/56", 64: "2001:db8:1:2::/64", 128: "2001:db8:1:2:3:4:5:6/128",
	} {
		key := ratelimit.IPOptions{Bits: bits}
		for _, f := range []ratelimit.KeyFunc{key.ClientIP(), key.PeerIP()} {
			got, err := keyOf(t, f, nil, "[2001:db8:1:2:3:4:5:6%eth0]:1", nil)
			require.NoError(t, err)
			assert.Equal(t, want, got)
			got, err = keyOf(t, f, nil, "[::ffff:192.0.2.1]:1", nil)
			require.NoError(t, err)
			assert.Equal(t, "192.0.2.1", got, "of any length: it is no IPv6")
		}
	}
	for _, bits := range []int{-1, 1, 47, 129} {
		want := fmt.Sprintf("ratelimit: IPOptions: Bits %d: write from 48 to 128, or 0 for 64", bits)
		assert.PanicsWithValue(t, want, func() { ratelimit.IPOptions{Bits: bits}.ClientIP() })
		assert.PanicsWithValue(t, want, func() { ratelimit.IPOptions{Bits: bits}.PeerIP() })
	}

	for _, peer := range []string{"@", "", "/run/client.sock", "@abstract"} {
		for _, f := range []ratelimit.KeyFunc{ratelimit.ClientIP, ratelimit.PeerIP} {
			_, err := keyOf(t, f, nil, peer, nil)
			require.ErrorIs(t, err, ratelimit.ErrNoKey, peer)
		}
		got, err := keyOf(t, ratelimit.IPOptions{Unix: "local"}.ClientIP(), nil, peer, nil)
		require.NoError(t, err)
		assert.Equal(t, "local", got)
	}
	_, err := keyOf(t, ratelimit.IPOptions{Unix: "local"}.ClientIP(), nil, "localhost:80", nil)
	require.ErrorIs(t, err, ratelimit.ErrNoKey, "that is no Unix socket")
}

// What net/http says of the peers of a real Unix socket.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	for _, unix := range []string{"", "local"} {
		path := filepath.Join(t.TempDir(), "s")
		listener, err := net.Listen("unix", path)
		require.NoError(t, err)
		l := limiter(t, ratelimit.Config{Observe: func(ratelimit.Event) {}, Rules: []ratelimit.Rule{
			{Name: "per_ip", Key: ratelimit.IPOptions{Unix: unix}.ClientIP(), Limits: []policy.Limit{policy.PerHour(1)}}}})
		server := &http.Server{Handler: l.Handler(http.HandlerFunc(ok))}
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		client, err := net.Dial("unix", path)
		require.NoError(t, err)
		_, err = fmt.Fprint(client, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		require.NoError(t, err)
		answer := new(bytes.Buffer)
		_, err = answer.ReadFrom(client)
		require.NoError(t, err)
		_ = client.Close()
		want := map[string]string{"": "HTTP/1.1 400 ", "local": "HTTP/1.1 200 "}[unix]
		assert.True(t, strings.HasPrefix(answer.String(), want), answer.String())
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	}
}

// spoofs are forty ways for a client to claim that it is somebody else.
func spoofs() []http.Header {
	const victim = "198.51.100.7"
	values := func(v ...string) []string { return v }
	var all []http.Header
	for _, name := range []string{
		"X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP", "X-Client-IP",
		"Fastly-Client-IP", "X-Azure-ClientIP", "CloudFront-Viewer-Address", "X-Cluster-Client-IP",
		"X-Originating-IP", "X-Remote-Addr", "Via", "X-ProxyUser-Ip", "WL-Proxy-Client-IP",
	} {
		value := victim
		switch name {
		case "Forwarded":
			value = "for=" + victim
		case "CloudFront-Viewer-Address":
			value += ":443"
		}
		all = append(all, http.Header{name: values(value)})
	}
	for _, lines := range [][]string{
		{victim + ", 10.0.0.9"}, {"10.0.0.9, " + victim}, {victim, "10.0.0.9"}, {"10.0.0.9", victim},
		{victim + "," + victim + "," + victim}, {"::ffff:" + victim}, {"::ffff:c633:6407"}, {victim + "%eth0"},
		{"2001:db8::7%1"}, {victim + ":80"}, {"[" + victim + "]"}, {"[2001:db8::7]:80"}, {"unknown"}, {"_hidden"},
		{""}, {",,,"}, {victim + ","}, {"," + victim}, {" " + victim + " \t"}, {victim + "\x00"}, {"127.0.0.1"}, {"::1"},
		{"0.0.0.0"}, {strings.Repeat(victim+", ", 500) + victim},
	} {
		all = append(all, http.Header{"X-Forwarded-For": lines})
	}
	return append(all, http.Header{
		"X-Forwarded-For": values(victim), "Forwarded": values("for=" + victim), "X-Real-IP": values(victim),
		"CF-Connecting-IP": values(victim), "True-Client-IP": values(victim),
	})
}

// No header fields give a client a key of its choosing: directly, past a configured
// proxy, and through one or two of them that append or overwrite as proxies do.
func TestSpoofTable(t *testing.T) {
	t.Parallel()
	const attacker = "203.0.113.66"
	add := func(h http.Header, name, value string) { h[name] = append(h[name], value) }
	join := func(h http.Header, name, value string) {
		if lines := h[name]; len(lines) > 0 {
			lines[len(lines)-1] += ", " + value
		} else {
			h[name] = []string{value}
		}
	}
	const xff, real = "X-Forwarded-For", "X-Real-Ip"
	trusted := chimiddleware.ClientIPFromXFF("10.0.0.0/8")
	realIP := chimiddleware.ClientIPFromHeader("X-Real-IP", "10.0.0.0/8")
	ways := map[string]struct {
		chain func(http.Handler) http.Handler
		peer  string
		proxy func(http.Header)
	}{
		"directly":                             {nil, attacker, nil},
		"directly, peers configured":           {chimiddleware.ClientIPFromRemoteAddr, attacker, nil},
		"past the proxies":                     {trusted, attacker, nil},
		"past the proxy's header":              {realIP, attacker, nil},
		"through a proxy that adds a line":     {trusted, "10.0.0.1", func(h http.Header) { add(h, xff, attacker) }},
		"through a proxy that appends":         {trusted, "10.0.0.1", func(h http.Header) { join(h, xff, attacker) }},
		"through a proxy that writes IPv6":     {trusted, "10.0.0.1", func(h http.Header) { join(h, xff, "::ffff:"+attacker) }},
		"through two proxies":                  {trusted, "10.0.0.1", func(h http.Header) { join(h, xff, attacker); add(h, xff, "10.0.0.2") }},
		"through a proxy that overwrites":      {realIP, "10.0.0.1", func(h http.Header) { h[real] = []string{attacker} }},
		"through a proxy that adds its header": {realIP, "10.0.0.1", func(h http.Header) { add(h, real, attacker) }},
		"through a proxy, counted":             {chimiddleware.ClientIPFromXFFTrustedProxies(1), "10.0.0.1", func(h http.Header) { join(h, xff, attacker) }},
		"through two proxies, counted":         {chimiddleware.ClientIPFromXFFTrustedProxies(2), "10.0.0.1", func(h http.Header) { join(h, xff, attacker); join(h, xff, "10.0.0.2") }},
	}
	require.Len(t, spoofs(), 40)
	for name, way := range ways {
		for _, wrapped := range []bool{false, true} {
			t.Run(fmt.Sprint(name, wrapped), func(t *testing.T) {
				t.Parallel()
				chain := way.chain
				if chain == nil && wrapped {
					t.Skip("there is nothing to wrap")
				}
				if wrapped {
					chain = ratelimit.ClientIPFrom(chain)
				}
				for _, spoof := range spoofs() {
					fields := http.Header{}
					for name, lines := range spoof {
						fields[http.CanonicalHeaderKey(name)] = lines
					}
					if way.proxy != nil {
						way.proxy(fields)
					}
					got, err := keyOf(t, ratelimit.ClientIP, chain, way.peer+":4711", fields)
					require.NoError(t, err, spoof)
					assert.Equal(t, attacker, got, spoof)
				}
			})
		}
	}
}

// A forwarding field that nobody was configured to read is told, once. It cannot run
// beside other tests, since it replaces the default logger.
func TestForwardingFieldIsWarnedOf(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	send := func(chain func(http.Handler) http.Handler, fields http.Header) {
		_, _ = keyOf(t, ratelimit.ClientIP, chain, "10.0.0.1:1", fields)
	}
	found := http.Header{"X-Forwarded-For": {"203.0.113.9"}}
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP", "CloudFront-Viewer-Address"} {
		ratelimit.ForgetWarnings()
		log.Reset()
		send(nil, nil)
		send(chimiddleware.ClientIPFromXFF("10.0.0.0/8"), found)
		send(ratelimit.ClientIPFrom(chimiddleware.ClientIPFromXFF("10.0.0.0/8")), found)
		send(ratelimit.ClientIPFrom(chimiddleware.ClientIPFromXFF("10.0.0.0/8")), http.Header{name: {"s3cret"}})
		require.Empty(t, log.String())
		for range 3 {
			send(nil, http.Header{name: {"s3cret"}})
		}
		assert.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
		assert.Contains(t, log.String(), "level=WARN")
		assert.Contains(t, log.String(), "field="+http.CanonicalHeaderKey(name))
		assert.Contains(t, log.String(), "ratelimit.ClientIPFrom")
		assert.NotContains(t, log.String(), "s3cret")
	}
}

func TestHeaderThatRequestsNeverHave(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"host", "Host", "transfer-encoding", "Trailer"} {
		assert.Panics(t, func() { ratelimit.Header(name) }, name)
	}
	assert.PanicsWithValue(t, `ratelimit: Header("Host"): net/http keeps this field out of Request.Header: write a KeyFunc of your own`,
		func() { ratelimit.Header("host") })
}
