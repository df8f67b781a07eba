// Package memstore counts in memory: it is the [policy.Store] of one process,
// and the default.
//
//	store := memstore.New(memstore.Options{})
//	defer store.Close()
//
// A Store decides all charges of a request in one step, under the locks of the
// shards that their keys lie in, with one reading of its clock. A repeated
// decision allocates nothing. It starts no goroutine.
//
// # Memory
//
// A Store holds at most [Options.MaxStates] states, one for each limit under
// each key, and about 200 bytes for each. States that have drained are
// forgotten in passing, as new ones come. When there is no room for a new
// state, those that have drained go first, then those that have used the least
// of their capacity; of two alike, the one that has changed longest ago. A state
// that refuses is never forgotten for a new one, so that nobody gets out of a
// refusal by a flood of invented keys, nor is one whose slots somebody holds or
// waits for.
//
// When only such states are left, new keys share one state for each limit of a
// rule, and their results say so ([policy.Result.Overflow]). Of a concurrency
// limit they share the slots and the queue.
//
// Keys and partitions longer than 128 bytes are kept as their SHA-256 digests.
package memstore
