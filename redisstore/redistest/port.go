package redistest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

const loopback = "127.0.0.1"

// A cluster node takes a second port for its bus, this far above its own.
const busOffset = 10_000

// freePort returns a port that is free, and whose bus port is. Both lie below
// the range that systems choose the ports of outgoing connections from, so that
// nobody takes the port while its server is down.
func freePort(tb testing.TB) int {
	tb.Helper()
	const (
		lowest   = 10_001
		highest  = 22_000
		attempts = 1000
	)
	for range attempts {
		port := lowest + rand.IntN(highest-lowest+1)
		if isFree(port) && isFree(port+busOffset) {
			return port
		}
	}
	tb.Fatalf("redistest: no free port from %d to %d", lowest, highest)
	return 0
}

func isFree(port int) bool {
	l, err := net.Listen("tcp", loopback+":"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
