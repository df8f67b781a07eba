package middleware

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/stint-go/stint/respond"
)

// defaultMaxBytes is how much a [Batch] reads of a body.
const defaultMaxBytes = 1 << 20

// Items returns a Cost for [Rule.Cost] that counts the items of a JSON array in
// the request's body, at most max of them: of {"events":[…]} for the field
// "events", or of a body that is itself an array for "". It is the Cost of
// Batch{Field: field, Max: max}; see [Batch].
//
//	{Name: "requests", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(60)}},
//	{Name: "events", Key: apiKey, Limits: []policy.Limit{policy.PerDay(100_000)}, Cost: ratelimit.Items("events", 100)},
//
// A body that is refused, as no batch or as too large a one, is refused for the
// rule that counts its items. The rules beside it are charged all the same: a
// malformed batch counts as one request for the rate.
func Items(field string, max int) func(*http.Request) (int64, error) {
	return Batch{Field: field, Max: max}.Cost
}

// A Batch says where a request's body has the items that it costs. Its Cost
// makes it the cost of a rule. The zero Batch counts the items of a body that is
// a JSON array, however many. It is safe for concurrent use.
type Batch struct {
	// Field names the field of the body's object whose value is the array. Empty
	// means that the body is the array.
	Field string

	// Max is the most items that a batch may have. Zero or less means that only
	// MaxBytes and the rule's limits bound them.
	Max int

	// MaxBytes is the most bytes that a body may have, and that are kept of it in
	// memory. Zero or less means 1 MiB.
	MaxBytes int64

	// Single takes an object that is no batch for one item: one without the
	// field, or any if Field is empty.
	Single bool
}

// Cost counts the items of the request's body; an empty array has none. What it
// does not take, it refuses with a [CostError]:
//
//   - batch_too_large, 400: there are more items than Max;
//   - invalid_batch, 400: the body is missing, is not one JSON value, or has no
//     such array. A field that is there twice, or once more in upper or lower
//     case, is no better, since handlers differ in which of them they read;
//   - body_too_large, 413: the body is longer than MaxBytes, or than an
//     http.MaxBytesReader in front of the Limiter allows. If its Content-Length
//     says so, it is not read.
//
// Any other error is that of a body which could not be read to its end.
//
// In what it accepts, encoding/json finds as many items. Whoever reads the body
// afterwards finds it whole: r.Body is replaced by one that keeps the bytes, and
// counts them once for all rules and Limiters that ask. In a copy that was made
// of the request before, the body is used up; and what a handler has read before
// the first Cost, as by [Limiter.Check], is not counted. A request without a
// body, such as a GET, is no batch: let it pass the rule with Skip.
//
// A body that is not JSON and has a Content-Encoding, such as gzip, is left as it
// is and counts as one item: what inflates bodies must stand in front of the
// Limiter, and refuse what it does not know. JSON is counted whatever that field
// says, so that who only names a coding has no cheaper batch.
func (b Batch) Cost(r *http.Request) (int64, error) {
	limit := b.MaxBytes
	if limit <= 0 {
		limit = defaultMaxBytes
	}
	if r.ContentLength > limit {
		return 0, bodyTooLarge(limit, fmt.Errorf("a Content-Length of %d", r.ContentLength))
	}
	body := keep(r)
	if body == nil {
		return 0, b.invalid(errNoBody)
	}
	n, err := body.items(r.Context(), limit, b.Field)
	tooLong, isTooLong := errors.AsType[*http.MaxBytesError](err)
	_, isInvalid := errors.AsType[batchError](err)
	switch {
	case isTooLong:
		return 0, bodyTooLarge(tooLong.Limit, err)
	case b.Single && errors.Is(err, errNoField):
		return 1, nil
	case isInvalid && encoded(r.Header) && !body.json():
		return 1, nil
	case isInvalid:
		return 0, b.invalid(err)
	case err != nil:
		return 0, fmt.Errorf("the body could not be read: %w", err)
	case b.Max > 0 && n > int64(b.Max):
		return 0, &CostError{
			Reason: respond.BatchTooLarge,
			Detail: fmt.Sprintf("A batch has at most %d items.", b.Max),
			Err:    fmt.Errorf("%d items", n),
		}
	}
	return n, nil
}

func (b Batch) invalid(err error) error {
	want := "The body must be a JSON array."
	switch {
	case b.Field == "" && b.Single:
		want = "The body must be a JSON array, or an object that is one item."
	case b.Single:
		want = fmt.Sprintf("The body must be a JSON object with one array %q, or without it.", b.Field)
	case b.Field != "":
		want = fmt.Sprintf("The body must be a JSON object with one array %q.", b.Field)
	}
	return &CostError{Reason: respond.InvalidBatch, Detail: want, Err: err}
}

func bodyTooLarge(limit int64, err error) error {
	return &CostError{
		Reason: respond.BodyTooLarge,
		Detail: fmt.Sprintf("The body may have at most %d bytes.", limit),
		Err:    err,
	}
}

// encoded tells whether the body is coded, in gzip or the like.
func encoded(h http.Header) bool {
	for _, field := range h["Content-Encoding"] {
		for coding := range strings.SplitSeq(field, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return true
			}
		}
	}
	return false
}
