package policy_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
)

func ExampleLimit_Share() {
	for _, l := range []policy.Limit{
		policy.PerMinute(100),
		policy.TokenBucket(10, time.Second).WithBurst(100),
		policy.PerMinute(2),
		policy.Quota(1000, policy.Monthly),
	} {
		share, ok := l.Share(3)
		fmt.Println(share, ok)
	}
	// Output:
	// 33 per minute true
	// 3 per second, burst 33 true
	// no limit false
	// no limit false
}

func TestShare(t *testing.T) {
	t.Parallel()
	queue := policy.Concurrency(9).WithQueue(8, time.Minute).WithLease(time.Second)
	share, ok := queue.Share(4)
	require.True(t, ok)
	assert.EqualValues(t, 2, share.N())
	length, wait := share.Queue()
	assert.EqualValues(t, 2, length)
	assert.Equal(t, time.Minute, wait)
	assert.Equal(t, time.Second, share.Lease())
	share, ok = queue.Share(9)
	require.True(t, ok)
	length, wait = share.Queue()
	assert.Zero(t, length, "a queue that rounds to nothing is none")
	assert.Zero(t, wait)

	for name, l := range map[string]policy.Limit{
		"zero":           {},
		"invalid":        policy.PerMinute(0),
		"quota":          policy.Quota(1000, policy.Daily),
		"rounds to zero": policy.PerMinute(4),
		"burst does":     policy.TokenBucket(100, time.Second).WithBurst(4),
		"slots do":       policy.Concurrency(4),
		// Fifty years to refill, and a hundred as a share that is rounded down.
		"too slow": policy.TokenBucket(9, 366*24*time.Hour).WithBurst(50 * 9),
	} {
		share, ok := l.Share(5)
		assert.False(t, ok, name)
		assert.Equal(t, policy.Limit{}, share, name)
	}
	for _, of := range []int{0, -1} {
		_, ok := policy.PerMinute(100).Share(of)
		assert.False(t, ok)
	}
	whole := policy.TokenBucket(10, time.Second).WithBurst(20).CountRefused().Named("x")
	share, ok = whole.Share(1)
	require.True(t, ok)
	assert.Equal(t, whole, share)
	share, ok = policy.PerMinute(9).Scaled(500_000).Share(2) // 4 of 9
	require.True(t, ok)
	assert.Equal(t, "2 per minute, reduced from 4", share.String())
	share, ok = policy.PerMinute(5).Scaled(900_000).Share(3) // 4 of 5
	require.True(t, ok)
	assert.False(t, share.IsReduced(), "%s: a share of the whole is no more", share)
}

// All shares together are never more than the limit, and each is a limit of the same
// name and state.
func TestSharesAreNoMoreThanTheWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		of := rapid.IntRange(1, 1000).Draw(t, "of")
		n, burst := rapid.Int64Range(1, 10_000).Draw(t, "n"), rapid.Int64Range(1, 100_000).Draw(t, "burst")
		l := policy.TokenBucket(n, time.Hour).WithBurst(burst)
		share, ok := l.Share(of)
		if !ok {
			if n >= int64(of) && burst >= int64(of) {
				t.Fatal("there is a share")
			}
			return
		}
		if share.Validate() != nil || share.ID() != l.ID() || share.Name() != l.Name() {
			t.Fatal(share)
		}
		if share.N()*int64(of) > n || share.Capacity()*int64(of) > burst || share.N() < 1 || share.Capacity() < 1 {
			t.Fatal(share)
		}
	})
}
