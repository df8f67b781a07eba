// Package policy says what is allowed: limits as plain values, the arithmetic
// that decides under them, and the contract of the stores that count.
//
// A [Limit] is how much: an algorithm and its numbers. A [Charge] asks for
// units of a limit under a key. A [Store] takes the charges of a request, all
// or none, and answers with a [Decision] that holds one [Result] per charge.
//
//	l := policy.PerMinute(60)
//	l.String()  // "60 per minute"
//
// Every algorithm is a pure transition: [Limit.Take] and [Limit.Settle] map a
// [State], an instant and a number of units to the next State and a Result.
// The transitions use integers only, so that a second implementation, in
// another language and on another machine, can equal them to the unit and to
// the microsecond. They read no clock and take no lock; a Store supplies both.
//
// The package imports the standard library only, and nothing of the network.
package policy
