package redisstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// What one client costs in Redis, by the limits on its key of 16 bytes. MEMORY
// USAGE counts a key with its value; what the server's used memory grows by has
// the table of expiries in it, and moves by steps.
//
//	go test ./redisstore -run TestMemoryPerKey -v
func TestMemoryPerKey(t *testing.T) {
	windows := []policy.Limit{
		policy.PerSecond(1e6), policy.PerMinute(1e6), policy.PerHour(1e6), policy.PerDay(1e6),
		policy.TokenBucket(1e6, time.Minute), policy.FixedWindow(1e6, time.Hour),
	}
	const clients = 4096
	for _, tc := range []struct {
		name   string
		limits []policy.Limit
		takes  int
		most   int64 // bytes of MEMORY USAGE
	}{
		{"1 limit", windows[:1], 1, 200},
		{"3 limits", windows[:3], 1, 300},
		{"6 limits", windows, 1, 450},
		{"a log of 1", []policy.Limit{policy.SlidingLog(1000, time.Hour)}, 1, 500},
		{"a log of 100", []policy.Limit{policy.SlidingLog(1000, time.Hour)}, 100, 4000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := redistest.Start(t)
			rdb := srv.Client(t)
			store := redisstore.New(rdb)
			defer store.Close()
			charges := func(client int) []policy.Charge {
				key := fmt.Sprintf("client-%09d", client) // 16 bytes
				var all []policy.Charge
				for _, l := range tc.limits {
					all = append(all, charge(l, key))
				}
				return all
			}
			for range tc.takes {
				require.Equal(t, policy.Allowed, take(t, store, charges(0)...).Verdict)
			}
			var bytes int64
			keys, err := rdb.Keys(t.Context(), "stint{client-000000000}*").Result()
			require.NoError(t, err)
			for _, key := range keys {
				n, err := rdb.MemoryUsage(t.Context(), key).Result()
				require.NoError(t, err)
				bytes += n
			}
			require.Positive(t, bytes)
			require.LessOrEqual(t, bytes, tc.most)
			if tc.takes > 1 {
				t.Logf("%s: %d bytes in %d keys", tc.name, bytes, len(keys))
				return
			}
			before := usedMemory(t, rdb)
			for i := range clients {
				take(t, store, charges(i+1)...)
			}
			grown := (usedMemory(t, rdb) - before) / clients
			t.Logf("%s: %d bytes in %d keys; the server grew by %d a client", tc.name, bytes, len(keys), grown)
			require.Less(t, grown, 2*tc.most)
		})
	}
}

// usedMemory returns the bytes that the server has allocated.
func usedMemory(t *testing.T, rdb *redis.Client) int64 {
	t.Helper()
	n, err := rdb.Do(t.Context(), "memory", "stats").Result()
	require.NoError(t, err)
	switch stats := n.(type) {
	case map[any]any:
		return stats["total.allocated"].(int64)
	case []any:
		for i := 0; i+1 < len(stats); i += 2 {
			if stats[i] == "total.allocated" {
				return stats[i+1].(int64)
			}
		}
	}
	t.Fatalf("MEMORY STATS answered %T", n)
	return 0
}
