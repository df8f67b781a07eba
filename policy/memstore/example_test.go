package memstore_test

import (
	"context"
	"fmt"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

func Example() {
	store := memstore.New(memstore.Options{})
	defer store.Close()

	charges := []policy.Charge{
		{Limit: policy.PerHour(3), Key: "user 7", Units: 1},
		{Limit: policy.PerDay(1000), Key: "workspace 1", Units: 1},
	}
	var d policy.Decision
	for range 4 {
		if err := store.Take(context.Background(), policy.NewTicket(), charges, &d); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.Verdict, d.Results[0].Remaining, d.Results[1].Remaining)
	}
	// Output:
	// allowed 2 999
	// allowed 1 998
	// allowed 0 997
	// refused 0 997
}

func ExampleNew_clock() {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	store := memstore.New(memstore.Options{Now: func() time.Time { return now }})
	defer store.Close()

	charges := []policy.Charge{{Limit: policy.TokenBucket(1, time.Minute), Key: "a", Units: 1}}
	var d policy.Decision
	for range 3 {
		if err := store.Take(context.Background(), policy.NewTicket(), charges, &d); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.Verdict, d.RetryAfter())
		now = now.Add(30 * time.Second)
	}
	// Output:
	// allowed 0s
	// refused 30s
	// allowed 0s
}

func ExampleStore_Settle() {
	store := memstore.New(memstore.Options{})
	defer store.Close()

	ctx, ticket := context.Background(), policy.NewTicket()
	charge := policy.Charge{Limit: policy.PerDay(100), Key: "a", Units: 10}
	var d policy.Decision
	if err := store.Take(ctx, ticket, []policy.Charge{charge}, &d); err != nil {
		fmt.Println(err)
		return
	}
	// The request turned out to cost 4.
	settlement := policy.Settlement{Charge: charge, Receipt: d.Results[0].Receipt, Total: 4}
	if err := store.Settle(ctx, ticket, []policy.Settlement{settlement}); err != nil {
		fmt.Println(err)
		return
	}
	if err := store.Peek(ctx, []policy.Charge{charge}, &d); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(d.Results[0].Used)
	// Output: 4
}

func ExampleStore_Wait() {
	store := memstore.New(memstore.Options{})
	defer store.Close()

	ctx := context.Background()
	charges := []policy.Charge{{Limit: policy.Concurrency(1).WithQueue(8, 30*time.Second), Key: "exports", Units: 1}}
	first, second := policy.NewTicket(), policy.NewTicket()
	var d policy.Decision
	for _, ticket := range []policy.Ticket{first, second} {
		if err := store.Take(ctx, ticket, charges, &d); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.Verdict)
	}
	go func() { // the first is done
		_ = store.Settle(ctx, first, []policy.Settlement{{Charge: charges[0]}})
	}()
	r, err := store.Wait(ctx, second, charges[0])
	fmt.Println(r.Verdict, err)
	// Output:
	// allowed
	// queued
	// allowed <nil>
}
