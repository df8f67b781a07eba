package policy

// A State is what a store keeps of one limit under one key: what was used, and
// when. It never holds the limit's own numbers, so that a changed number
// applies to the usage there is.
//
// The zero State is that of a key never seen. Instants are microseconds since
// 1970 by the store's clock.
type State struct {
	// At is the instant of the last change. A state's clock never runs
	// backwards: a transition asked about an earlier instant decides as of At.
	At int64

	// Until is the instant from which nothing of the state matters any more,
	// by the numbers it was last changed under. From then on it is as good as
	// zero, and a store may forget it.
	Until int64

	// A, B and C are the algorithm's own numbers; its file says which.
	A, B, C int64

	// Log holds the entries of a sliding log, oldest first. A transition
	// appends to it in place: a State with a log has one successor.
	Log []Entry

	// Leases holds the slots of a concurrency limit, and those who wait for one.
	// It has one successor, too.
	Leases []Lease
}

// An Entry of a sliding log: units taken at an instant.
type Entry struct {
	At    int64
	Units int64
}

const (
	// maxInstant bounds stored instants, at the year 2112.
	maxInstant = 1 << 52

	// maxUsed bounds what a Settle may pile up.
	maxUsed = 1 << 50
)
