package policy

import "time"

// A Decision is what a Store said to the charges of one request.
//
// Its Results are reused: a Store that is given a Decision twice writes to the
// same slice, so that a repeated decision allocates nothing.
type Decision struct {
	// Verdict is Allowed, Queued or Refused. A request is Refused as soon as one
	// of its charges is Refused or Never, and then none was taken. It is Queued
	// if one of them waits for a slot: then all others were taken.
	Verdict Verdict

	// Now is the instant of the decision, by the store's clock.
	Now time.Time

	// Results has one Result per charge, in the order of the charges.
	Results []Result
}

// Binding returns the index of the result that binds the client most, by
// [Result.Tighter], or -1 if there are none.
func (d *Decision) Binding() int {
	binding := -1
	for i := range d.Results {
		if binding < 0 || d.Results[i].Tighter(d.Results[binding]) {
			binding = i
		}
	}
	return binding
}

// RetryAfter returns how long a lone client has to wait until the whole request
// is admitted: the longest wait of its results. It is 0 if the request was
// allowed, can never be, or lacks a slot alone: nobody knows when one comes free.
func (d *Decision) RetryAfter() (longest time.Duration) {
	for i := range d.Results {
		if d.Results[i].Verdict == Never {
			return 0
		}
		longest = max(longest, d.Results[i].RetryAfter)
	}
	return longest
}

// Reset empties the decision for n results.
func (d *Decision) Reset(n int) {
	d.Verdict, d.Now = Unknown, time.Time{}
	if cap(d.Results) < n {
		d.Results = make([]Result, n)
		return
	}
	d.Results = d.Results[:n]
	clear(d.Results)
}
