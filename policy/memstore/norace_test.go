//go:build !race

package memstore_test

// flood is the number of keys in a flood.
const flood = 10_000_000
