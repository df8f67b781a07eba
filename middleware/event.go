package middleware

import (
	"strconv"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// An Event is what an operator sees of a decision. But for the key of
// [QuotaReached] it holds nothing of the request, so that it can be counted and
// logged as it is.
type Event struct {
	// Kind says what happened.
	Kind Kind

	// Limiter is the Limiter's name.
	Limiter string

	// Rule is the name of the rule that bound the request most, or that was at
	// fault. It is empty if that was all of them.
	Rule string

	// Limit is the limit that bound the request most. It is the zero Limit if
	// none was asked.
	Limit policy.Limit

	// Reason is why the request was refused; "" if it was not.
	Reason respond.Reason

	// Key is, of QuotaReached, whose quota it is: as the rule's Key says, which is
	// a digest where it is a secret. It is empty in all other events.
	Key string

	// Percent is, of QuotaReached, how much of the quota is used at least: 80 or
	// 100.
	Percent int

	// Node is, of StoreLost and StoreBack, which node of the store, where it has
	// several.
	Node string

	// Reduced tells of a refusal that only the limit's scale made: the whole limit
	// would have had room. Limit is the reduced one.
	Reduced bool

	// Factor is, of Rescaled, what the rule's limits are scaled by from now on: 1
	// if they are whole again.
	Factor float64

	// Waited is how long the request waited in a queue.
	Waited time.Duration

	// Err is what went wrong: in the store, a key, a cost or a choice of limits.
	// It is nil for what is allowed, and for refusals that limits decided, unless
	// others could not be asked. Never show its text to clients.
	Err error
}

// A Kind is the kind of an [Event]. The zero Kind is that of none.
type Kind uint8

const (
	// Allowed: all limits allowed. A request that meets no limit of the Limiter
	// has no event.
	Allowed Kind = iota + 1

	// Refused: the request was refused, for the event's Reason.
	Refused

	// Bypassed: the store failed, and the request was served without its limits, or
	// without some of them.
	Bypassed

	// Abandoned: the request's context had ended before the decision, mostly
	// since the client had gone. The request was neither served nor refused, and
	// what it took was given back.
	Abandoned

	// Overflowed: the store had no room for the key, and counted it together with
	// other new keys of the rule. It comes beside one of the kinds above.
	Overflowed

	// SettleFailed: units could not be given back or corrected, or a slot not
	// freed, which then comes free by itself.
	SettleFailed

	// RenewFailed: slots could not be renewed. They are lost unless a later
	// renewal comes in time.
	RenewFailed

	// QuotaReached: 80 % of a quota are used, or all of it. There is one event of
	// each for a key and a period, in whatever process that was noticed: at the
	// request that took or settled it, or at a later one.
	QuotaReached

	// SlotLost: a request has lost a slot that it holds; see [Lost].
	SlotLost

	// Localized: the store failed, and the request was served by what is counted in
	// memory; see [FailLocal].
	Localized

	// StoreLost: a node of the store has failed, and is not asked any more, but for a
	// probe now and then.
	StoreLost

	// StoreBack: a node that had failed answers again, or another has taken its place.
	StoreBack

	// Rescaled: the limits of a rule are scaled by another factor than at the
	// request before. Each Limiter tells of its rules, at their next request.
	Rescaled
)

// String returns "allowed", "refused" and so on.
func (k Kind) String() string {
	switch k {
	case Allowed:
		return "allowed"
	case Refused:
		return "refused"
	case Bypassed:
		return "bypassed"
	case Abandoned:
		return "abandoned"
	case Overflowed:
		return "overflowed"
	case SettleFailed:
		return "settle failed"
	case RenewFailed:
		return "renew failed"
	case QuotaReached:
		return "quota reached"
	case SlotLost:
		return "slot lost"
	case Localized:
		return "localized"
	case StoreLost:
		return "store lost"
	case StoreBack:
		return "store back"
	case Rescaled:
		return "rescaled"
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// emit hands an event to whoever observes. If nobody does, it must be alarming.
func (l *Limiter) emit(e Event) {
	e.Limiter = l.name
	if l.observe != nil {
		l.observe(e)
		return
	}
	l.alarm.raise(&e)
}
