package policy

import (
	"context"
	"fmt"
)

// A Store counts. It takes the charges of a request, all or none.
//
// The contract, which package storetest holds every store to:
//
//  1. A Take is all or none within a partition: when one charge is refused, no
//     state changes, except under limits that ask for it (7).
//  2. All charges of one partition are decided in one round trip, atomically,
//     whatever their algorithms. A store that is one node so decides all
//     charges of a request.
//  3. Across partitions a refused Take is undone; meanwhile it may have refused
//     others.
//  4. The Store owns the clock: processes whose clocks differ decide alike.
//  5. RetryAfter is exact: a lone client that waits that long is admitted; one
//     microsecond less, and it is not.
//  6. Charges of one request on the same state are summed first.
//  7. A limit with CountRefused also charges its own refusals, up to twice its
//     capacity.
//  8. Units beyond what a limit can ever hold are Never, without RetryAfter. What
//     a scaled limit can hold is that of the whole one: see [Limit.Scaled].
//  9. Peek changes nothing, and answers as Take would.
//  10. Settle never refuses: it may exceed the limit, or give back. It goes into
//     the window that was charged, and a bucket gives back only what has not
//     refilled since. It counts once per ticket, however often it is sent
//     within a minute.
//  11. State lives as long as it can matter and not much longer; no key lives
//     forever.
//  12. An error means unknown, never refused. A Take is sent at most once; only
//     replies that prove that nothing ran are followed up, within the context's
//     deadline. A Settle may be sent again, for ten seconds.
//  13. A Take whose caller has gone is given back when its reply arrives.
//  14. A slot whose holder died comes free within one lease. A slot whose
//     holder reaches the Store stays its own, however long the request; one
//     that was lost all the same is reported to its holder.
//  15. A full slot with room in its queue means queued: the request's other
//     charges are held, the grant takes the slot, and leaving gives the rest
//     back. Waiters are admitted in arrival order, are leased like holders, and
//     are bounded. A request meets at most one queue.
//  16. A Lockout's failures while blocked change nothing.
//  17. Changed numbers keep the usage; a changed algorithm or window starts
//     afresh.
//  18. Keys are opaque bytes: no key, however odd, collides with another or
//     leaves its partition; one request's fault never harms another's.
//  19. A Store is safe for concurrent use, holds no lock across I/O, and stops
//     its goroutines on Close.
type Store interface {
	// Take asks for the charges and writes what was decided to d. The error is
	// nil whenever there is a decision, a refusal included. Otherwise nothing is
	// known: the charges may or may not have been taken, and d is of no use.
	//
	// The store keeps neither charges nor d after it returns. The ticket names
	// the Take for a later Settle.
	Take(ctx context.Context, ticket Ticket, charges []Charge, d *Decision) error

	// Wait waits for the slot that the ticket was Queued for by a Take of the
	// charge, and renews its place meanwhile. The result is Allowed once the
	// ticket holds the slot, and Refused if it has lost its place: its lease had
	// ended, or it was settled or reset. When the context ends first the error is
	// the context's, and the ticket keeps its place for a lease: settle it, and
	// what else the Take took, to zero.
	Wait(ctx context.Context, ticket Ticket, charge Charge) (Result, error)

	// Renew renews the leases of slots, and of places in queues, as many as there
	// are: of many tickets at once. It writes to each how it stands. One fault
	// leaves the results of all Unknown that it may have kept from the store, and
	// is the error. A charge of another limit than a [Concurrency] is a fault, here
	// and for Wait ([CheckSlot]).
	Renew(ctx context.Context, renewals []Renewal) error

	// Settle corrects charges of an earlier Take. It counts once per ticket. A
	// slot that is settled to zero comes free, and so does a place in a queue,
	// whatever was settled by that ticket before; and a Settle of slots alone does
	// not keep a later one from counting.
	Settle(ctx context.Context, ticket Ticket, settlements []Settlement) error

	// Peek answers as Take would, and takes nothing.
	Peek(ctx context.Context, charges []Charge, d *Decision) error

	// Reset forgets the states that the charges name. Units do not matter.
	Reset(ctx context.Context, charges []Charge) error

	// Close ends what the store started. Calls after it answer ErrClosed. A
	// client that was handed to the store stays the caller's to close.
	Close() error
}

// A Renewal asks for a lease to be renewed.
type Renewal struct {
	// Ticket is that of the Take.
	Ticket Ticket

	// Charge is the charge as it was taken.
	Charge Charge

	// Result is Allowed if the ticket holds its slot, Queued if it waits for it,
	// and Refused if it has lost it. Renew sets it.
	Result Result
}

// A Settlement corrects one charge of a Take that was allowed or queued.
type Settlement struct {
	// Charge is the charge as it was taken.
	Charge Charge

	// Receipt is that of the charge's Result.
	Receipt Receipt

	// Total is what the charge should have taken. Zero gives it back whole, and
	// frees a slot.
	Total int64
}

// CheckSettlements returns an error unless a store can take the settlements, as
// [CheckCharges] does for charges.
func CheckSettlements(settlements []Settlement) error {
	if len(settlements) > MaxCharges {
		return fmt.Errorf("policy: %d settlements in one request: write at most %d", len(settlements), MaxCharges)
	}
	for i := range settlements {
		if err := settlements[i].Charge.check(i); err != nil {
			return err
		}
		if settlements[i].Total < 0 {
			return fmt.Errorf("policy: settlement %d (%s): negative total: zero gives all back", i, settlements[i].Charge.Scope)
		}
	}
	return nil
}
