package middleware

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
)

// ClientIP is the KeyFunc of the client's IP address: what one of chi's
// ClientIPFrom middlewares found or, where none was configured, the peer of the
// connection. It never reads a header field by itself, so behind a proxy it needs
// one of those middlewares outside of it, in [ClientIPFrom]; without one, all
// clients of the proxy share a key.
//
// An IPv4 address is its own key, also where it is written as IPv6
// (::ffff:192.0.2.1). IPv6 addresses are counted by their /64 network, which is
// what one client commonly has, and without zone: "2001:db8::/64". A peer that
// is no IP address, as on a Unix socket, is [ErrNoKey]. [IPOptions] say otherwise.
//
// If a request that falls back to its peer has a field as proxies send, such as
// X-Forwarded-For, that is told to slog's default logger, once in a process.
func ClientIP(r *http.Request) (string, error) { return IPOptions{}.clientIP(r) }

// PeerIP is the KeyFunc of the address of the connection's peer, the nearest proxy
// if there are any, in the form of [ClientIP]. It reads no header field, and does not
// mind what middlewares found. For the health checks of a load balancer, write
// FirstOf(ClientIP, PeerIP): they have no client.
func PeerIP(r *http.Request) (string, error) { return IPOptions{}.peerIP(r) }

// ClientIPFrom wraps one of chi's ClientIPFrom middlewares, so that [ClientIP] knows
// that there is one: a request in which it finds no address, since a header field is
// missing or makes no sense, is ErrNoKey then, and does not count as its proxy's.
//
//	r.Use(ratelimit.ClientIPFrom(chimiddleware.ClientIPFromXFF("192.0.2.0/24")))
//	r.Use(ratelimit.PerIP(policy.PerMinute(60)))
//
// Without it, what the middleware finds counts all the same; but where it finds
// nothing, ClientIP cannot tell that from no middleware, and takes the peer.
func ClientIPFrom(find func(http.Handler) http.Handler) func(http.Handler) http.Handler {
	if find == nil {
		panic(`ratelimit: ClientIPFrom(nil): write how to find the address, such as chimiddleware.ClientIPFromXFF("192.0.2.0/24")`)
	}
	return func(next http.Handler) http.Handler {
		return find(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), soughtKey, true)))
		}))
	}
}

// soughtKey marks a request whose client's address was sought.
var soughtKey any = new(int)

// IPOptions say how an address becomes a key. The zero IPOptions are those of
// [ClientIP] and [PeerIP].
type IPOptions struct {
	// Bits is the length of the IPv6 networks that count as one client: from 48,
	// which many providers give to a site, to 128, an address of its own. Zero means
	// 64. Clients that have shorter prefixes than that can change their key at will.
	Bits int

	// Unix is the key that all peers on Unix sockets share, as they have no address:
	// "local", say. Empty means that a request on one is ErrNoKey, unless a middleware
	// found its client.
	Unix string
}

// ClientIP returns the KeyFunc [ClientIP] with these options. It panics if Bits are
// out of range.
func (o IPOptions) ClientIP() KeyFunc { return o.checked().clientIP }

// PeerIP returns the KeyFunc [PeerIP] with these options. It panics if Bits are out of
// range.
func (o IPOptions) PeerIP() KeyFunc { return o.checked().peerIP }

const (
	defaultBits = 64
	minBits     = 48
	maxBits     = 128
)

func (o IPOptions) checked() IPOptions {
	if o.Bits != 0 && (o.Bits < minBits || o.Bits > maxBits) {
		panic(fmt.Sprintf("ratelimit: IPOptions: Bits %d: write from %d to %d, or 0 for %d", o.Bits, minBits, maxBits, defaultBits))
	}
	return o
}

func (o IPOptions) clientIP(r *http.Request) (string, error) {
	ctx := r.Context()
	if addr := chimiddleware.GetClientIPAddr(ctx); addr.IsValid() {
		return o.network(addr), nil
	}
	if ctx.Value(soughtKey) != nil {
		return "", fmt.Errorf("%w: no client address was found behind the peer %.64q", ErrNoKey, r.RemoteAddr)
	}
	warnOfForwarding(r)
	return o.peerIP(r)
}

func (o IPOptions) peerIP(r *http.Request) (string, error) {
	if addr := peer(r.RemoteAddr); addr.IsValid() {
		return o.network(addr), nil
	}
	if o.Unix != "" && onUnixSocket(r.RemoteAddr) {
		return o.Unix, nil
	}
	return "", fmt.Errorf("%w: the peer %.64q has no IP address", ErrNoKey, r.RemoteAddr)
}

// peer parses a RemoteAddr: an address with or without a port.
func peer(remote string) netip.Addr {
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		return ap.Addr()
	}
	addr, _ := netip.ParseAddr(remote)
	return addr
}

// onUnixSocket tells what net/http says of peers on Unix sockets: "@" of one without
// a name, or nothing, and otherwise its name.
func onUnixSocket(remote string) bool {
	return remote == "" || strings.HasPrefix(remote, "@") || strings.HasPrefix(remote, "/")
}

// network returns the key of an address.
func (o IPOptions) network(addr netip.Addr) string {
	var buf [48]byte
	addr = addr.Unmap() // before it is masked, or all of IPv4 would be one network
	if addr.Is4() {
		return string(addr.AppendTo(buf[:0]))
	}
	bits := o.Bits
	if bits == 0 {
		bits = defaultBits
	}
	prefix, _ := addr.Prefix(bits) // without zone
	return string(prefix.AppendTo(buf[:0]))
}

// forwarding are the fields by which proxies tell of clients.
var forwarding = [...]string{
	"X-Forwarded-For", "Forwarded", "X-Real-Ip", "Cf-Connecting-Ip", "True-Client-Ip",
	"X-Client-Ip", "Fastly-Client-Ip", "X-Azure-Clientip", "Cloudfront-Viewer-Address",
}

var warnedOfForwarding atomic.Bool

// warnOfForwarding warns once of a request that seems to come through a proxy that
// nobody configured.
func warnOfForwarding(r *http.Request) {
	if warnedOfForwarding.Load() {
		return
	}
	for _, name := range forwarding {
		if len(r.Header[name]) > 0 && warnedOfForwarding.CompareAndSwap(false, true) {
			slog.WarnContext(r.Context(), "rate limits: requests carry a forwarding header field, and none is configured to be trusted: "+
				"if they come through a proxy, all its clients share a key; wrap one of chi's ClientIPFrom middlewares in ratelimit.ClientIPFrom",
				slog.String("field", name))
			return
		}
	}
}
