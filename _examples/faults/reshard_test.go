package faults

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// Half of the slots of a cluster move while 2,000 requests a second run. Each key is
// admitted as often as its limit says and not once more; none is refused before; no
// request fails, and none is served without its limits. Nodes say that they redirected
// some of them, both to where a slot has gone and to where it is going.
func TestReshardUnderLoad(t *testing.T) {
	const (
		rate  = 2000 // a second
		most  = 500  // at once: a machine that has no time for the rate gets less, and not a queue
		keys  = 200
		limit = 80
	)
	cluster := redistest.StartCluster(t)
	cluster.Linger = 50 * time.Millisecond // somebody is to come meanwhile, to be redirected by ASK
	// On a machine that is busy with a cluster, its clients and other tests, a node may
	// be silent for longer than either is by default. What is late is not wrong.
	const patience = 5 * time.Second
	store := redisstore.Options{Timeout: patience}.New(cluster.Client(t))
	defer store.Close()
	var bypassed atomic.Int64
	l, err := ratelimit.New(ratelimit.Config{
		Store: store, Budget: 2 * patience,
		Observe: func(e ratelimit.Event) {
			if e.Kind == ratelimit.Bypassed {
				bypassed.Add(1)
				t.Log(e.Err)
			}
		},
		Rules: []ratelimit.Rule{{Name: "rule", Key: byKey, Limits: []policy.Limit{
			// Two keys in Redis, which a slot on its way may have half of each.
			policy.SlidingLog(limit, time.Hour), policy.FixedWindow(1_000_000, 24*time.Hour),
		}}},
	})
	require.NoError(t, err)
	defer l.Close()
	h := limited(l)

	var mu sync.Mutex
	admitted, refused, statuses := map[string]int{}, map[string]int{}, map[int]int{}
	var slowest time.Duration
	room := make(chan struct{}, most)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		load(rate, stop, func(i int) {
			select {
			case room <- struct{}{}:
				defer func() { <-room }()
			default:
				return
			}
			key := fmt.Sprint("key", i%keys)
			status, took := ask(h, key)
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
			slowest = max(slowest, took)
			switch status {
			case http.StatusOK:
				admitted[key]++
			case http.StatusTooManyRequests:
				refused[key]++
			}
		})
	}()
	end := sync.OnceFunc(func() { close(stop); <-stopped })
	defer end()
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		t.Logf("%v, %d keys, slowest %v, %d bypassed", statuses, len(refused), slowest, bypassed.Load())
	}()
	moved, asked := redirections(t, cluster)
	start := time.Now()
	cluster.MoveSlots(0, 1, 0, 4095)
	cluster.MoveSlots(2, 0, 10_923, 15_018)
	took := time.Since(start)
	// Until every key has met its limit.
	redistest.Await(t, "refusals of all keys", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(refused) == keys
	})
	end()
	require.Zero(t, bypassed.Load())
	movedAfter, askedAfter := redirections(t, cluster)
	require.Greater(t, movedAfter, moved, "redirected to where slots have gone: MOVED")
	require.Greater(t, askedAfter, asked, "to where they are going: ASK")
	total := 0
	for key := range refused {
		require.Equal(t, limit, admitted[key], key)
	}
	for status, n := range statuses {
		total += n
		require.Contains(t, []int{http.StatusOK, http.StatusTooManyRequests}, status)
	}
	t.Logf("8,192 slots moved in %v, %d requests in %v, slowest %v: %v; redirected: %d calls by MOVED, %d by ASK",
		took, total, time.Since(start), slowest, statuses, movedAfter-moved, askedAfter-asked)
}

// redirections returns how many calls the nodes have answered with MOVED, and how many
// they took that came after ASK.
func redirections(t *testing.T, c *redistest.Cluster) (moved, asked int) {
	t.Helper()
	for _, node := range c.Nodes {
		info := node.Client(t).InfoMap(t.Context(), "errorstats", "commandstats").Val()
		moved += count(t, info["Errorstats"]["errorstat_MOVED"], "count")
		asked += count(t, info["Commandstats"]["cmdstat_asking"], "calls")
	}
	return moved, asked
}

// count returns a number in "calls=1,usec=2", or 0 if it is not there.
func count(t *testing.T, stats, name string) int {
	t.Helper()
	for stat := range strings.SplitSeq(stats, ",") {
		if v, ok := strings.CutPrefix(stat, name+"="); ok {
			n, err := strconv.Atoi(v)
			require.NoError(t, err)
			return n
		}
	}
	return 0
}
