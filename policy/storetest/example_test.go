package storetest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/policy/storetest"
)

func memory(_ testing.TB, now func() time.Time) *storetest.Bench {
	return &storetest.Bench{Stores: []policy.Store{memstore.New(memstore.Options{Now: now})}}
}

func ExampleRun() {
	test := func(t *testing.T) { storetest.Run(t, memory) }
	_ = test // func TestStore(t *testing.T) { storetest.Run(t, memory) }
	// Output:
}

func ExampleCompare() {
	test := func(t *testing.T) { storetest.Compare(t, memory, reference(1, nil)) }
	_ = test // func TestStoresAgree(t *testing.T) { storetest.Compare(t, memory, other) }
	// Output:
}

func ExampleCases() {
	c := storetest.Cases()[0]
	fmt.Printf("%d. %s\n", c.Number, c.Sentence[:41])
	fmt.Println(c.Name)
	// Output:
	// 1. A Take is all or none within a partition:
	// a refusal changes nothing, whatever refuses
}
