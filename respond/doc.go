// Package respond says what a client is told about its limits: header fields
// on every response, and refusals.
//
// A [Style] is both. Its zero value writes X-RateLimit fields and refuses with
// status 429, Retry-After and an RFC 9457 problem. What it tells comes from a
// [Report], which holds a [Standing] for each limit that a request met and, if
// it was refused, the [Denial].
//
// Nothing that a client sends, and no error's text, reaches a header field or
// a body from here: fields hold numbers, times, and the names of limiters,
// rules and limits. A cost's parts may have names that depend on the request:
// [Points] reduces them to characters that mean nothing.
package respond
