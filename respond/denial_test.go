package respond_test

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

func TestDeny(t *testing.T) {
	t.Parallel()
	var (
		allowed = taken(policy.FixedWindow(60, time.Minute), 12)
		minute  = refused(policy.FixedWindow(60, time.Minute), 1)
		hour    = refused(policy.FixedWindow(600, time.Hour), 1)
		never   = refused(policy.FixedWindow(60, time.Minute), 61)
		unsaid  = respond.Standing{Result: policy.Result{Verdict: policy.Refused}} // a slot: nobody knows when
	)
	type want struct {
		reason   respond.Reason
		status   int
		standing respond.Standing
		wait     time.Duration
		seconds  int64
	}
	tests := []struct {
		name      string
		reason    respond.Reason
		standings []respond.Standing
		want      want
	}{
		{"of a rate", "", []respond.Standing{allowed, minute}, want{"rate_limit_exceeded", 429, minute, 12_500 * time.Millisecond, 13}},
		{"the longest wait binds", "", []respond.Standing{minute, hour}, want{"rate_limit_exceeded", 429, hour, 1752_500 * time.Millisecond, 1753}},
		{"never binds most", "", []respond.Standing{hour, never}, want{"cost_too_high", 413, never, 0, 0}},
		{"never, whatever the reason", respond.QuotaExceeded, []respond.Standing{never}, want{"quota_exceeded", 429, never, 0, 0}},
		{"too costly, whatever the standing", respond.CostTooHigh, []respond.Standing{minute}, want{"cost_too_high", 413, minute, 0, 0}},
		{"a reason of its own", respond.QuotaExceeded, []respond.Standing{minute}, want{"quota_exceeded", 429, minute, 12_500 * time.Millisecond, 13}},
		{"slots: a suggestion", respond.ConcurrencyExceeded, []respond.Standing{unsaid}, want{"concurrency_exceeded", 429, unsaid, time.Second, 1}},
		{"a queue that is full", respond.QueueFull, []respond.Standing{unsaid}, want{"queue_full", 429, unsaid, time.Second, 1}},
		{"a queue too slow", respond.QueueTimeout, []respond.Standing{unsaid}, want{"queue_timeout", 429, unsaid, time.Second, 1}},
		{"blocked for a while", respond.Blocked, []respond.Standing{minute}, want{"blocked", 429, minute, 12_500 * time.Millisecond, 13}},
		{"blocked for good", respond.Blocked, []respond.Standing{unsaid}, want{"blocked", 429, unsaid, 0, 0}},
		{"no key", respond.NoKey, nil, want{"no_key", 400, respond.Standing{}, 0, 0}},
		{"no cost", respond.InvalidCost, []respond.Standing{allowed}, want{"invalid_cost", 400, respond.Standing{}, 0, 0}},
		{"no batch", respond.InvalidBatch, []respond.Standing{minute}, want{"invalid_batch", 400, respond.Standing{}, 0, 0}},
		{"a large batch", respond.BatchTooLarge, []respond.Standing{minute}, want{"batch_too_large", 400, respond.Standing{}, 0, 0}},
		{"a large body", respond.BodyTooLarge, []respond.Standing{minute}, want{"body_too_large", 413, respond.Standing{}, 0, 0}},
		{"the store failed", respond.StoreUnavailable, []respond.Standing{allowed}, want{"store_unavailable", 503, respond.Standing{}, time.Second, 1}},
		{"misconfigured", respond.Misconfigured, nil, want{"misconfigured", 500, respond.Standing{}, 0, 0}},
		{"nothing said", "", nil, want{"rate_limit_exceeded", 429, respond.Standing{}, time.Second, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := respond.Deny(tt.reason, report(tt.standings...))
			assert.Equal(t, tt.want, want{d.Reason, d.Status, d.Standing, d.RetryAfter, d.Seconds()})
			assert.Equal(t, now, d.Now)
			assert.NotEmpty(t, d.Detail)
			if d.RetryAfter == 0 {
				assert.Zero(t, d.RetryAt())
			} else {
				assert.Equal(t, now.Add(d.RetryAfter+time.Second-1).Truncate(time.Second), d.RetryAt())
			}
		})
	}
}

func TestDenyWithoutAStoresClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := respond.Deny(respond.StoreUnavailable, nil)
		assert.Equal(t, time.Now(), d.Now)
		assert.Equal(t, time.Now().Add(time.Second).UTC(), d.RetryAt())
	})
}

func TestDenialSeconds(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]int64{
		-time.Second:                 0,
		0:                            0,
		1:                            1,
		time.Second - 1:              1,
		time.Second:                  1,
		time.Second + 1:              2,
		2_147_483 * time.Second:      2_147_483,
		2_147_483*time.Second + 1:    2_147_483,
		time.Duration(math.MaxInt64): 2_147_483,
	} {
		assert.Equal(t, want, respond.Denial{RetryAfter: wait}.Seconds(), wait)
	}
}
