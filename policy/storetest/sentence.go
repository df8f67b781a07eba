package storetest

// sentences are those of the contract of policy.Store that a case can hold a
// store to, by their numbers and in its words.
var sentences = map[int]string{
	1:  "A Take is all or none within a partition: when one charge is refused, no state changes, except under limits that ask for it (7).",
	2:  "All charges of one partition are decided in one round trip, atomically, whatever their algorithms. A store that is one node so decides all charges of a request.",
	3:  "Across partitions a refused Take is undone; meanwhile it may have refused others.",
	4:  "The Store owns the clock: processes whose clocks differ decide alike.",
	5:  "RetryAfter is exact: a lone client that waits that long is admitted; one microsecond less, and it is not.",
	6:  "Charges of one request on the same state are summed first.",
	7:  "A limit with CountRefused also charges its own refusals, up to twice its capacity.",
	8:  "Units beyond what a limit can ever hold are Never, without RetryAfter. What a scaled limit can hold is that of the whole one: see [Limit.Scaled].",
	9:  "Peek changes nothing, and answers as Take would.",
	10: "Settle never refuses: it may exceed the limit, or give back. It goes into the window that was charged, and a bucket gives back only what has not refilled since. It counts once per ticket, however often it is sent within a minute.",
	11: "State lives as long as it can matter and not much longer; no key lives forever.",
	12: "An error means unknown, never refused. A Take is sent at most once; only replies that prove that nothing ran are followed up, within the context's deadline. A Settle may be sent again, for ten seconds.",
	13: "A Take whose caller has gone is given back when its reply arrives.",
	14: "A slot whose holder died comes free within one lease. A slot whose holder reaches the Store stays its own, however long the request; one that was lost all the same is reported to its holder.",
	15: "A full slot with room in its queue means queued: the request's other charges are held, the grant takes the slot, and leaving gives the rest back. Waiters are admitted in arrival order, are leased like holders, and are bounded. A request meets at most one queue.",
	16: "A Lockout's failures while blocked change nothing.",
	17: "Changed numbers keep the usage; a changed algorithm or window starts afresh.",
	18: "Keys are opaque bytes: no key, however odd, collides with another or leaves its partition; one request's fault never harms another's.",
	19: "A Store is safe for concurrent use, holds no lock across I/O, and stops its goroutines on Close.",
}
