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
// # Endpoints
//
// [Rule].On and Except take patterns, "[METHODS ][HOST]/[PATH]", as http.ServeMux
// has them, and more:
//
//   - Methods are one or a list, "POST,PUT,DELETE /api/". GET covers HEAD. Methods
//     that HTTP does not know match only patterns without a method.
//   - {name} is one segment; {name...} is none or more, and may stand anywhere:
//     "/{any...}/push" covers /push and /a/b/push.
//   - /x/ and /x/{rest...} cover /x and all beneath, /x only itself, and /x/{$}
//     only the path with the slash.
//   - No pattern goes before another: each matches or does not.
//
// A path can be read in several ways: as in URL.Path or as in URL.RawPath, as sent
// or cleaned, with its last slash or without, as chi routes it if a middleware in
// front has changed that, and with [Config].FoldCase in any case. On includes a
// request by any reading, and Except excludes it only by all, so that no spelling
// slips past a limit. A matrix parameter (;x) is part of its segment.
//
// The path is the URL's where the Limiter stands, in chi with what routers were
// mounted at, as in [Endpoint]; within http.StripPrefix it is what is left. Put a
// Limiter behind whatever else rewrites paths, and behind what overrides methods,
// or name the header field in Config.MethodOverride.
//
// # Order of middlewares
//
// Put a Limiter inside of CORS, so that scripts can read its answers, and
// inside of what finds out who the client is (chi's ClientIPFrom functions, or
// your authentication). The response writer is passed on as it is.
package middleware
