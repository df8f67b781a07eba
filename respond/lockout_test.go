package respond_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// blocked is the standing of a key that a lock-out blocks for about an hour.
func blocked() respond.Standing {
	l := policy.Lockout(2, time.Minute, time.Hour)
	s, _ := l.Settle(policy.State{}, now.UnixMicro(), policy.Receipt{}, 0, 2)
	return respond.Standing{Limiter: "api", Rule: "login.ip", Limit: l, Result: l.Peek(s, now.UnixMicro(), 1)}
}

func TestBlockedDenial(t *testing.T) {
	t.Parallel()
	block, full := blocked(), refused(policy.Lockout(2, time.Minute), 1)
	minute, day := refused(policy.FixedWindow(60, time.Minute), 1), refused(policy.FixedWindow(60, 24*time.Hour), 1)
	tests := []struct {
		name      string
		standings []respond.Standing
		reason    respond.Reason
		binding   respond.Standing
		wait      time.Duration
	}{
		{"alone", []respond.Standing{block}, respond.Blocked, block, block.Result.RetryAfter},
		{"after a shorter wait", []respond.Standing{minute, block}, respond.Blocked, block, block.Result.RetryAfter},
		{"beside a longer wait", []respond.Standing{block, day}, respond.Blocked, block, day.Result.RetryAfter},
		{"never", []respond.Standing{block, refused(policy.PerHour(1), 2)}, respond.CostTooHigh, refused(policy.PerHour(1), 2), 0},
		{"full of tries", []respond.Standing{full}, respond.ConcurrencyExceeded, full, time.Second},
		{"a wait before tries", []respond.Standing{full, minute}, respond.RateLimitExceeded, minute, minute.Result.RetryAfter},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := respond.Deny("", report(tt.standings...))
			assert.Equal(t, tt.reason, d.Reason)
			assert.Equal(t, tt.binding, d.Standing)
			assert.Equal(t, tt.wait, d.RetryAfter)
		})
	}
}

// A lock-out's window is not one that clients are told numbers of.
func TestBlockedFields(t *testing.T) {
	t.Parallel()
	h := http.Header{}
	respond.XRateLimitPerWindow.WriteFields(h, report(blocked(), taken(policy.PerHour(60), 1)))
	assert.Equal(t, http.Header{
		"X-Ratelimit-Limit-Hour": {"60"}, "X-Ratelimit-Remaining-Hour": {"59"}, "X-Ratelimit-Reset-Hour": {"2026-01-12T11:00:00Z"},
	}, h)
}
