package policy

import "time"

// A Clock is a [Store] that tells what its clock says, so that what it said can be
// repeated for a moment without asking it again. It is safe for concurrent use, and
// asks nobody.
type Clock interface {
	// Now returns the instant by the store's clock, as far as this process knows.
	Now() time.Time
}
