package policy

import (
	"context"
	"fmt"
	"time"
)

// A Meter tells what was used under quotas, for billing: many a [Store] is one.
//
//	if meter, ok := store.(policy.Meter); ok {
//		usage, err := meter.Usage(ctx, charges)
//	}
//
// It is safe for concurrent use. An error means that nothing is known.
type Meter interface {
	// Usage returns the usage of each charge's quota under its key, as of now by
	// the store's clock. It changes nothing, and units do not matter. A limit that
	// is no [Quota] is an error, and so are more charges than [MaxCharges]. Those of
	// different keys may be read one after the other.
	Usage(ctx context.Context, charges []Charge) ([]Usage, error)

	// SetUsage sets the count of the current period, for an import or after a
	// reconciliation. What is taken at the same time is counted before it, and
	// lost, or after it. It may set more than the limit.
	SetUsage(ctx context.Context, charge Charge, used int64) error
}

// A Usage is what was used under a quota.
type Usage struct {
	// Start and End bound the current period: Start <= now < End.
	Start, End time.Time

	// Used is the count of the current period.
	Used int64

	// PreviousStart is when the period before began. It ended at Start.
	PreviousStart time.Time

	// Previous is the count of the period before. Charges that are settled late
	// still change it.
	Previous int64
}

// Usage returns the usage as of an instant.
func (l Limit) Usage(s State, now int64) Usage {
	l.advance(&s, now)
	period := l.Period()
	start, _ := period.bounds(floorDiv(s.B-1, 1_000_000))
	before, _ := period.bounds(start - 1)
	return Usage{
		Start: time.Unix(start, 0).UTC(), End: time.UnixMicro(s.B).UTC(), Used: s.A,
		PreviousStart: time.Unix(before, 0).UTC(), Previous: s.C,
	}
}

// SetUsage sets the count of the current period, and returns the state after.
func (l Limit) SetUsage(s State, now, used int64) State {
	l.advance(&s, now)
	s.A = min(max(0, used), maxUsed)
	s.Until = l.drainedAt(&s, 0)
	return s
}

// CheckUsage returns an error unless a [Meter] can read the charges' usage, and
// set it.
func CheckUsage(charges []Charge, used int64) error {
	if len(charges) > MaxCharges {
		return fmt.Errorf("policy: usage of %d charges at once: write at most %d", len(charges), MaxCharges)
	}
	if used < 0 {
		return fmt.Errorf("policy: negative usage of %d: write zero or more", used)
	}
	for i := range charges {
		c := &charges[i]
		if err := c.check(i); err != nil {
			return err
		}
		if c.Limit.algorithm != AlgorithmQuota {
			return fmt.Errorf("policy: charge %d (%s): usage of %q, which is a %s: write a charge of a Quota",
				i, c.Scope, c.Limit.Name(), c.Limit.algorithm)
		}
	}
	return nil
}
