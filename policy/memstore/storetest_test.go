package memstore_test

import (
	"testing"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/policy/storetest"
)

// TestContract holds the store to the contract of policy.Store.
func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(_ testing.TB, now func() time.Time) *storetest.Bench {
		s := memstore.New(memstore.Options{MaxStates: 100_000, Now: now})
		return &storetest.Bench{Stores: []policy.Store{s}}
	})
}
