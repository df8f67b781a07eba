package storetest

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Mutants are given up on sooner than stores.
func init() { patience = time.Second }

// Sentences are those that have cases.
var Sentences = sentences

// Random plays random operations from a seed, and returns where a store
// differed.
func Random(tb testing.TB, seed uint64, ops int, harnesses ...Harness) error {
	tb.Helper()
	for done := 0; done < ops; done += seededRun {
		src := seededSource{rand.New(rand.NewPCG(seed, uint64(done)))}
		if err := play(tb, src, seededRun, harnesses); err != nil {
			return err
		}
	}
	return nil
}
