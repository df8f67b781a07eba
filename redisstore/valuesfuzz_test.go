package redisstore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// FuzzValues writes anything under the keys of a real server that are the store's:
// bytes, and its own values with some of them changed. What is asked then is decided
// or is an error that says whose fault it is; never one of the script, which would
// harm those that travel with it. What is no value of the store's admits nobody; and
// no value does for longer than until it is deleted.
func FuzzValues(f *testing.F) {
	srv := redistest.Start(f)
	rdb := srv.Client(f)
	store := redisstore.Options{Timeout: 5 * time.Second}.New(rdb)
	f.Cleanup(func() { _ = store.Close() })
	odd := []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 0.5, 1e300, -1e300, 1 << 53, 1 << 40, 1<<52 + 0.5, math.SmallestNonzeroFloat64, math.Copysign(0, -1)}
	for kind := range uint8(len(valueLimits)) {
		f.Add(kind, uint8(0), uint16(18), binary.LittleEndian.AppendUint64(nil, math.Float64bits(387))) // it ends at once
		f.Add(kind, uint8(0), uint16(10), []byte("1000\xff\xff/"))                                      // half a microsecond, which an end would round off
		f.Add(kind, uint8(0), uint16(0), []byte{})
		f.Add(kind, uint8(1), uint16(0), []byte("hello"))
		f.Add(kind, uint8(1), uint16(0), []byte("S\x01"+strings.Repeat("x", 40)))
		f.Add(kind, uint8(1), uint16(0), []byte("S\x01"))
		f.Add(kind, uint8(2), uint16(0), []byte{2})
		f.Add(kind, uint8(3), uint16(0), []byte("x"))
		for at := range uint16(10) {
			for _, v := range odd {
				f.Add(kind, uint8(0), 2+8*at, binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))
			}
		}
		for at := range uint16(4) {
			f.Add(kind, uint8(4), 8*at, binary.LittleEndian.AppendUint64(nil, math.Float64bits(odd[at])))
			f.Add(kind, uint8(5), 8*at, binary.LittleEndian.AppendUint64(nil, math.Float64bits(odd[at])))
		}
	}
	f.Fuzz(func(t *testing.T, kind, how uint8, at uint16, bytes []byte) {
		if len(bytes) > 60_000 {
			t.Skip()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, rdb.FlushAll(ctx).Err())
		l := valueLimits[int(kind)%len(valueLimits)]
		c := charge(l, "alice")
		tickets := make([]policy.Ticket, 3)
		if queue, _ := l.Queue(); queue > 0 {
			tickets = make([]policy.Ticket, 19) // too many for the value to hold
		}
		var d policy.Decision
		for i := range tickets {
			tickets[i] = policy.NewTicket()
			require.NoError(t, store.Take(ctx, tickets[i], []policy.Charge{c}, &d))
		}
		receipt := d.Results[0].Receipt
		const key = "stint{alice}"
		value, err := rdb.Get(ctx, key).Bytes()
		require.NoError(t, err)
		ours := false
		switch how % 6 {
		case 0: // bytes of it are others
			copy(value[min(int(at), len(value)):], bytes)
			require.NoError(t, rdb.Set(ctx, key, value, 0).Err())
			ours = true
		case 1:
			value = bytes
			ours = len(bytes) > 2 && string(bytes[:2]) == "S\x01" && (len(bytes)-2)%40 == 0 || string(bytes) == "S\x01"
			require.NoError(t, rdb.Set(ctx, key, bytes, 0).Err())
		case 2: // it was cut, or has more behind it
			value = append(value[:min(int(at), len(value))], bytes...)
			ours = len(value) >= 2 && string(value[:2]) == "S\x01" && (len(value)-2)%40 == 0
			require.NoError(t, rdb.Set(ctx, key, value, 0).Err())
		case 3:
			require.NoError(t, rdb.Del(ctx, key).Err())
			require.NoError(t, rdb.SAdd(ctx, key, bytes).Err())
		case 4, 5: // a log's entries, or the leases of slots
			ours = true
			spoilList(ctx, t, rdb, how%6 == 4, int(at), bytes)
		}

		admitted, asked, since := int64(0), l.Capacity()+2, time.Now()
		for i := range asked + 1 {
			other := charge(policy.PerHour(1_000_000), "bob")
			var beside policy.Decision
			done := make(chan error, 1)
			go func() {
				done <- store.Take(ctx, policy.NewTicket(), []policy.Charge{other}, &beside)
			}()
			units := c
			if i == asked {
				units.Units = 0
			}
			err := store.Take(ctx, policy.NewTicket(), []policy.Charge{units}, &d)
			requireBlamed(t, err)
			require.NoError(t, <-done, "another's key")
			require.Equal(t, policy.Allowed, beside.Verdict)
			if err == nil {
				requireBounded(t, &d)
				if d.Verdict == policy.Allowed && units.Units > 0 {
					admitted++
				}
			}
			if !ours {
				require.ErrorIs(t, err, policy.ErrKey)
			}
		}
		// Where a state has no time left to count in, or ends meanwhile, it admits more.
		if !inFarFuture(value) && !endsWithin(value, since, time.Now()) {
			require.LessOrEqual(t, admitted, l.Capacity())
		}

		requireBlamed(t, store.Peek(ctx, []policy.Charge{c}, &d))
		requireBlamed(t, store.Settle(ctx, tickets[0], []policy.Settlement{{Charge: c, Receipt: receipt, Total: 2}}))
		requireBlamed(t, store.Settle(ctx, tickets[1], []policy.Settlement{{Charge: c, Receipt: receipt}}))
		if l.Algorithm() == policy.AlgorithmConcurrency {
			requireBlamed(t, store.Renew(ctx, []policy.Renewal{{Ticket: tickets[2], Charge: c}}))
		}
		if l.Algorithm() == policy.AlgorithmQuota {
			_, err := store.Usage(ctx, []policy.Charge{c})
			requireBlamed(t, err)
			requireBlamed(t, store.SetUsage(ctx, c, 1))
		}
		requireBlamed(t, store.Reset(ctx, []policy.Charge{c}))
		require.NoError(t, rdb.FlushAll(ctx).Err())
		require.NoError(t, store.Take(ctx, policy.NewTicket(), []policy.Charge{c}, &d))
		require.Equal(t, policy.Allowed, d.Verdict)
	})
}

var valueLimits = []policy.Limit{
	policy.FixedWindow(5, 24*time.Hour), policy.TokenBucket(5, 24*time.Hour), policy.SlidingLog(5, 24*time.Hour), policy.SlidingWindow(5, 24*time.Hour),
	policy.Concurrency(5).WithLease(time.Hour), policy.Concurrency(1).WithQueue(20, time.Minute).WithLease(time.Hour),
	policy.Quota(5, policy.Yearly), policy.Lockout(5, time.Hour, time.Hour, 2*time.Hour),
}

// inFarFuture tells whether a state's clock stands near the last instant that there
// is, in 2112.
func inFarFuture(value []byte) bool {
	for i := 2; i+16 <= len(value); i += 40 {
		if math.Float64frombits(binary.LittleEndian.Uint64(value[i+8:])) > 1<<51 {
			return true
		}
	}
	return false
}

// endsWithin tells whether a state ends between two instants.
func endsWithin(value []byte, from, to time.Time) bool {
	for i := 2; i+24 <= len(value); i += 40 {
		at := math.Float64frombits(binary.LittleEndian.Uint64(value[i+8:]))
		ends := at + math.Float64frombits(binary.LittleEndian.Uint64(value[i+16:]))
		if ends >= float64(from.UnixMicro()) && ends <= float64(to.UnixMicro()) {
			return true
		}
	}
	return false
}

// spoilList changes bytes of an entry of a log, or of a member of a set of leases.
func spoilList(ctx context.Context, t *testing.T, rdb *redis.Client, entry bool, at int, bytes []byte) {
	t.Helper()
	for _, key := range rdb.Keys(ctx, "stint{alice}|*").Val() {
		switch rdb.Type(ctx, key).Val() {
		case "list":
			if entry {
				raw, err := rdb.LIndex(ctx, key, 0).Bytes()
				require.NoError(t, err)
				copy(raw[min(at, len(raw)):], bytes)
				require.NoError(t, rdb.LSet(ctx, key, 0, raw).Err())
			} else {
				require.NoError(t, rdb.RPush(ctx, key, bytes).Err())
			}
		case "zset":
			z := redis.Z{Score: float64(at), Member: bytes}
			if entry && len(bytes) >= 8 { // another end of a lease, or another turn
				z.Score = math.Float64frombits(binary.LittleEndian.Uint64(bytes))
				all := rdb.ZRange(ctx, key, 0, -1).Val()
				z.Member = all[at%len(all)]
			}
			if !math.IsNaN(z.Score) {
				require.NoError(t, rdb.ZAdd(ctx, key, z).Err())
			}
		}
	}
}

// requireBlamed requires that an error tells of a key.
func requireBlamed(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, policy.ErrKey) {
		t.Fatalf("not the key's: %v", err)
	}
}

// requireBounded requires that no number of a decision is out of all bounds.
func requireBounded(t *testing.T, d *policy.Decision) {
	t.Helper()
	require.Contains(t, []policy.Verdict{policy.Allowed, policy.Queued, policy.Refused}, d.Verdict)
	for _, r := range d.Results {
		require.GreaterOrEqual(t, r.Used, int64(0))
		require.GreaterOrEqual(t, r.Remaining, int64(0))
		require.LessOrEqual(t, r.Remaining, r.Capacity)
		require.GreaterOrEqual(t, r.RetryAfter, time.Duration(0))
		require.GreaterOrEqual(t, r.ResetAfter, time.Duration(0))
	}
}
