package middleware

import (
	"fmt"
	"net/http"
	"net/netip"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
)

// ClientIP is the KeyFunc of the client's IP address: what one of chi's
// ClientIPFrom middlewares found, or else the peer of the connection. It never
// reads a header field by itself, so behind a proxy it needs one of those
// middlewares outside of it; without one, all clients of the proxy share a key.
//
// An IPv4 address is its own key, also where it is written as IPv6
// (::ffff:192.0.2.1). IPv6 addresses are counted by their /64 network, which is
// what one client commonly has, and without zone: "2001:db8::/64". A peer that
// is no IP address, as on a Unix socket, is [ErrNoKey].
func ClientIP(r *http.Request) (string, error) {
	addr := chimiddleware.GetClientIPAddr(r.Context())
	if !addr.IsValid() {
		addr = peer(r.RemoteAddr)
	}
	if !addr.IsValid() {
		return "", fmt.Errorf("%w: the peer %.64q has no IP address", ErrNoKey, r.RemoteAddr)
	}
	var buf [48]byte
	return string(appendNetwork(buf[:0], addr)), nil
}

// peer parses a RemoteAddr: an address with or without a port.
func peer(remote string) netip.Addr {
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		return ap.Addr()
	}
	addr, _ := netip.ParseAddr(remote)
	return addr
}

func appendNetwork(b []byte, addr netip.Addr) []byte {
	addr = addr.Unmap()
	if addr.Is4() {
		return addr.AppendTo(b)
	}
	prefix, _ := addr.Prefix(64) // without zone
	return prefix.AppendTo(b)
}
