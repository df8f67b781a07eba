package respond

import "net/http"

// A Reason is why a request was refused: a code for programs.
type Reason string

// The reasons.
const (
	RateLimitExceeded   Reason = "rate_limit_exceeded"
	QuotaExceeded       Reason = "quota_exceeded"
	ConcurrencyExceeded Reason = "concurrency_exceeded"
	QueueFull           Reason = "queue_full"
	QueueTimeout        Reason = "queue_timeout"
	Blocked             Reason = "blocked"
	CostTooHigh         Reason = "cost_too_high"
	NoKey               Reason = "no_key"
	InvalidCost         Reason = "invalid_cost"
	InvalidBatch        Reason = "invalid_batch"
	BatchTooLarge       Reason = "batch_too_large"
	BodyTooLarge        Reason = "body_too_large"
	InvalidQuery        Reason = "invalid_query"
	QueryTooComplex     Reason = "query_too_complex"
	UnknownQuery        Reason = "persisted_query_not_found"
	StoreUnavailable    Reason = "store_unavailable"
	Misconfigured       Reason = "misconfigured"
)

// Status returns the HTTP status that goes with the reason: 413 for
// [CostTooHigh] and [BodyTooLarge], 400 for [NoKey], [InvalidCost],
// [InvalidBatch], [BatchTooLarge], [InvalidQuery], [QueryTooComplex] and
// [UnknownQuery], 503 for [StoreUnavailable], 500 for [Misconfigured], and 429
// for all others.
func (r Reason) Status() int {
	switch r {
	case CostTooHigh, BodyTooLarge:
		return http.StatusRequestEntityTooLarge
	case NoKey, InvalidCost, InvalidBatch, BatchTooLarge, InvalidQuery, QueryTooComplex, UnknownQuery:
		return http.StatusBadRequest
	case StoreUnavailable:
		return http.StatusServiceUnavailable
	case Misconfigured:
		return http.StatusInternalServerError
	}
	return http.StatusTooManyRequests
}

// hasLimit tells whether a limit is what the reason is about.
func (r Reason) hasLimit() bool {
	switch r {
	case NoKey, InvalidCost, InvalidBatch, BatchTooLarge, BodyTooLarge, InvalidQuery, QueryTooComplex, UnknownQuery,
		StoreUnavailable, Misconfigured:
		return false
	}
	return true
}
