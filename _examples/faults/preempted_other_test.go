//go:build !linux

package faults

// preemptions returns 0: this kernel does not count them by threads.
func preemptions() int64 { return 0 }
