package redisstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/httprate"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

var _ httprate.LimitCounter = (*redisstore.Counter)(nil)

// generous is a budget that busy machines keep.
const generous = 10 * time.Second

func newCounter(t *testing.T, client redis.UniversalClient, name string) *redisstore.Counter {
	t.Helper()
	store := redisstore.Options{Timeout: generous}.New(client)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return &redisstore.Counter{Store: store, Name: name, Budget: generous}
}

// limited is a handler behind httprate, whose clients are named by a header.
func limited(limit int, window time.Duration, c *redisstore.Counter, options ...httprate.Option) http.Handler {
	key := func(r *http.Request) (string, error) { return r.Header.Get("X-Client"), nil }
	return httprate.LimitBy(limit, window, key, append(options, httprate.WithLimitCounter(c))...)(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
}

func ask(ctx context.Context, h http.Handler, client string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
	r.Header.Set("X-Client", client)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// What httprate's documentation says holds, over a node and a cluster.
func TestCounterUnderHTTPRate(t *testing.T) {
	srv := redistest.Start(t)
	cluster := redistest.StartCluster(t)
	for name, client := range map[string]redis.UniversalClient{"node": srv.Client(t), "cluster": cluster.Client(t)} {
		t.Run(name, func(t *testing.T) {
			const window = 24 * time.Hour
			for _, key := range []string{"alice", "", "an {odd}|key", strings.Repeat("long", 100)} {
				h := limited(3, window, newCounter(t, client, "api"))
				for left := 2; left >= 0; left-- {
					w := ask(t.Context(), h, key)
					require.Equal(t, 200, w.Code, w.Body.String())
					require.Equal(t, "3", w.Header().Get("X-RateLimit-Limit"))
					require.Equal(t, strconv.Itoa(left), w.Header().Get("X-RateLimit-Remaining"))
				}
				w := ask(t.Context(), h, key)
				require.Equal(t, 429, w.Code)
				require.Equal(t, "86400", w.Header().Get("Retry-After"))
				require.Equal(t, "0", w.Header().Get("X-RateLimit-Remaining"))
			}

			// Another process begins where the first one is; another name afresh.
			require.Equal(t, 429, ask(t.Context(), limited(3, window, newCounter(t, client, "api")), "alice").Code)
			require.Equal(t, 200, ask(t.Context(), limited(3, window, newCounter(t, client, "other")), "alice").Code)
			require.Equal(t, 200, ask(t.Context(), limited(3, 12*time.Hour, newCounter(t, client, "api")), "alice").Code)

			// Increments and limits by request.
			h := limited(10, window, newCounter(t, client, "api"))
			by := func(n int) context.Context { return httprate.WithIncrement(t.Context(), n) }
			require.Equal(t, 200, ask(by(8), h, "bob").Code)
			require.Equal(t, 429, ask(by(3), h, "bob").Code)
			require.Equal(t, 200, ask(by(0), h, "bob").Code)
			require.Equal(t, 200, ask(by(2), h, "bob").Code)
			require.Equal(t, 429, ask(t.Context(), h, "bob").Code)
			require.Equal(t, 200, ask(httprate.WithRequestLimit(t.Context(), 20), h, "bob").Code)
			require.Equal(t, http.StatusPreconditionRequired, ask(by(-1), h, "bob").Code)

			limiter := httprate.NewRateLimiter(5, window, httprate.WithLimitCounter(newCounter(t, client, "inside")))
			require.False(t, limiter.OnLimit(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), "k"))
			under, rate, err := limiter.Status("k")
			require.NoError(t, err)
			require.True(t, under)
			require.InDelta(t, 1, rate, 0)
		})
	}
}

// The counter equals a table of windows, whatever is asked.
func TestCounterCountsWindows(t *testing.T) {
	c := newCounter(t, redistest.Start(t).Client(t), "api")
	const window = time.Hour
	c.Config(100, window)
	type place struct {
		key string
		at  time.Time
	}
	counted := map[place]int{}
	start := time.Now().Truncate(window)
	for range 300 {
		key := fmt.Sprint("k", rand.IntN(3))
		at := start.Add(time.Duration(rand.IntN(4)) * window)
		amount := rand.IntN(5)
		if amount == 1 {
			require.NoError(t, c.Increment(key, at))
		} else {
			require.NoError(t, c.IncrementBy(key, at, amount))
		}
		counted[place{key, at}] += amount
		now, before, err := c.Get(key, at, at.Add(-window))
		require.NoError(t, err)
		require.Equal(t, counted[place{key, at}], now)
		require.Equal(t, counted[place{key, at.Add(-window)}], before)
	}
}

// A count is kept until no window asks for it, wherever in the store's own
// windows it was made, and not for much longer.
func TestCounterForgetsInTime(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	const window = time.Minute
	start := time.Date(2026, 1, 12, 10, 0, 0, 0, time.UTC)
	for offset := time.Duration(0); offset < 2*window; offset += 7 * time.Second {
		now := start.Add(offset)
		var clock atomic.Int64
		clock.Store(now.UnixMicro())
		store := redisstore.Options{Namespace: "n", Now: func() time.Time { return time.UnixMicro(clock.Load()) }}.New(rdb)
		c := &redisstore.Counter{Store: store, Name: "api", Budget: generous}
		c.Config(10, window)
		key := fmt.Sprint(offset)
		require.NoError(t, c.Increment(key, now))
		clock.Store(now.Add(window - time.Second).UnixMicro())
		require.NoError(t, c.Increment(key, now))
		clock.Store(now.Add(2*window - time.Microsecond).UnixMicro())
		_, before, err := c.Get(key, now.Add(window), now)
		require.NoError(t, err)
		require.Equal(t, 2, before)
		require.NoError(t, store.Close())
	}

	store := redisstore.Options{Namespace: "n"}.New(rdb)
	defer store.Close()
	c := &redisstore.Counter{Store: store, Name: "api", Budget: generous}
	c.Config(10, window)
	at := time.Now().Truncate(window)
	require.NoError(t, c.Increment("alice", at))
	require.NoError(t, c.Increment("alice", at.Add(-window)))
	keys, err := rdb.Keys(t.Context(), "n{alice}*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 2)
	for _, key := range keys {
		ttl := rdb.PTTL(t.Context(), key).Val()
		require.Greater(t, ttl, 2*window-time.Second, key)
		require.Less(t, ttl, 4*window+3*time.Second, key)
	}
}

// 16 goroutines of each of two processes. A middleware of httprate asks for one
// request at a time, so that each process has at most one between its question
// and its count: two processes may admit one more than the limit, one none.
func TestCounterAcrossProcesses(t *testing.T) {
	srv := redistest.Start(t)
	for processes := 1; processes <= 2; processes++ {
		t.Run(fmt.Sprint(processes), func(t *testing.T) {
			var admitted atomic.Int64
			var wg sync.WaitGroup
			for range processes {
				wg.Go(func() {
					cmd := exec.Command(os.Args[0], "-test.run=^TestCounterProcess$", "-test.v")
					cmd.Env = append(os.Environ(), "STINT_COUNTER="+srv.Addr(), fmt.Sprint("STINT_COUNTER_NAME=of-", processes))
					out, err := cmd.CombinedOutput()
					if err != nil {
						t.Errorf("%v\n%s", err, out)
						return
					}
					_, rest, _ := strings.Cut(string(out), "admitted=")
					n, err := strconv.Atoi(strings.SplitN(rest, " ", 2)[0])
					if err != nil {
						t.Errorf("%v\n%s", err, out)
					}
					admitted.Add(int64(n))
				})
			}
			wg.Wait()
			require.GreaterOrEqual(t, admitted.Load(), int64(100))
			require.LessOrEqual(t, admitted.Load(), int64(100+processes-1))
		})
	}
}

// TestCounterProcess is one process of TestCounterAcrossProcesses.
func TestCounterProcess(t *testing.T) {
	addr := os.Getenv("STINT_COUNTER")
	if addr == "" {
		t.Skip("run by TestCounterAcrossProcesses")
	}
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	h := limited(100, 24*time.Hour, newCounter(t, client, os.Getenv("STINT_COUNTER_NAME")))
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 30 {
				switch w := ask(t.Context(), h, "hot"); w.Code {
				case 200:
					admitted.Add(1)
				case 429:
				default:
					t.Error(w.Code, w.Body)
				}
			}
		})
	}
	wg.Wait()
	fmt.Printf("admitted=%d \n", admitted.Load())
}

// A request is two round trips, and one if it is refused.
func TestCounterRoundTrips(t *testing.T) {
	proxy := redistest.StartProxy(t, redistest.Start(t).Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr()})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	h := limited(2, 24*time.Hour, newCounter(t, client, "api"))
	ask(t.Context(), h, "others") // the connection and the script are there now
	for _, want := range []int64{2, 2, 1} {
		before := proxy.Traffic()
		ask(t.Context(), h, "alice")
		require.Equal(t, want, proxy.Traffic().Since(before).RoundTrips)
	}
}

// A silent Redis costs the budget, and a client is told nothing of it.
func TestCounterKeepsItsBudget(t *testing.T) {
	srv := redistest.Start(t)
	client := srv.Client(t)
	store := redisstore.New(client)
	defer store.Close()
	c := &redisstore.Counter{Store: store, Name: "api"}
	var told error
	h := limited(10, time.Hour, c, httprate.WithErrorHandler(func(w http.ResponseWriter, _ *http.Request, err error) {
		told = err
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}))
	srv.Freeze()
	start := time.Now()
	w := ask(t.Context(), h, "alice")
	took := time.Since(start)
	srv.Thaw()
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Less(t, took, 250*time.Millisecond)
	require.ErrorIs(t, told, context.DeadlineExceeded)
	// httprate writes its refusal behind what the handler of errors does.
	require.Equal(t, "The limit cannot be checked right now.\nToo Many Requests\n", w.Body.String())
}

func TestCounterSaysWhatIsWrong(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	store := redisstore.New(client)
	defer store.Close()
	for want, c := range map[string]*redisstore.Counter{
		"redisstore: Counter without a Store: write one that New made":              {Name: "api"},
		`redisstore: Counter.Name: name "": write 1 to 64 letters`:                  {Store: store},
		"redisstore: Counter for windows of 4800h0m0s: write one of up to 183 days": {Store: store, Name: "api"},
		"redisstore: Counter for windows of 0s: write one of up to 183 days":        {Store: store, Name: "api2"},
		"redisstore: Counter for windows of -1h0m0s: write one of up to 183 days":   {Store: store, Name: "api3"},
	} {
		window := time.Hour
		switch {
		case strings.Contains(want, "4800h"):
			window = 4800 * time.Hour
		case strings.Contains(want, " 0s"):
			window = 0
		case strings.Contains(want, "-1h"):
			window = -time.Hour
		}
		func() {
			defer func() { require.Contains(t, fmt.Sprint(recover()), want) }()
			c.Config(1, window)
		}()
	}
	unused := &redisstore.Counter{Store: store, Name: "api"}
	require.ErrorContains(t, unused.Increment("k", time.Now()), "httprate.WithLimitCounter")
	_, _, err := unused.Get("k", time.Now(), time.Now())
	require.ErrorContains(t, err, "httprate.WithLimitCounter")
}
