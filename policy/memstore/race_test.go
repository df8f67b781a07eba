//go:build race

package memstore_test

// flood is the number of keys in a flood: fewer under the race detector.
const flood = 1_000_000
