// Package redistest is a kit of Redis servers and their faults, for tests: single
// servers, Sentinel and clusters, which are private, and can be killed, restarted,
// frozen, flushed, filled up, made read-only, locked and failed over; and a TCP proxy
// that delays, holds, loses, truncates, resets, corrupts, cuts and counts what passes.
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
