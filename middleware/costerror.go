package middleware

import "github.com/stint-go/stint/respond"

// A CostError is the error of a [Rule.Cost], or of Costs, that refuses a request
// for what it asks, such as a batch of too many items: with a reason and a sentence
// of its own, where any other error is invalid_cost. The rules beside it are charged
// all the same, and so is the rule itself with what is returned beside the error:
// nothing, or what it costs to have asked.
type CostError struct {
	// Reason is the code for programs. It decides the status, by
	// [respond.Reason.Status]: 429 for a code of your own. Empty means
	// [respond.InvalidCost].
	Reason respond.Reason

	// Detail is a sentence for people, which is sent to the client as it is.
	// Empty means the reason's.
	Detail string

	// Err is what went wrong. It goes to the [Event], and never to the client.
	// It may be nil.
	Err error
}

// Error returns the reason, and what went wrong if that is known.
func (e *CostError) Error() string {
	reason := e.Reason
	if reason == "" {
		reason = respond.InvalidCost
	}
	if e.Err == nil {
		return string(reason)
	}
	return string(reason) + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *CostError) Unwrap() error { return e.Err }
