package policy

import (
	"context"
	"errors"
)

// ErrKey is what an error of a [Store] wraps if it is about the charges and their
// keys alone, such as a key that holds what is not the store's: the store itself is
// well, and so are other keys. It is no reason to ask the store less.
var ErrKey = errors.New("policy: the key cannot be counted")

// Nodes is a [Store] of several nodes that fail one by one, as a cluster is. It is
// safe for concurrent use.
type Nodes interface {
	Store

	// Node names the node that decides about a charge, as far as that is known
	// without asking anybody: an address. It is empty if that is not known, or if
	// there is but one. It is on every request's way, and must be quick.
	Node(c *Charge) string

	// TakeKnown is Take, but for this: if some nodes fail and others answer, what
	// these decided stands. There is an error then, and the decision has a Verdict,
	// which is that of the charges that are known: if it is Allowed or Queued they
	// were taken, and if it is Refused none of them was. The Results of the others
	// are Unknown: they may have been taken or not, and are given back if their
	// answer comes late. If nothing is known, the Verdict is Unknown.
	//
	// Charges of one partition are known together, or not at all.
	TakeKnown(ctx context.Context, ticket Ticket, charges []Charge, d *Decision) error
}

// Instances is a [Store] that counts the processes that share it. It is safe for
// concurrent use.
type Instances interface {
	// Attend counts the caller among the instances of a name, until leave is called
	// or the store is closed. Of an instance that has died the store hears no more,
	// and soon counts it no more.
	//
	// The function instances returns how many there are, the caller included, as last
	// known: while the store is out of reach it says what it said before. It is
	// quick, and 0 if nothing was ever known.
	Attend(name string) (instances func() int, leave func())
}
