package redistest

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// requireEnv is the variable that turns a missing server into a failure.
const requireEnv = "STINT_REQUIRE_REDIS"

// binary returns the path of a Redis server, or ends the test.
func binary(tb testing.TB) string {
	tb.Helper()
	if runtime.GOOS == "windows" {
		tb.Skip("SKIPPED: there is no Redis server for Windows; run this test elsewhere")
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const missing = "redis-server is not installed: apt-get install redis-server, brew install redis, or put valkey-server on the PATH"
	if os.Getenv(requireEnv) == "1" {
		tb.Fatal(missing + " (" + requireEnv + "=1)")
	}
	tb.Skip("SKIPPED: " + missing + "; " + requireEnv + "=1 makes this a failure")
	return ""
}
