//go:build race

package faults

import "time"

// underRace tells that the race detector is at work, which makes all that counts time
// many times slower: TestMatrix sends less, and holds to no times.
const (
	underRace   = true
	matrixEvery = 20 * time.Millisecond
)
