package middleware

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/stint-go/stint/respond"
)

// An alarm logs the events of failures that nobody observes, at most once a
// second.
type alarm struct {
	next       atomic.Int64 // when it may log again, in nanoseconds since 1970
	suppressed atomic.Int64
}

func (a *alarm) raise(e *Event) {
	now, next := time.Now().UnixNano(), a.next.Load()
	if now < next || !a.next.CompareAndSwap(next, now+int64(time.Second)) {
		a.suppressed.Add(1)
		return
	}
	slog.LogAttrs(context.Background(), slog.LevelWarn, "rate limits: "+e.Kind.String(),
		slog.String("limiter", e.Limiter),
		slog.String("rule", e.Rule),
		slog.String("reason", string(e.Reason)),
		slog.Any("error", e.Err),
		slog.Int64("suppressed", a.suppressed.Swap(0)))
}

// alarming tells faults of the server from those of its clients.
func alarming(kind Kind, reason respond.Reason) bool {
	switch kind {
	case Bypassed, Localized, StoreLost, StoreBack, Overflowed, SettleFailed, RenewFailed, SlotLost:
		return true
	case Refused:
		return reason == respond.StoreUnavailable || reason == respond.Misconfigured
	}
	return false
}
