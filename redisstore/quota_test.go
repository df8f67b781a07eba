package redisstore_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// The clock of the server decides the period, however far a client's own is off
// and whatever it has heard of the server's so far.
func TestTheServersClockPicksThePeriod(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	for name, ahead := range map[string]time.Duration{
		"as the client's":     0,
		"three months ahead":  92 * 24 * time.Hour,
		"three months behind": -92 * 24 * time.Hour,
		"hours ahead":         5 * time.Hour,
		"hours behind":        -5 * time.Hour,
		"twenty years ahead":  20 * 366 * 24 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			var micros atomic.Int64
			micros.Store(time.Now().Add(ahead).UnixMicro())
			now := func() time.Time { return time.UnixMicro(micros.Load()) }
			for _, period := range []policy.Period{policy.Daily, policy.Weekly, policy.Monthly, policy.Yearly} {
				t.Run(period.Unit(), func(t *testing.T) {
					c := charge(policy.Quota(10, period), "k")
					c.Units = 10
					of := func() *redisstore.Store {
						return redisstore.Options{Namespace: t.Name(), Now: now}.New(rdb)
					}
					a, b := of(), of() // two that have heard nothing yet
					defer a.Close()
					defer b.Close()
					for _, s := range []*redisstore.Store{a, b} {
						for range 3 { // over period after period
							start, end := period.Bounds(now())
							require.Equal(t, policy.Allowed, take(t, s, c).Verdict)
							d := take(t, b, c)
							require.Equal(t, policy.Refused, d.Verdict)
							require.Equal(t, end.Sub(now()), d.RetryAfter())
							usage, err := a.Usage(t.Context(), []policy.Charge{c})
							require.NoError(t, err)
							require.Equal(t, start, usage[0].Start)
							require.Equal(t, int64(10), usage[0].Used)
							micros.Store(end.UnixMicro())
						}
						_, end := period.Bounds(now())
						_, end = period.Bounds(end)
						micros.Store(end.UnixMicro()) // and where nothing counts any more
					}
				})
			}
		})
	}
}

// A request whose periods the server cannot place does not run: neither do its
// other charges, and a settle keeps its ticket.
func TestNothingRunsInAnUnknownPeriod(t *testing.T) {
	srv := redistest.Start(t)
	var micros atomic.Int64
	micros.Store(time.Now().UnixMicro())
	store := redisstore.Options{Now: func() time.Time { return time.UnixMicro(micros.Load()) }}.New(srv.Client(t))
	defer store.Close()
	const month = 31 * 24 * time.Hour
	quota, log, rate := charge(policy.Quota(100, policy.Daily), "k"), charge(policy.SlidingLog(100, policy.MaxWindow), "k"), charge(policy.SlidingWindow(100, policy.MaxWindow), "other")
	for i := range 5 {
		require.Equal(t, policy.Allowed, take(t, store, log, quota, rate).Verdict)
		require.Equal(t, int64(i+1), used(t, store, log), "taken once")
		micros.Add(month.Microseconds())
	}
	var d policy.Decision
	ticket := policy.NewTicket()
	require.NoError(t, store.Take(t.Context(), ticket, []policy.Charge{quota, log}, &d))
	micros.Add(month.Microseconds())
	require.NoError(t, store.Settle(t.Context(), ticket, []policy.Settlement{
		{Charge: quota, Receipt: d.Results[0].Receipt, Total: 7}, {Charge: log, Receipt: d.Results[1].Receipt, Total: 7},
	}))
	require.Equal(t, int64(12), used(t, store, log), "settled once")
	// Another process, which has heard nothing of the server's clock, settles what
	// was reset meanwhile, and does so where the clock was set back by months.
	for _, back := range []time.Duration{0, 4 * month} {
		micros.Add(12 * month.Microseconds())
		require.NoError(t, store.Take(t.Context(), policy.NewTicket(), []policy.Charge{quota}, &d))
		require.NoError(t, store.Reset(t.Context(), []policy.Charge{quota}))
		micros.Add(-back.Microseconds())
		late := redisstore.Options{Now: func() time.Time { return time.UnixMicro(micros.Load()) }}.New(srv.Client(t))
		require.NoError(t, late.Settle(t.Context(), policy.NewTicket(), []policy.Settlement{
			{Charge: quota, Receipt: d.Results[0].Receipt, Total: 31},
		}))
		require.Equal(t, int64(30), used(t, late, quota))
		require.NoError(t, late.Close())
		require.NoError(t, store.Reset(t.Context(), []policy.Charge{quota}))
	}
	take(t, store, quota)
	micros.Add(-month.Microseconds()) // back to where the state's own clock stands
	micros.Add(-month.Microseconds())
	require.Equal(t, policy.Allowed, take(t, store, quota, charge(policy.Quota(100, policy.Daily), "fresh")).Verdict,
		"one key's state is ahead of the clock, the other is not")
	require.Equal(t, int64(1), used(t, store, charge(policy.Quota(100, policy.Daily), "fresh")))
}

// Quotas outlive a Redis that is killed, if it keeps an append-only file.
func TestQuotaSurvivesARestart(t *testing.T) {
	srv := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	rdb := srv.Client(t)
	store := redisstore.New(rdb)
	defer store.Close()
	month, year := charge(policy.Quota(1000, policy.Monthly), "customer"), charge(policy.Quota(1000, policy.Yearly), "customer")
	const clients, each = 8, 25
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range each {
				take(t, store, month, year)
			}
		})
	}
	all.Wait()
	require.NoError(t, store.SetUsage(t.Context(), charge(policy.Quota(1000, policy.Daily), "customer"), 77))
	for range 2 {
		srv.Restart() // after a kill -9
		eventually(t, "the server answers", func() bool { return rdb.Ping(t.Context()).Err() == nil })
		require.Equal(t, int64(clients*each), used(t, store, month))
		require.Equal(t, int64(clients*each), used(t, store, year))
		require.Equal(t, int64(77), used(t, store, charge(policy.Quota(1000, policy.Daily), "customer")))
	}
	ttl, err := rdb.TTL(t.Context(), "stint{customer}").Result()
	require.NoError(t, err)
	_, end := policy.Yearly.Bounds(time.Now())
	_, end = policy.Yearly.Bounds(end)
	require.InDelta(t, time.Until(end).Seconds(), ttl.Seconds(), 60, "kept through the next period, and no longer")
}

// A key that is full of quotas goes on when their periods turn, with what room
// there is for the counts of those before.
func TestKeyIsFullOfQuotas(t *testing.T) {
	srv := redistest.Start(t)
	var micros atomic.Int64
	micros.Store(time.Now().UnixMicro())
	store := redisstore.Options{Now: func() time.Time { return time.UnixMicro(micros.Load()) }}.New(srv.Client(t))
	defer store.Close()
	const n = 930
	all := make([]policy.Charge, n)
	for i := range all {
		all[i] = charge(policy.Quota(100, policy.Daily), "alice")
		all[i].Scope = policy.NewScope("test", fmt.Sprint("rule", i))
	}
	for day := range 3 {
		for first := 0; first < n; first += policy.MaxCharges {
			require.Equal(t, policy.Allowed, take(t, store, all[first:min(first+policy.MaxCharges, n)]...).Verdict, "day %d", day)
		}
		require.Equal(t, int64(1), used(t, store, all[0]))
		require.Equal(t, int64(1), used(t, store, all[n-1]))
		micros.Add((24 * time.Hour).Microseconds())
	}
}

// What a quota costs the server beside a fixed window, where it holds a count of
// the period before, too.
//
//	go test ./redisstore -run xxx -bench Quota
func BenchmarkQuota(b *testing.B) {
	srv := redistest.Start(b)
	limits := map[string]policy.Limit{
		"fixed window": policy.FixedWindow(policy.MaxUnits, 30*24*time.Hour),
		"quota":        policy.Quota(policy.MaxUnits, policy.Monthly),
		"unlimited":    policy.Quota(policy.Unlimited, policy.Monthly),
	}
	for name, l := range limits {
		for _, group := range []int{1, 64} {
			b.Run(fmt.Sprint(name, "/goroutines=", group), func(b *testing.B) {
				rdb := srv.Client(b)
				store := redisstore.Options{Namespace: b.Name()}.New(rdb)
				defer store.Close()
				before := scriptMicros(b, rdb)
				b.SetParallelism(max(1, group/2))
				b.RunParallel(func(pb *testing.PB) {
					var d policy.Decision
					for i := 0; pb.Next(); i++ {
						charges := []policy.Charge{charge(l, fmt.Sprint("key", i%1000))}
						if err := store.Take(b.Context(), policy.NewTicket(), charges, &d); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric((scriptMicros(b, rdb)-before)/float64(b.N), "µs-script/op")
			})
		}
	}
}

// scriptMicros returns how long the server has been busy with scripts.
func scriptMicros(b *testing.B, rdb *redis.Client) (total float64) {
	b.Helper()
	info, err := rdb.InfoMap(b.Context(), "commandstats").Result()
	require.NoError(b, err)
	var calls, micros float64
	if _, err := fmt.Sscanf(info["Commandstats"]["cmdstat_evalsha"], "calls=%f,usec=%f", &calls, &micros); err != nil {
		return 0
	}
	return micros
}
