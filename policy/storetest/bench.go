package storetest

import (
	"testing"
	"time"

	"github.com/stint-go/stint/policy"
)

// A Harness makes what a case works on: stores on counts that are empty and
// nobody else's, and that decide by the clock now. The clock stands still
// between a case's steps and may be read at any time. What is to be released
// belongs into tb.Cleanup; the stores themselves are closed by the suite.
//
// A Harness is called once for every case and some hundred times for the random
// operations. It should make little: a prefix for the keys, not a server.
type Harness func(tb testing.TB, now func() time.Time) *Bench

// A Bench is what a case works on.
type Bench struct {
	// Stores count together, each as if in a process of its own. One is enough;
	// cases then cannot see whether processes agree. A case uses them in turn.
	Stores []policy.Store

	// Partitioned tells that the partitions of a request are decided apart
	// (sentence 3), as in a cluster. False means that all charges of a request
	// are decided together.
	Partitioned bool

	// Stall holds back replies to all Stores until resume is called, for the
	// sentence about callers that leave meanwhile. Nil is for stores that answer
	// without waiting, and skips the case.
	Stall func() (resume func())
}
