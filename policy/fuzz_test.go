package policy_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stint-go/stint/policy"
)

// lastInstant is that of the numbers that states are made of: in 2112.
const lastInstant = 1 << 52

// FuzzTake drives a limit with arbitrary numbers: nothing panics, and what a
// state says stays in bounds and agrees with itself.
func FuzzTake(f *testing.F) {
	f.Add(uint8(0), int64(60), int64(time.Minute), int64(120), []byte{1, 2, 3, 200, 9})
	f.Add(uint8(1), int64(1), int64(time.Millisecond), int64(1), []byte{255, 0, 255})
	f.Add(uint8(2), int64(policy.MaxLog), int64(policy.MaxWindow), int64(1), []byte{7, 7, 7})
	f.Add(uint8(3), int64(policy.MaxUnits), int64(time.Hour), int64(1), []byte{0})
	f.Add(uint8(0), int64(10008), int64(policy.MaxWindow), int64(-1), bytes.Repeat([]byte{0xf1}, 80)) // for a century
	of := []func(int64, time.Duration) policy.Limit{policy.TokenBucket, policy.SlidingWindow, policy.SlidingLog, policy.FixedWindow}
	f.Fuzz(func(t *testing.T, algorithm uint8, n, window, burst int64, ops []byte) {
		l := of[algorithm%4](n, time.Duration(window))
		if algorithm%4 == 0 && burst > 0 {
			l = l.WithBurst(burst)
		}
		if algorithm >= 128 {
			l = l.CountRefused()
		}
		if l.Validate() != nil || len(ops) > 200 {
			return
		}
		var s policy.State
		now := epoch
		for _, op := range ops {
			if now += int64(op>>4) * l.Window().Microseconds() / 7; now >= lastInstant {
				return
			}
			u := int64(op&15) * l.Capacity() / 13
			var r policy.Result
			switch s, r = l.Take(s, now, u); {
			case r.Verdict == policy.Never && u <= l.Capacity():
				t.Fatalf("never, for %d of %d", u, l.Capacity())
			case r.Verdict == policy.Refused:
				at := now + micros(r.RetryAfter)
				if l.Peek(s, at, u).Verdict != policy.Allowed || l.Peek(s, at-1, u).Verdict != policy.Refused {
					t.Fatalf("RetryAfter %v is not exact", r.RetryAfter)
				}
			}
			if r.Used < 0 || r.Used > 2*l.Capacity() || r.Remaining != max(0, l.Capacity()-r.Used) || s.Until < s.At {
				t.Fatalf("%+v leaves %+v", r, s)
			}
			if op%5 == 0 && r.Verdict == policy.Allowed {
				before := l.Peek(s, now, 0).Used
				if s, r = l.Settle(s, now, r.Receipt, u, u/2); r.Used != before-(u-u/2) {
					t.Fatalf("settled %d to %d: used %d, then %d", u, u/2, before, r.Used)
				}
			}
		}
	})
}
