package middleware

import "github.com/stint-go/stint/respond"

// A CostError is the error of a [Rule.Cost], or of Costs, that refuses a request
// for what it asks, such as a batch of too many items: with a reason and a sentence
// of its own, where any other error is invalid_cost. The rules beside it are charged
// all the same, and so is the rule itself with what is returned beside the error:
// nothing, or what it costs to have asked.
type CostError struct {
	// Reason is the code for programs. Empty means [respond.InvalidCost].
	Reason respond.Reason

	// Status is the HTTP status that goes with a code of your own, such as 400 or
	// 422, and then there is no Retry-After. Zero, and what is not an error status,
	// means [respond.Reason.Status], which is 429 for codes that it does not know.
	Status int

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

// tell puts what the error says in the place of what its reason does.
func (e *CostError) tell(d *respond.Denial) {
	if e.Detail != "" {
		d.Detail = e.Detail
	}
	if 400 <= e.Status && e.Status <= 599 {
		d.Status, d.RetryAfter, d.Standing = e.Status, 0, respond.Standing{} // no limit refuses
	}
}

// Unwrap returns Err.
func (e *CostError) Unwrap() error { return e.Err }
