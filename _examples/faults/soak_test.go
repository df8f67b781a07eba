package faults

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

var (
	soakFor  = flag.Duration("soak", 30*time.Second, "how long TestSoak goes on")
	soakSeed = flag.Uint64("soak-seed", 0, "what TestSoak's limits and faults are drawn from; 0 is another one each time")
)

const (
	soakProcesses = 4
	soakKeys      = 5
	soakSlots     = 3
	soakRate      = 100 // requests a second of each process
	soakEnv       = "STINT_SOAK"
)

// A soak is what the processes are told.
type soak struct {
	Seed    uint64
	For     time.Duration
	Proxies map[string]string // by the address of their node
	Report  string            // a file
}

// exact is a pair of exact limits, of which both hold.
type exact struct {
	n, m           int64
	window, period time.Duration // sliding, and aligned to the epoch
}

// limits draws the limits, the same in every process.
func (s *soak) limits() []exact {
	r := rand.New(rand.NewPCG(s.Seed, 1))
	limits := make([]exact, 6)
	for i := range limits {
		limits[i] = exact{
			n: 5 + r.Int64N(40), window: time.Duration(500+r.IntN(4000)) * time.Millisecond,
			m: 5 + r.Int64N(40), period: time.Duration(500+r.IntN(4000)) * time.Millisecond,
		}
	}
	return limits
}

// TestSoak lets four processes share a cluster with a replica of each node, under
// random limits, while random faults befall its nodes, its network and its slots. At
// the end the books balance: no window of a limit that is exact has admitted more, no
// slot was held by more than there are, all slots are free, and memory is what it was.
//
// All rules are closed on failure, and the store waits for a replica: this is what
// stint promises of exactness through failovers. What empties servers is left out.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes as long as -soak says")
	}
	seed := cmp.Or(*soakSeed, rand.Uint64())
	t.Logf("-soak-seed %d", seed)
	cluster := redistest.StartClusterWithReplicas(t)
	w := &weather{t: t, cluster: cluster, random: rand.New(rand.NewPCG(seed, 2)), counts: map[string]int{}}
	s := soak{Seed: seed, For: *soakFor, Proxies: map[string]string{}}
	for _, node := range slices.Concat(cluster.Nodes, cluster.Replicas) {
		proxy := redistest.StartProxy(t, node.Addr())
		w.proxies = append(w.proxies, proxy)
		s.Proxies[node.Addr()] = proxy.Addr()
	}

	var processes sync.WaitGroup
	defer processes.Wait()
	reports := make([]string, soakProcesses)
	failed := make([]error, soakProcesses)
	for i := range reports {
		reports[i] = filepath.Join(t.TempDir(), "report"+strconv.Itoa(i))
		one := s
		one.Report = reports[i]
		told, err := json.Marshal(one)
		require.NoError(t, err)
		processes.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSoakProcess$", "-test.timeout=0")
			cmd.Env = append(os.Environ(), soakEnv+"="+string(told))
			if out, err := cmd.CombinedOutput(); err != nil {
				failed[i] = fmt.Errorf("process %d: %w\n%s", i, err, out)
			}
		})
	}
	const calm = 4 * time.Second // at the end
	for end := time.Now().Add(*soakFor - calm); time.Now().Before(end); {
		w.change(time.Until(end))
	}
	processes.Wait()
	for _, err := range failed {
		require.NoError(t, err)
	}
	s.balance(t, reports)
	t.Logf("faults: %v", w.counts)
}

// A weather makes faults.
type weather struct {
	t       *testing.T
	cluster *redistest.Cluster
	proxies []*redistest.Proxy // of nodes, then of replicas
	random  *rand.Rand
	counts  map[string]int
}

// change makes a fault, ends it, and waits until the cluster is well.
func (w *weather) change(left time.Duration) {
	const slow, quick = 12 * time.Second, 2 * time.Second // as a killed node's return is, and a failover
	i := w.random.IntN(len(w.cluster.Nodes))
	node, proxy := w.cluster.Nodes[i], w.proxies[i]
	network := func(fault func(), end func()) func() {
		return func() {
			fault()
			time.Sleep(time.Duration(100+w.random.IntN(600)) * time.Millisecond)
			end()
		}
	}
	type spell struct {
		name string
		run  func()
	}
	faults := []spell{
		{"slow", network(func() { proxy.SetDelay(20 * time.Millisecond) }, proxy.Heal)},
		{"held", network(proxy.Freeze, proxy.Heal)},
		{"replies held", network(proxy.FreezeReplies, proxy.Heal)},
		{"requests lost", network(proxy.DropRequests, proxy.Heal)},
		{"replies lost", network(proxy.DropReplies, proxy.Heal)},
		{"black hole", network(proxy.BlackHole, proxy.Heal)},
		{"truncated", network(func() { proxy.Truncate(5) }, proxy.Heal)},
		{"reset", network(proxy.Reset, proxy.Heal)},
		{"corrupt", network(func() { proxy.Corrupt(1) }, proxy.Heal)},
		{"cut", proxy.Cut},
		{"frozen", network(node.Freeze, node.Thaw)},
		{"scripts forgotten", node.FlushScripts},
		{"out of memory", network(node.FillUp, node.MakeRoom)},
		{"no replicas", network(node.DenyWrites, node.AllowWrites)},
		{"resharded", func() {
			other, first := (i+1)%len(w.cluster.Nodes), i*16384/3+1
			w.cluster.MoveSlots(i, other, first, first+500)
			w.cluster.MoveSlots(other, i, first, first+500)
		}},
	}
	delay := w.cluster.FailoverDelay(i)
	if left > delay+quick {
		faults = append(faults, spell{"failover", func() {
			w.cluster.Failover(i)
			w.cluster.Failover(i)
		}})
	}
	if left > delay+slow {
		faults = append(faults, spell{"killed", func() {
			w.cluster.Kill(i)
			w.cluster.AwaitFailover(i)
			node.Restart()
			w.cluster.Failover(i)
		}})
	}
	fault := faults[w.random.IntN(len(faults))]
	fault.run()
	w.counts[fault.name]++
	w.cluster.Restore()
}

// TestSoakProcess is one process of TestSoak.
func TestSoakProcess(t *testing.T) {
	if os.Getenv(soakEnv) == "" {
		t.Skip("run by TestSoak")
	}
	var s soak
	require.NoError(t, json.Unmarshal([]byte(os.Getenv(soakEnv)), &s))
	var addrs []string
	for addr := range s.Proxies {
		addrs = append(addrs, addr)
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: addrs,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, s.Proxies[addr])
		},
		// Faults fill pools, up to 120 connections: by default their buffers are 8 MB,
		// which hides what else there is.
		ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
	})
	defer client.Close()
	store := redisstore.Options{WaitReplicas: 1}.New(client)
	defer store.Close()

	file, err := os.Create(s.Report)
	require.NoError(t, err)
	defer file.Close()
	r := &recorder{lines: bufio.NewWriter(file)}
	var handlers []http.Handler
	for i, l := range s.limits() {
		limiter, err := ratelimit.New(ratelimit.Config{
			Name: fmt.Sprint("soak", i), Store: store, Observe: func(ratelimit.Event) {}, Budget: 100 * time.Millisecond,
			Rules: []ratelimit.Rule{{Name: "exact", Key: byKey, Fail: ratelimit.FailClosed, Limits: []policy.Limit{
				policy.SlidingLog(l.n, l.window), policy.FixedWindow(l.m, l.period),
			}}},
		})
		require.NoError(t, err)
		defer limiter.Close()
		handlers = append(handlers, limited(limiter))
	}
	slots := policy.Concurrency(soakSlots)
	limiter, err := ratelimit.New(ratelimit.Config{
		Name: "soak", Store: store, Observe: func(ratelimit.Event) {}, Budget: 100 * time.Millisecond,
		Rules: []ratelimit.Rule{{Name: "slots", Key: byKey, Fail: ratelimit.FailClosed, Limits: []policy.Limit{slots}}},
	})
	require.NoError(t, err)
	defer limiter.Close()
	holding := limiter.Handler(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		start := time.Now()
		time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
		r.note(-1, req.Header.Get("X-Key"), start, time.Now())
	}))
	handlers = append(handlers, holding)

	stop := make(chan struct{})
	var heaps []uint64
	var watch sync.WaitGroup
	watch.Go(func() {
		for range 4 {
			time.Sleep(s.For / 4)
			var m runtime.MemStats
			runtime.GC()
			runtime.GC() // what pools keep outlives one
			runtime.ReadMemStats(&m)
			heaps = append(heaps, m.HeapAlloc)
		}
		close(stop)
	})
	load(soakRate, stop, func(int) {
		i, key := rand.IntN(len(handlers)), strconv.Itoa(rand.IntN(soakKeys))
		start := time.Now()
		status, _ := ask(handlers[i], key)
		r.requests.Add(1)
		switch {
		case status == http.StatusOK && i < len(handlers)-1:
			r.note(i, key, start, time.Now())
		case status == http.StatusServiceUnavailable:
			r.failed.Add(1)
		case status != http.StatusOK && status != http.StatusTooManyRequests:
			t.Errorf("status %d", status)
		}
	})
	watch.Wait()

	scope := policy.NewScope("soak", "slots")
	for key := range soakKeys {
		c := policy.Charge{Limit: slots, Scope: scope, Key: strconv.Itoa(key), Units: 1}
		redistest.Await(t, "all slots are free", func() bool {
			var d policy.Decision
			err := store.Peek(t.Context(), []policy.Charge{c}, &d)
			return err == nil && d.Results[0].Used == 0
		})
	}
	const slack = 4 << 20
	require.Less(t, heaps[len(heaps)-1], heaps[0]*3/2+slack, "memory grows: %v", heaps)
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.lines, "total %d %d\n", r.requests.Load(), r.failed.Load())
	require.NoError(t, r.lines.Flush())
}

// A recorder writes down what was admitted, and between which instants.
type recorder struct {
	requests, failed atomic.Int64

	mu    sync.Mutex
	lines *bufio.Writer
}

func (r *recorder) note(limit int, key string, start, end time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintln(r.lines, limit, key, start.UnixNano(), end.UnixNano())
}

// An entry was admitted at some time from start to end.
type entry struct{ start, end int64 }

// balance reads the reports and holds them to the limits.
func (s *soak) balance(t *testing.T, reports []string) {
	type book struct {
		limit int
		key   string
	}
	books := map[book][]entry{}
	var requests, failed, admitted int
	for _, path := range reports {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			var b book
			var e entry
			if n, _ := fmt.Sscan(line, &b.limit, &b.key, &e.start, &e.end); n == 4 {
				books[b] = append(books[b], e)
				admitted++
				continue
			}
			var r, f int
			if n, _ := fmt.Sscanf(line, "total %d %d", &r, &f); n == 2 {
				requests, failed = requests+r, failed+f
			}
		}
	}
	limits := s.limits()
	full := 0
	for b, entries := range books {
		if b.limit < 0 {
			require.LessOrEqual(t, mostAtOnce(entries), soakSlots, "slots of %s", b.key)
			continue
		}
		l := limits[b.limit]
		over, reached := sliding(entries, l.n, l.window)
		require.Zero(t, over, "%d in %v, key %s: windows with more", l.n, l.window, b.key)
		most := aligned(entries, l.period)
		require.LessOrEqual(t, most, int(l.m), "%d each %v, key %s", l.m, l.period, b.key)
		if reached || most == int(l.m) {
			full++
		}
	}
	t.Logf("%d requests, %d admitted, %d answered 503; of %d books %d were full", requests, admitted, failed, len(books), full)
	require.Less(t, failed, requests*3/4)
	require.Positive(t, full, "limits that are never reached show nothing")
}

// sliding counts the groups of n+1 that were admitted within less than a window for
// sure, and tells whether n ever were.
func sliding(entries []entry, n int64, window time.Duration) (over int, reached bool) {
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.start, b.start) })
	span := func(group []entry) time.Duration {
		last := slices.MaxFunc(group, func(a, b entry) int { return cmp.Compare(a.end, b.end) })
		return time.Duration(last.end - group[0].start)
	}
	for i := range entries {
		if i+int(n) <= len(entries) && span(entries[i:i+int(n)]) < window {
			reached = true
		}
		if i+int(n) < len(entries) && span(entries[i:i+int(n)+1]) < window {
			over++
		}
	}
	return over, reached
}

// aligned returns the most that were admitted for sure in one window of the epoch.
func aligned(entries []entry, period time.Duration) (most int) {
	windows := map[int64]int{}
	for _, e := range entries {
		if w := e.start / int64(period); w == e.end/int64(period) {
			windows[w]++
			most = max(most, windows[w])
		}
	}
	return most
}

// mostAtOnce returns how many were inside at once.
func mostAtOnce(entries []entry) (most int) {
	type edge struct {
		at   int64
		step int
	}
	var edges []edge
	for _, e := range entries {
		edges = append(edges, edge{e.start, 1}, edge{e.end, -1})
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), a.step-b.step) })
	inside := 0
	for _, e := range edges {
		inside += e.step
		most = max(most, inside)
	}
	return most
}

// The books are held to account: a group too many is found.
func TestBalance(t *testing.T) {
	t.Parallel()
	var entries []entry
	for i := range int64(5) {
		entries = append(entries, entry{i * 10, i*10 + 1})
	}
	over, reached := sliding(slices.Clone(entries), 4, 41)
	require.False(t, over > 0)
	require.True(t, reached)
	over, _ = sliding(slices.Clone(entries), 4, 42)
	require.Equal(t, 1, over)
	require.Equal(t, 2, aligned(entries, 20))
	require.Equal(t, 1, mostAtOnce(entries))
	require.Equal(t, 2, mostAtOnce(append(entries, entry{0, 5})))
}
