// Package middleware limits HTTP requests: which ones, whose count, and at what
// cost. It is plain net/http, for chi, http.ServeMux and any other router.
//
// Import it under another name, since chi has a package middleware too:
//
//	import ratelimit "github.com/stint-go/stint/middleware"
//
//	r.Use(ratelimit.PerKey(ratelimit.Header("X-API-Key"), policy.PerMinute(1000)))
//
// A [Rule] says which requests, under whose key, at what cost, with which
// limits, and what happens when the store fails. A [Limiter] is rules over a
// [policy.Store]; [New] makes one from a [Config]. Every rule that a request
// meets must allow it. All limits of a Limiter are asked at once, in one
// round trip, and take all or nothing.
//
// # Stacked Limiters
//
// Limiters that a request meets one after the other act as one. They share a
// ledger in the request's context: when an inner one refuses, what the outer
// ones took is given back; the header fields tell the tightest limit of all;
// and a rule met again under the same key is not counted again. Give stacked
// Limiters one Style, and different names if their limits differ.
//
// # Order of middlewares
//
// Put a Limiter inside of CORS, so that scripts can read its answers, and
// inside of what finds out who the client is (chi's ClientIPFrom functions, or
// your authentication). The response writer is passed on as it is.
package middleware
