package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
)

func TestLimitString(t *testing.T) {
	t.Parallel()
	for want, l := range map[string]policy.Limit{
		"no limit":                                {},
		"60 per minute":                           policy.PerMinute(60),
		"1 per second":                            policy.PerSecond(1),
		"5000 per day":                            policy.PerDay(5000),
		"1 per 12 minutes":                        policy.SlidingWindow(1, 12*time.Minute),
		"10 per 36 hours":                         policy.SlidingWindow(10, 36*time.Hour),
		"10 per 90 seconds":                       policy.SlidingWindow(10, 90*time.Second),
		"1 per 100ms":                             policy.SlidingWindow(1, 100*time.Millisecond),
		"1 per 1.5ms":                             policy.SlidingWindow(1, 1500*time.Microsecond),
		"60 per minute, burst 120":                policy.TokenBucket(60, time.Minute).WithBurst(120),
		"60 per minute, burst 60":                 policy.TokenBucket(60, time.Minute),
		"1 per 12 minutes, fixed window":          policy.FixedWindow(1, 12*time.Minute),
		"10 per hour, sliding log":                policy.SlidingLog(10, time.Hour),
		"60 per minute, refusals counted":         policy.PerMinute(60).CountRefused(),
		"30 per minute, reduced from 60":          policy.PerMinute(60).Scaled(500_000),
		"2 per second, burst 9, refusals counted": policy.TokenBucket(2, time.Second).WithBurst(9).CountRefused(),
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, want, l.String())
		})
	}
}

func TestLimitNumbers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		limit     policy.Limit
		algorithm policy.Algorithm
		name      string
		n, most   int64
		window    time.Duration
	}{
		{policy.PerSecond(2), policy.AlgorithmSlidingWindow, "window-1s", 2, 2, time.Second},
		{policy.PerMinute(60), policy.AlgorithmSlidingWindow, "window-1m", 60, 60, time.Minute},
		{policy.PerHour(3), policy.AlgorithmSlidingWindow, "window-1h", 3, 3, time.Hour},
		{policy.PerDay(4), policy.AlgorithmSlidingWindow, "window-1d", 4, 4, 24 * time.Hour},
		{policy.TokenBucket(60, 90*time.Second).WithBurst(120), policy.AlgorithmTokenBucket, "bucket-90s", 60, 120, 90 * time.Second},
		{policy.FixedWindow(5, 1500*time.Millisecond), policy.AlgorithmFixedWindow, "fixed-1500ms", 5, 5, 1500 * time.Millisecond},
		{policy.SlidingLog(6, 1001*time.Microsecond), policy.AlgorithmSlidingLog, "log-1001us", 6, 6, 1001 * time.Microsecond},
		{policy.PerMinute(7).Named("hourly_v2"), policy.AlgorithmSlidingWindow, "hourly_v2", 7, 7, time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := tc.limit
			require.NoError(t, l.Validate())
			require.Equal(t, tc.algorithm, l.Algorithm())
			require.Equal(t, tc.name, l.Name())
			require.Equal(t, tc.n, l.N())
			require.Equal(t, tc.most, l.Capacity())
			require.Equal(t, tc.window, l.Window())
			require.False(t, l.CountsRefused())
			require.True(t, l.CountRefused().CountsRefused())
		})
	}
}

// Every message says what to write instead.
func TestLimitValidate(t *testing.T) {
	t.Parallel()
	const over = policy.MaxUnits + 1
	for _, tc := range []struct {
		name  string
		limit policy.Limit
		want  string
	}{
		{"zero limit", policy.Limit{}, "zero Limit: write one with a constructor"},
		{"number zero", policy.PerMinute(0), `sliding window limit "window-1m": number 0: write one from 1 to 1000000000000`},
		{"number negative", policy.FixedWindow(-3, time.Hour), "number -3: write one from 1"},
		{"number above", policy.TokenBucket(over, time.Second), "number 1000000000001: write one from 1 to"},
		{"number overflowing", policy.PerDay(1<<63 - 1), "write one from 1 to"},
		{"log too long", policy.SlidingLog(policy.MaxLog+1, time.Hour), "holds at most 10000; write SlidingWindow"},
		{"window zero", policy.SlidingWindow(1, 0), "window 0s: write one from 1ms to"},
		{"window negative", policy.TokenBucket(1, -time.Second), "window -1s: write one from"},
		{"window short", policy.FixedWindow(1, 999*time.Microsecond), "window 999µs: write one from 1ms to"},
		{"window long", policy.FixedWindow(1, policy.MaxWindow+1), "write one from 1ms to 8784h0m0s"},
		{"window overflowing", policy.TokenBucket(1, 1<<63-1), "write one from 1ms to"},
		{"window not whole microseconds", policy.SlidingWindow(1, time.Second+1), "window 1.000000001s: write whole microseconds"},
		{"burst zero", policy.TokenBucket(1, time.Second).WithBurst(0), "burst 0: write one from 1 to"},
		{"burst negative", policy.TokenBucket(1, time.Second).WithBurst(-1), "burst -1: write one from 1 to"},
		{"burst above", policy.TokenBucket(1, time.Second).WithBurst(over), "burst 1000000000001: write one from 1 to"},
		{"burst of a window", policy.PerMinute(60).WithBurst(120), "no burst: write TokenBucket(n, per).WithBurst(b)"},
		{"burst of a log", policy.SlidingLog(60, time.Minute).WithBurst(1), "no burst: write TokenBucket"},
		{"burst of a fixed window", policy.FixedWindow(60, time.Minute).WithBurst(1), "no burst: write TokenBucket"},
		{"burst that never refills", policy.TokenBucket(1, 24*time.Hour).WithBurst(1_000_000), "write a smaller burst"},
		{"burst that just refills", policy.TokenBucket(1, policy.MaxWindow).WithBurst(40), ""},
		{"burst that just does not", policy.TokenBucket(1, policy.MaxWindow).WithBurst(41), "burst 41 at 1 per 366 days"},
		{"first fault told", policy.PerMinute(0).WithBurst(0).Named(""), "number 0"},
		{"name empty", policy.PerMinute(1).Named(""), "write 1 to 64 letters"},
		{"name long", policy.PerMinute(1).Named(strings.Repeat("n", 65)), "write 1 to 64 letters"},
		{"name just not too long", policy.PerMinute(1).Named(strings.Repeat("n", 64)), ""},
		{"name with line end", policy.PerMinute(1).Named("a\r\nSet-Cookie: b"), `name "a\r\nSet-Cookie: b": write letters, digits`},
		{"name with space", policy.PerMinute(1).Named("a b"), "write letters, digits"},
		{"name not ASCII", policy.PerMinute(1).Named("é"), "write letters, digits"},
		{"name with every mark", policy.PerMinute(1).Named("aZ09-_./"), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := tc.limit.Validate()
			charged := policy.CheckCharges([]policy.Charge{{Limit: tc.limit, Key: "k", Units: 1}})
			if tc.want == "" {
				require.NoError(t, err)
				require.NoError(t, charged)
				return
			}
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, charged, tc.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

// State is kept under name, algorithm and window, never under the numbers.
func TestLimitID(t *testing.T) {
	t.Parallel()
	base := policy.TokenBucket(60, time.Minute)
	same := []policy.Limit{policy.TokenBucket(61, time.Minute), base.WithBurst(7), base.CountRefused(), base.Named("x").Named("bucket-1m")}
	for _, l := range same {
		require.Equal(t, base.ID(), l.ID(), l.String())
	}
	other := []policy.Limit{
		policy.TokenBucket(60, time.Hour), policy.FixedWindow(60, time.Minute), policy.FixedWindow(60, time.Minute).Named("bucket-1m"),
		base.Named("other"), policy.TokenBucket(60, time.Hour).Named("bucket-1m"),
	}
	for _, l := range other {
		require.NotEqual(t, base.ID(), l.ID(), l.String())
	}
	require.Equal(t, base, policy.TokenBucket(60, time.Minute), "limits are comparable")
	require.True(t, base == policy.TokenBucket(60, time.Minute))
	require.Equal(t, "token bucket", base.Algorithm().String())
	require.Equal(t, "Algorithm(9)", policy.Algorithm(9).String())
}

func TestValidateLimits(t *testing.T) {
	t.Parallel()
	minute, hour := policy.PerMinute(60), policy.PerHour(600)
	require.NoError(t, policy.ValidateLimits(nil))
	require.NoError(t, policy.ValidateLimits([]policy.Limit{minute, hour}))
	require.ErrorContains(t, policy.ValidateLimits([]policy.Limit{minute, hour, policy.PerMinute(90)}),
		`two limits named "window-1m" (60 per minute and 90 per minute): tell them apart with Named`)
	require.NoError(t, policy.ValidateLimits([]policy.Limit{minute, policy.PerMinute(90).Named("soft")}))
	require.ErrorContains(t, policy.ValidateLimits([]policy.Limit{minute, policy.PerHour(0)}), "number 0")

	tiers := policy.Tiers{"basic": {minute}, "free": nil, "premium": {hour, policy.PerHour(1)}}
	require.ErrorContains(t, tiers.Validate(), `tier "premium": policy: two limits named "window-1h"`)
	delete(tiers, "premium")
	require.NoError(t, tiers.Validate())
}
