package faults

import "syscall"

// preemptions returns how often the kernel took the core from this thread.
func preemptions() int64 {
	const ofThread = 1 // RUSAGE_THREAD
	var u syscall.Rusage
	if err := syscall.Getrusage(ofThread, &u); err != nil {
		return 0
	}
	return u.Nivcsw
}
