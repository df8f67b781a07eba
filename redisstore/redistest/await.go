package redistest

import (
	"testing"
	"time"
)

// Await waits for what servers bring about, half a minute at most: then the test fails
// for what was waited for.
func Await(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	const patience = 30 * time.Second
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("redistest: not within %v: %s", patience, what)
		}
	}
}
