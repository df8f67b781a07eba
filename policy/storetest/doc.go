// Package storetest holds a [policy.Store] to its contract.
//
// [Run] works through a table of cases, each of which is a sentence of the
// contract, and prints the sentence when its case fails. After them come random
// operations, whose every answer must equal that of package policy's own
// transitions, to the unit and to the microsecond. [Compare] does the same with
// two stores at once.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(_ testing.TB, now func() time.Time) *storetest.Bench {
//			return &storetest.Bench{Stores: []policy.Store{New(Options{Now: now})}}
//		})
//	}
//
// Time is the suite's: a store under test decides by the clock it is handed, so
// no case sleeps. A Wait alone goes by real time too, and has up to five seconds to
// see what has changed. What no interface shows, a case cannot see: how many round
// trips a decision costs, whether keys expire, what a dead server does to a
// store. Stores have tests of their own for these.
//
// The environment variable STINT_OPS is the number of random operations of a
// Run or a Compare, 20,000 if unset. They come from a seed that a failure tells,
// and that STINT_SEED sets. Before them rapid makes short runs of 40, whose
// failures it shrinks; its flag -rapid.checks is their number.
package storetest
