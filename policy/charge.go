package policy

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A Charge asks for units of a limit under a key.
type Charge struct {
	// Limit is how much is allowed.
	Limit Limit

	// Scope names the limiter and the rule that charge. State is kept under
	// these names and the limit's.
	Scope Scope

	// Key is whose count it is: opaque bytes.
	Key string

	// Partition is where the state lives: charges of one partition are decided
	// together, all or none. Empty means the key itself. It must depend on the
	// key alone, or one key would be counted in two places.
	Partition string

	// Units is how much is asked. Zero asks for nothing and is always allowed, but
	// where a [Lockout] blocks. Of a concurrency limit a request takes one slot,
	// however many units it asks.
	Units int64
}

// MaxCharges is the most charges that a store takes at once.
const MaxCharges = 64

// ID identifies the state that the charge is counted in, among those of its
// key: 52 bits of a hash over the names of limiter, rule and limit, the
// algorithm and the window or period. It is never zero.
func (c *Charge) ID() uint64 {
	x := c.Limit.id * 0x9e3779b97f4a7c15
	if c.Scope.names != nil {
		x += c.Scope.names.id
	}
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x>>12 | 1<<51
}

// Place returns the charge's partition, or its key if that is empty.
func (c *Charge) Place() string {
	if c.Partition == "" {
		return c.Key
	}
	return c.Partition
}

// SameState reports whether two charges are counted in one state.
func (c *Charge) SameState(d *Charge) bool {
	return c.Key == d.Key && c.ID() == d.ID() && c.Place() == d.Place()
}

// CheckCharges returns an error unless a store can take the charges: at most
// [MaxCharges] of them, with valid limits and no negative units, and one queue
// at most.
func CheckCharges(charges []Charge) error {
	if len(charges) > MaxCharges {
		return fmt.Errorf("policy: %d charges in one request: write at most %d", len(charges), MaxCharges)
	}
	queue := -1
	for i := range charges {
		if err := charges[i].check(i); err != nil {
			return err
		}
		switch {
		case charges[i].Limit.algorithm != AlgorithmConcurrency || charges[i].Limit.also().queue == 0:
		case queue < 0:
			queue = i
		case !charges[i].SameState(&charges[queue]):
			return fmt.Errorf("policy: charges %d (%s) and %d (%s) both have a queue: a request waits in one at most",
				queue, charges[queue].Scope, i, charges[i].Scope)
		}
	}
	return nil
}

func (c *Charge) check(i int) error {
	if c.Units < 0 {
		return fmt.Errorf("policy: charge %d (%s): negative units: give units back with Settle", i, c.Scope)
	}
	if !c.Limit.valid() {
		return fmt.Errorf("policy: charge %d (%s): %w", i, c.Scope, c.Limit.Validate())
	}
	return nil
}

// CheckSlot returns an error unless a charge can be renewed and waited for: it has
// to be valid, and of a concurrency limit.
func CheckSlot(c *Charge) error {
	if err := c.check(0); err != nil {
		return err
	}
	if c.Limit.algorithm != AlgorithmConcurrency {
		return fmt.Errorf("policy: charge of %s (%s): it has no slot to renew or wait for", &c.Limit, c.Scope)
	}
	return nil
}

// ErrClosed is what a Store answers after Close.
var ErrClosed = errors.New("policy: store is closed")

// A Scope names who counts: a limiter and one of its rules. The zero Scope is
// that of a Store used by itself.
type Scope struct{ names *names }

type names struct {
	text string
	id   uint64 // a hash of the names
}

// NewScope returns the scope of a limiter's rule. [CheckName] says which names
// are good.
func NewScope(limiter, rule string) Scope {
	b := binary.AppendUvarint(nil, uint64(len(limiter)))
	b = append(append(b, limiter...), rule...)
	return Scope{&names{text: limiter + "/" + rule, id: hash64(b)}}
}

// String returns "limiter/rule".
func (s Scope) String() string {
	if s.names == nil {
		return ""
	}
	return s.names.text
}
