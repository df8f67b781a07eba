// Package redistest starts private Redis servers for tests: single ones,
// clusters, and a TCP proxy that delays, holds, cuts and counts what passes.
//
// Servers listen on the loopback only, keep nothing on disk, and end with the
// test that started them; on Linux they end with the test's process even if
// that crashes.
//
//	srv := redistest.Start(t)
//	rdb := srv.Client(t)
//
// Where neither redis-server nor valkey-server is installed the tests are
// skipped. With STINT_REQUIRE_REDIS=1 in the environment, as in CI, they fail
// instead. It imports testing and is of no use outside of tests.
package redistest
