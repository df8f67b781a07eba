package redisstore_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// A factor that one process sets binds in three others within a second, and ends
// in all of them when it was to end, or is ended.
func TestScaleAcrossProcesses(t *testing.T) {
	everywhere(t, func(t *testing.T, where string) {
		t.Parallel()                          // it waits most of the time
		kind, _, _ := strings.Cut(where, " ") // two of them have the same servers
		client := dial(where)
		defer client.Close()
		store := redisstore.New(client)
		defer store.Close()
		scale, err := ratelimit.NewSharedScale(kind, store)
		require.NoError(t, err)

		const processes = 3
		var others [processes]<-chan string
		for i := range others {
			others[i] = scaleProcess(t, where)
		}
		for _, lines := range others {
			require.Equal(t, "10", <-lines)
		}
		// all waits for what the others say, and tells how long the last one took.
		all := func(want string) time.Duration {
			began := time.Now()
			for _, lines := range others {
				select {
				case got := <-lines:
					require.Equal(t, want, got)
				case <-time.After(10 * time.Second):
					t.Fatalf("a process did not come to admit %s", want)
				}
			}
			return time.Since(began)
		}
		best := time.Hour
		for tries := 0; tries < 3 && best >= time.Second; tries++ { // machines may be busy
			require.NoError(t, scale.Set(t.Context(), 0.5, time.Now().Add(time.Minute)))
			on := all("5")
			require.NoError(t, scale.Set(t.Context(), 1, time.Time{}))
			best = min(best, max(on, all("10")))
		}
		t.Logf("in three others after %v", best)
		require.Less(t, best, time.Second)

		const lasts = 2 * time.Second
		began := time.Now()
		require.NoError(t, scale.Set(t.Context(), 0.2, began.Add(lasts)))
		all("2")
		all("10")
		require.GreaterOrEqual(t, time.Since(began), lasts-10*time.Millisecond, "no sooner than it was to end")
		t.Logf("after %v of %v all were whole", time.Since(began), lasts)
	})
}

// scaleProcess starts a process and returns what it prints: how many requests of a
// new key it admits, whenever that changes.
func scaleProcess(t *testing.T, where string) <-chan string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestScaleProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "STINT_SCALE="+where)
	stdin, err := cmd.StdinPipe() // closed when this process ends, whatever its end
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := make(chan string, 100)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			var n string
			if _, err := fmt.Sscanf(s.Text(), "admits %s", &n); err == nil {
				lines <- n
			}
		}
	})
	t.Cleanup(func() {
		_ = stdin.Close()
		reader.Wait()
		require.NoError(t, cmd.Wait())
	})
	return lines
}

// TestScaleProcess is one process of TestScaleAcrossProcesses.
func TestScaleProcess(t *testing.T) {
	where := os.Getenv("STINT_SCALE")
	if where == "" {
		t.Skip("run by another test")
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = os.Stdin.Read(make([]byte, 1))
	}()
	kind, _, _ := strings.Cut(where, " ")
	client := dial(where)
	defer client.Close()
	store := redisstore.New(client)
	defer store.Close()
	scale, err := ratelimit.NewSharedScale(kind, store)
	require.NoError(t, err)
	defer scale.Close()
	limits, err := ratelimit.New(ratelimit.Config{
		Store: store, Scale: scale, Budget: time.Second,
		Rules: []ratelimit.Rule{{
			Name: "per_key", Key: ratelimit.Header("X-API-Key"), Fail: ratelimit.FailClosed,
			Limits: []policy.Limit{policy.PerHour(10)},
		}},
	})
	require.NoError(t, err)
	defer limits.Close()
	h := limits.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	before, told := 0, 0
	for key := 0; ; key++ {
		admitted := 0
		for range 11 {
			r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
			r.Header.Set("X-API-Key", fmt.Sprint(os.Getpid(), "-", key))
			if h.ServeHTTP(w, r); w.Code == http.StatusOK {
				admitted++
			}
		}
		// While a factor changes some are admitted by one and some by the other.
		if admitted == before && admitted != told {
			fmt.Printf("admits %d\n", admitted)
			told = admitted
		}
		before = admitted
		select {
		case <-ended:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// What is known of a factor outlives Redis, until it is to end.
func TestScaleOutlivesRedis(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	store := redisstore.Options{Timeout: 50 * time.Millisecond}.New(redis.NewClient(&redis.Options{Addr: srv.Addr()}))
	defer store.Close()
	here, err := ratelimit.NewSharedScale("load", store)
	require.NoError(t, err)
	there, err := ratelimit.NewSharedScale("load", store)
	require.NoError(t, err)
	factor := func() float64 {
		f, _ := there.Get()
		return f
	}
	end := time.Now().Add(3 * time.Second)
	require.NoError(t, here.Set(t.Context(), 0.5, end))
	eventually(t, "the other one follows", func() bool { return factor() == 0.5 })
	srv.Kill()
	brief, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.Error(t, here.Set(brief, 0.7, end))
	eventually(t, "the factor ends", func() bool {
		if time.Now().Before(end.Add(-100 * time.Millisecond)) {
			require.InDelta(t, 0.5, factor(), 0, "while the store is away")
		}
		return factor() == 1
	})
	require.GreaterOrEqual(t, time.Now(), end.Add(-100*time.Millisecond))
	srv.Restart()
	eventually(t, "it can be set again", func() bool { return here.Set(t.Context(), 0.3, time.Time{}) == nil })
	eventually(t, "the other one follows again", func() bool { return factor() == 0.3 })
}

// A factor is one key, which expires.
func TestScaleKey(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	store := redisstore.New(rdb)
	defer store.Close()
	told := make(chan policy.Factor, 1000)
	stop, err := store.WatchScale("load", func(f policy.Factor) { told <- f })
	require.NoError(t, err)
	whole := policy.Factor{Millionths: policy.Whole}
	require.Equal(t, whole, <-told)

	third := policy.Factor{Millionths: 333_333, Left: 90 * time.Second}
	require.NoError(t, store.SetScale(t.Context(), "load", third))
	f := <-told
	require.Equal(t, third.Millionths, f.Millionths)
	require.InDelta(t, third.Left, f.Left, float64(5*time.Second))
	keys, err := rdb.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	require.Equal(t, []string{"stint{load}|scale"}, keys)
	require.LessOrEqual(t, rdb.PTTL(t.Context(), keys[0]).Val(), third.Left)
	require.Positive(t, rdb.PTTL(t.Context(), keys[0]).Val())

	// What is not the store's tells nothing.
	for odd, expiry := range map[string]time.Duration{"2 222222": time.Minute, "1 0": time.Minute, "0.5": time.Minute, "1 500000": 0} {
		require.NoError(t, rdb.Set(t.Context(), keys[0], odd, expiry).Err())
		for quiet := time.After(600 * time.Millisecond); quiet != nil; {
			select {
			case f := <-told:
				require.Equal(t, third.Millionths, f.Millionths, "seen before %q", odd)
			case <-quiet:
				quiet = nil
			}
		}
	}
	require.NoError(t, store.SetScale(t.Context(), "load", whole))
	for f = <-told; f != whole; f = <-told {
	}
	require.Zero(t, rdb.Exists(t.Context(), keys[0]).Val())
	stop()
	for range len(told) {
		<-told
	}
	require.NoError(t, store.SetScale(t.Context(), "load", third))
	select {
	case <-told:
		t.Fatal("told after stop")
	case <-time.After(time.Second):
	}
	require.NoError(t, store.Close())
	require.ErrorIs(t, store.SetScale(t.Context(), "load", third), policy.ErrClosed)
	_, err = store.WatchScale("load", func(policy.Factor) {})
	require.ErrorIs(t, err, policy.ErrClosed)
}
