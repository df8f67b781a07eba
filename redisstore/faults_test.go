package redisstore_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// evalshas returns how many script calls the server has run.
func evalshas(t *testing.T, rdb *redis.Client) (n int) {
	t.Helper()
	info, err := rdb.Info(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	for line := range strings.Lines(info) {
		for _, command := range []string{"cmdstat_evalsha", "cmdstat_eval"} {
			var calls int
			if _, err := fmt.Sscanf(line, command+":calls=%d,", &calls); err == nil {
				n += calls
			}
		}
	}
	return n
}

// Budgets are kept by every kind of client, whatever its own time-outs, by 512
// callers at once. The bound is loose for the sake of busy machines: the
// clients' own time-outs are seconds.
func TestFrozenRedisKeepsTheBudget(t *testing.T) {
	const budget, slack = 100 * time.Millisecond, 150 * time.Millisecond
	srv := redistest.Start(t)
	cluster := redistest.StartCluster(t)
	sentinel := redistest.StartSentinel(t)
	clients := map[string]struct {
		client redis.UniversalClient
		nodes  []*redistest.Server
	}{
		"client":                        {srv.Client(t), []*redistest.Server{srv}},
		"client with context time-outs": {redis.NewClient(&redis.Options{Addr: srv.Addr(), ContextTimeoutEnabled: true}), []*redistest.Server{srv}},
		"sentinel":                      {sentinel.Client(t), sentinel.Servers},
		"cluster":                       {cluster.Client(t), cluster.Nodes},
		"ring":                          {redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": srv.Addr()}}), []*redistest.Server{srv}},
	}
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			store := redisstore.Options{Namespace: "frozen " + name}.New(c.client)
			defer func() {
				require.NoError(t, store.Close())
				_ = c.client.Close()
			}()
			l := policy.PerHour(1_000_000)
			for i := range 30 {
				take(t, store, charge(l, fmt.Sprint(i)))
			}
			for _, node := range c.nodes {
				node.Freeze()
				defer node.Thaw()
			}
			var wg sync.WaitGroup
			var worst sync.Map
			for i := range 512 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), budget)
					defer cancel()
					start := time.Now()
					var d policy.Decision
					err := store.Take(ctx, policy.NewTicket(), []policy.Charge{charge(l, fmt.Sprint(i%30))}, &d)
					worst.Store(time.Since(start), err)
				})
			}
			wg.Wait()
			var slowest time.Duration
			for d, err := range worst.Range {
				require.ErrorIs(t, err.(error), context.DeadlineExceeded)
				slowest = max(slowest, d.(time.Duration))
			}
			require.Less(t, slowest, budget+slack)
			t.Logf("slowest of 512 callers with a budget of %v: %v", budget, slowest)
			for _, node := range c.nodes {
				node.Thaw()
			}
			eventually(t, "decisions again", func() bool {
				var d policy.Decision
				return store.Take(t.Context(), policy.NewTicket(), []policy.Charge{charge(l, "0")}, &d) == nil
			})
		})
	}
}

// A reply that comes after the caller's deadline: one script call, never two.
// If it still comes within the store's own time, what it took is given back; if
// not, it stays charged once.
func TestLateReply(t *testing.T) {
	srv := redistest.Start(t)
	proxy := redistest.StartProxy(t, srv.Addr())
	rdb := srv.Client(t)
	for name, tc := range map[string]struct {
		delay time.Duration
		used  int64
	}{
		"within the store's time": {150 * time.Millisecond, 0},
		"after it":                {400 * time.Millisecond, 1},
	} {
		t.Run(name, func(t *testing.T) {
			client := redis.NewClient(&redis.Options{Addr: proxy.Addr()}) // retries by default
			defer client.Close()
			store := redisstore.Options{Namespace: name, Timeout: 250 * time.Millisecond}.New(client)
			direct := redisstore.Options{Namespace: name}.New(rdb)
			defer direct.Close()
			c := charge(policy.PerHour(60), "alice")
			take(t, store, charge(policy.PerHour(60), "warm"))

			before := evalshas(t, rdb)
			proxy.FreezeReplies()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			var d policy.Decision
			err := store.Take(ctx, policy.NewTicket(), []policy.Charge{c}, &d)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			eventually(t, "the take arrived", func() bool { return used(t, direct, c) == 1 })
			time.Sleep(tc.delay)
			proxy.Thaw()
			eventually(t, "books balance", func() bool { return used(t, direct, c) == tc.used })
			require.NoError(t, store.Close())
			if tc.used == 1 {
				require.Equal(t, int64(1), used(t, direct, c))
			}
			takes := evalshas(t, rdb) - before
			t.Logf("script calls, peeks among them: %d", takes)
		})
	}
}

// A client whose connection dies in the middle of a call must not send it again.
func TestCutConnectionIsNotRetried(t *testing.T) {
	srv := redistest.Start(t)
	proxy := redistest.StartProxy(t, srv.Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MaxRetries: 5})
	defer client.Close()
	store := redisstore.New(client)
	direct := redisstore.New(srv.Client(t))
	defer direct.Close()
	defer store.Close()
	c := charge(policy.PerHour(60), "alice")
	take(t, store, charge(policy.PerHour(60), "warm"))
	proxy.FreezeReplies()
	var d policy.Decision
	failed := make(chan error, 1)
	go func() { failed <- store.Take(context.Background(), policy.NewTicket(), []policy.Charge{c}, &d) }()
	eventually(t, "the take arrived", func() bool { return used(t, direct, c) == 1 })
	proxy.Cut()
	proxy.Thaw()
	require.Error(t, <-failed)
	time.Sleep(100 * time.Millisecond)
	require.Equal(t, int64(1), used(t, direct, c))
}

// A settle whose reply is lost is sent again, and counts once.
func TestLostSettleIsSentAgain(t *testing.T) {
	srv := redistest.Start(t)
	proxy := redistest.StartProxy(t, srv.Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr()})
	defer client.Close()
	store := redisstore.Options{Timeout: 100 * time.Millisecond}.New(client)
	direct := redisstore.New(srv.Client(t))
	defer direct.Close()
	defer store.Close()
	c := charge(policy.PerHour(60), "alice")
	c.Units = 5
	ticket := policy.NewTicket()
	var d policy.Decision
	require.NoError(t, store.Take(t.Context(), ticket, []policy.Charge{c}, &d))
	proxy.FreezeReplies()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := store.Settle(ctx, ticket, []policy.Settlement{{Charge: c, Receipt: d.Results[0].Receipt, Total: 9}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	eventually(t, "settled", func() bool { return used(t, direct, c) == 9 })
	proxy.Cut()
	proxy.Thaw()
	time.Sleep(150 * time.Millisecond) // sent again by now
	require.Equal(t, int64(9), used(t, direct, c))
}

// A settle survives a server that is away for a while.
func TestSettleOutlivesAnOutage(t *testing.T) {
	srv := redistest.Start(t)
	proxy := redistest.StartProxy(t, srv.Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr()})
	defer client.Close()
	store := redisstore.Options{Timeout: 50 * time.Millisecond}.New(client)
	direct := redisstore.New(srv.Client(t))
	defer direct.Close()
	defer store.Close()
	c := charge(policy.PerHour(60), "alice")
	ticket := policy.NewTicket()
	var d policy.Decision
	require.NoError(t, store.Take(t.Context(), ticket, []policy.Charge{c}, &d))
	proxy.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.Error(t, store.Settle(ctx, ticket, []policy.Settlement{{Charge: c, Receipt: d.Results[0].Receipt}}))
	time.Sleep(200 * time.Millisecond)
	proxy.Cut()
	proxy.Thaw()
	eventually(t, "given back", func() bool { return used(t, direct, c) == 0 })
}

func TestBadServers(t *testing.T) {
	l := charge(policy.PerMinute(5), "alice")
	ask := func(t *testing.T, s policy.Store) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var d policy.Decision
		return s.Take(ctx, policy.NewTicket(), []policy.Charge{l}, &d)
	}

	t.Run("refuses connections", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, ln.Close())
		client := redis.NewClient(&redis.Options{Addr: ln.Addr().String()})
		defer client.Close()
		store := redisstore.New(client)
		defer store.Close()
		require.ErrorContains(t, ask(t, store), "redisstore: ")
	})
	t.Run("answers garbage", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte(strings.Repeat("HTTP/1.1 400 Bad Request\r\n\r\n", 10)))
				_ = conn.Close()
			}
		}()
		client := redis.NewClient(&redis.Options{Addr: ln.Addr().String()})
		defer client.Close()
		store := redisstore.New(client)
		defer store.Close()
		require.Error(t, ask(t, store))
	})

	srv := redistest.Start(t)
	rdb := srv.Client(t)
	store := redisstore.New(rdb)
	defer store.Close()
	for name, spoil := range map[string]func() error{
		"another type":    func() error { return rdb.LPush(t.Context(), "stint{alice}", "x").Err() },
		"another's value": func() error { return rdb.Set(t.Context(), "stint{alice}", "hello", 0).Err() },
		"newer format": func() error {
			return rdb.Set(t.Context(), "stint{alice}", "S\x02"+strings.Repeat("x", 40), 0).Err()
		},
		"numbers that are none": func() error {
			return rdb.Set(t.Context(), "stint{alice}", "S\x01"+strings.Repeat("\xff", 40), 0).Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, spoil())
			before := rdb.Dump(t.Context(), "stint{alice}").Val()
			// One request's fault does not harm those that travel with it.
			var wg sync.WaitGroup
			for i := range 64 {
				wg.Go(func() {
					if i%2 == 0 {
						err := ask(t, store)
						if err == nil || !strings.Contains(err.Error(), "not stint's") {
							t.Errorf("got %v", err)
						}
						return
					}
					var d policy.Decision
					if err := store.Take(t.Context(), policy.NewTicket(), []policy.Charge{charge(policy.PerMinute(1000), "bob")}, &d); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			require.Equal(t, before, rdb.Dump(t.Context(), "stint{alice}").Val(), "left as it was")
			require.NoError(t, rdb.Del(t.Context(), "stint{alice}").Err())
			require.NoError(t, ask(t, store))
			require.NoError(t, rdb.Del(t.Context(), "stint{alice}").Err())
		})
	}
	t.Run("a log's list is another's", func(t *testing.T) {
		c := charge(policy.SlidingLog(5, time.Minute), "carol")
		take(t, store, c)
		key := rdb.Keys(t.Context(), "stint{carol}|log=*").Val()[0]
		require.NoError(t, rdb.Set(t.Context(), key, "x", 0).Err())
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				var d policy.Decision
				if i%2 == 0 {
					if err := store.Take(t.Context(), policy.NewTicket(), []policy.Charge{c}, &d); err == nil {
						t.Error("no error")
					}
				} else if err := store.Take(t.Context(), policy.NewTicket(), []policy.Charge{charge(policy.PerMinute(1000), "bob")}, &d); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, "x", rdb.Get(t.Context(), key).Val(), "left as it was")
		require.NoError(t, rdb.Del(t.Context(), key).Err())
		require.NoError(t, rdb.RPush(t.Context(), key, "garbage").Err())
		require.Equal(t, policy.Allowed, take(t, store, c).Verdict)
		require.Equal(t, int64(1), used(t, store, c), "a log that was lost begins anew")
	})
	t.Run("forgets its scripts", func(t *testing.T) {
		require.NoError(t, ask(t, store))
		require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
		require.NoError(t, ask(t, store))
		require.Equal(t, int64(2), used(t, store, l))
	})
	t.Run("is a replica", func(t *testing.T) {
		host, port, _ := net.SplitHostPort(srv.Addr())
		replica := redistest.Start(t, "--replicaof", host, port)
		store := redisstore.New(replica.Client(t))
		defer store.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var d policy.Decision
		err := store.Take(ctx, policy.NewTicket(), []policy.Charge{charge(policy.PerMinute(5), "carol")}, &d)
		require.Error(t, err)
	})
	t.Run("is out of memory", func(t *testing.T) {
		small := redistest.Start(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
		store := redisstore.New(small.Client(t))
		defer store.Close()
		require.ErrorContains(t, ask(t, store), "OOM")
	})
}

func TestClosed(t *testing.T) {
	srv := redistest.Start(t)
	store := redisstore.New(srv.Client(t))
	take(t, store, charge(policy.PerMinute(1), "alice"))
	require.NoError(t, store.Close())
	require.NoError(t, store.Close())
	var d policy.Decision
	charges := []policy.Charge{charge(policy.PerMinute(1), "alice")}
	require.ErrorIs(t, store.Take(t.Context(), policy.NewTicket(), charges, &d), policy.ErrClosed)
	require.ErrorIs(t, store.Peek(t.Context(), charges, &d), policy.ErrClosed)
	require.ErrorIs(t, store.Reset(t.Context(), charges), policy.ErrClosed)
}

func TestNewPanicsOnNil(t *testing.T) {
	require.PanicsWithValue(t, "redisstore: nil client: pass one made by redis.NewClient, NewFailoverClient, NewClusterClient or NewRing",
		func() { redisstore.New(nil) })
	require.Panics(t, func() { redisstore.New((*redis.Client)(nil)) })
}
