package middleware_test

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
)

// FuzzClientIP holds the key of a client to a reading of the hops that does it
// with package net and string operations alone: whom nobody trusts says nothing,
// and what is no address is no key.
func FuzzClientIP(f *testing.F) {
	for _, remote := range []string{
		"192.0.2.1:1234", "10.0.0.1:80", "[2001:db8:f::1]:443", "[fe80::1%eth0]:1", "[::ffff:10.0.0.1]:1", "@", "", "/run/app.sock", "10.0.0.1", "2001:db8::1", "10.0.0.1:http", "[10.0.0.1]:1", "[10.0.0.1:1",
	} {
		for how := range uint8(5) {
			f.Add(how+130, uint8(16), remote, "", "203.0.113.7, 203.0.113.9", "for=198.51.100.1")
			f.Add(how, uint8(16), remote, "203.0.113.9", "203.0.113.7", "for=198.51.100.1")
		}
	}
	for _, xff := range []string{
		"", ",", "198.51.100.7, 203.0.113.9", "198.51.100.7\n203.0.113.9", "203.0.113.9, 10.0.0.2", "203.0.113.9, unknown, 10.0.0.2", "2001:db8:1:2:3:4:5:6%25en0",
		"::ffff:203.0.113.9, ::ffff:10.0.0.2", "203.0.113.9:4711", "[2001:db8::1]", "2001:DB8::0001", "203.0.113.009", "0x7f.1", " \t203.0.113.9\u00a0", "::ffff:102:304%1", "fe80::1%, 10.0.0.3", "1.2.3.4%0",
	} {
		f.Add(uint8(0), uint8(0), "10.0.0.1:80", xff, xff, xff)
		f.Add(uint8(1), uint8(8), "192.0.2.1:80", xff, xff, xff)
		f.Add(uint8(2), uint8(80), "10.0.0.1:80", xff, xff, xff)
	}
	trusted := []string{"10.0.0.0/8", "2001:db8:f::/48"}
	chains := []func(http.Handler) http.Handler{
		chimiddleware.ClientIPFromXFF(trusted...),
		chimiddleware.ClientIPFromXFFTrustedProxies(2),
		chimiddleware.ClientIPFromHeader("X-Real-IP", trusted...),
		chimiddleware.ClientIPFromRemoteAddr,
		nil,
	}
	f.Fuzz(func(t *testing.T, how, width uint8, remote, xff, real, forwarded string) {
		if _, zone, _ := strings.Cut(remote, "%"); strings.Trim(zone, "]:.0123456789abcdefghijklmnopqrstuvwxyz") != "" || strings.Count(zone, "]")+strings.Count(zone, ":") > 2 {
			t.Skip("no system has such a zone")
		}
		bits, sought := 48+int(width)%81, how >= 128
		chain := chains[int(how)%len(chains)]
		if chain != nil && sought {
			chain = ratelimit.ClientIPFrom(chain)
		}
		fields := http.Header{"X-Forwarded-For": strings.Split(xff, "\n"), "X-Real-Ip": strings.Split(real, "\n"), "Forwarded": {forwarded}, "True-Client-Ip": {xff}}
		hops := naiveHops(strings.ReplaceAll(xff, "\n", ","))
		peer, sure := naivePeer(remote)

		var client net.IP
		switch int(how) % len(chains) {
		case 0:
			client = peer
			if naiveTrusted(peer) {
				client = nil
				for i := len(hops) - 1; i >= 0; i-- {
					if client = naiveAddr(hops[i]); client == nil || !naiveTrusted(client) {
						break
					}
					client = nil
				}
			}
		case 1:
			if len(hops) >= 2 {
				client = naiveAddr(hops[len(hops)-2])
			}
		case 2:
			client = peer
			if naiveTrusted(peer) {
				client = naiveAddr(real[strings.LastIndex(real, "\n")+1:])
			}
		case 3:
			client = peer
		}
		if client == nil && (chain == nil || !sought) {
			client = peer
		}
		key, err := keyOf(t, ratelimit.IPOptions{Bits: bits}.ClientIP(), chain, remote, fields)
		want := naiveKey(client, bits)
		switch {
		case err != nil:
			require.ErrorIs(t, err, ratelimit.ErrNoKey)
			require.Empty(t, key)
			require.True(t, want == "" || !sure, "%v, and it is %s", err, want)
		case sure:
			require.Equal(t, want, key)
		default: // readers differ on what such a peer is
			require.Contains(t, []string{want, naiveKey(peer, bits), naiveKey(naiveAddr(remote), bits)}, key)
		}
		local, _ := keyOf(t, ratelimit.IPOptions{Bits: bits, Unix: "local"}.ClientIP(), chain, remote, fields)
		if local != key { // no header field names a socket
			require.Equal(t, "local", local)
			require.True(t, remote == "" || remote[0] == '@' || remote[0] == '/')
			require.False(t, sought && chain != nil)
		}

		key, err = keyOf(t, ratelimit.IPOptions{Bits: bits}.PeerIP(), chain, remote, fields)
		if want = naiveKey(peer, bits); sure || err == nil {
			require.Equal(t, want, key)
		}
	})
}

// naiveHops are the entries of a list, without those that are empty.
func naiveHops(list string) (hops []string) {
	for _, hop := range strings.Split(list, ",") {
		if hop = strings.TrimSpace(hop); hop != "" {
			hops = append(hops, hop)
		}
	}
	return hops
}

// naiveAddr is an address without its zone, or nil.
func naiveAddr(s string) net.IP {
	host, zone, zoned := strings.Cut(s, "%")
	if zoned && (zone == "" || !strings.Contains(host, ":")) {
		return nil
	}
	return net.ParseIP(host)
}

// naivePeer is the address of a peer. It is not sure of one that net/http does not
// write like that.
func naivePeer(remote string) (ip net.IP, sure bool) {
	if !strings.ContainsAny(remote, ":.") {
		return nil, true
	}
	if ip := naiveAddr(remote); ip != nil {
		return ip, true
	}
	colon := strings.LastIndexByte(remote, ':')
	if colon < 0 {
		return nil, true
	}
	host, port := remote[:colon], remote[colon+1:]
	n, err := strconv.ParseUint(port, 10, 16)
	inner := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	bracketed := host == "["+inner+"]"
	ip = naiveAddr(inner)
	sure = err == nil && strconv.FormatUint(n, 10) == port && bracketed == strings.Contains(inner, ":") && (bracketed || host == inner) && !strings.ContainsAny(inner, "[]") ||
		ip == nil
	return ip, sure
}

func naiveTrusted(ip net.IP) bool {
	if four := ip.To4(); four != nil {
		return four[0] == 10
	}
	return len(ip) == 16 && string(ip[:6]) == "\x20\x01\x0d\xb8\x00\x0f"
}

// naiveKey is the key of an address.
func naiveKey(ip net.IP, bits int) string {
	switch {
	case ip == nil:
		return ""
	case ip.To4() != nil:
		return ip.To4().String()
	}
	mask := net.CIDRMask(bits, 128)
	return (&net.IPNet{IP: ip.Mask(mask), Mask: mask}).String()
}
