//go:build !race

package faults

import "time"

const (
	underRace   = false
	matrixEvery = time.Millisecond // a request in each mode
)
