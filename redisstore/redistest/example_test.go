package redistest_test

import (
	"fmt"
	"testing"

	"github.com/stint-go/stint/redisstore/redistest"
)

func Example() {
	test := func(t *testing.T) {
		srv := redistest.Start(t) // ends with the test
		rdb := srv.Client(t)
		rdb.Set(t.Context(), "greeting", "hello", 0)

		srv.Restart() // a server that comes back empty
		fmt.Println(rdb.Exists(t.Context(), "greeting").Val(), "keys")
	}
	_ = test // func TestRestart(t *testing.T) { ... }
	// Output:
}

func ExampleStartProxy() {
	test := func(t *testing.T) {
		srv := redistest.Start(t)
		proxy := redistest.StartProxy(t, srv.Addr())
		before := proxy.Traffic()
		// ... use a client of proxy.Addr() ...
		fmt.Println(proxy.Traffic().Since(before).RoundTrips, "round trips")
	}
	_ = test // func TestRoundTrips(t *testing.T) { ... }
	// Output:
}
