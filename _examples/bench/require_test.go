package main

import (
	"os"
	"os/exec"
	"testing"
)

// requireRedis skips where there is no redis-server, unless
// STINT_REQUIRE_REDIS=1 says that there has to be one.
func requireRedis(tb testing.TB) {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("STINT_REQUIRE_REDIS") == "1" {
			tb.Fatal(err)
		}
		tb.Skip(err)
	}
}
