package faults

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
	"github.com/stint-go/stint/respond"
)

var strict = flag.Bool("strict", false, "hold TestMatrix to the times that are promised, which needs a machine that is not busy")

const (
	matrixBudget = 50 * time.Millisecond
	matrixLimit  = 100
	matrixRate   = 150 // requests a second in each mode
)

// A bench is servers of one kind, each behind a proxy.
type bench struct {
	t        *testing.T
	kind     string
	proxies  map[string]*redistest.Proxy // by address
	sentinel *redistest.Sentinel
	cluster  *redistest.Cluster
	single   *redistest.Server
	connect  func(dial func(context.Context, string, string) (net.Conn, error)) redis.UniversalClient
}

const subject = "alice"

// server returns who decides about the subject.
func (b *bench) server() *redistest.Server {
	switch {
	case b.sentinel != nil:
		return b.sentinel.Master()
	case b.cluster != nil:
		return b.cluster.Nodes[b.owner()]
	}
	return b.single
}

func (b *bench) proxy() *redistest.Proxy { return b.proxies[b.server().Addr()] }

// owner returns which node of the cluster has the subject.
func (b *bench) owner() int {
	c := b.cluster.Nodes[0].Client(b.t)
	return int(c.ClusterKeySlot(b.t.Context(), subject).Val()) * len(b.cluster.Nodes) / 16384
}

func (b *bench) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if p := b.proxies[addr]; p != nil {
		addr = p.Addr()
	}
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

// well waits until the servers are well after a fault.
func (b *bench) well() {
	switch {
	case b.sentinel != nil:
		b.sentinel.AwaitWell()
	case b.cluster != nil:
		b.cluster.Restore()
	}
}

// restart restarts the server, empty. In a cluster it refuses for two seconds then.
func (b *bench) restart() {
	b.server().Restart()
	if b.cluster != nil {
		b.cluster.AwaitWell()
	}
}

func benches(t *testing.T) []*bench {
	node := &bench{t: t, kind: "one node", single: redistest.Start(t)}
	node.connect = func(dial func(context.Context, string, string) (net.Conn, error)) redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: node.single.Addr(), Dialer: dial})
	}
	sentinel := &bench{t: t, kind: "Sentinel", sentinel: redistest.StartSentinel(t)}
	sentinel.connect = func(dial func(context.Context, string, string) (net.Conn, error)) redis.UniversalClient {
		o := sentinel.sentinel.Options()
		o.Dialer = dial
		return redis.NewFailoverClient(o)
	}
	cluster := &bench{t: t, kind: "Cluster", cluster: redistest.StartClusterWithReplicas(t)}
	cluster.connect = func(dial func(context.Context, string, string) (net.Conn, error)) redis.UniversalClient {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.cluster.Addrs(), Dialer: dial})
	}
	all := []*bench{node, sentinel, cluster}
	for _, b := range all {
		b.proxies = map[string]*redistest.Proxy{}
		var servers []*redistest.Server
		switch {
		case b.sentinel != nil:
			servers = b.sentinel.Servers
		case b.cluster != nil:
			servers = slices.Concat(b.cluster.Nodes, b.cluster.Replicas)
		default:
			servers = append(servers, b.single)
		}
		for _, s := range servers {
			b.proxies[s.Addr()] = redistest.StartProxy(t, s.Addr())
		}
	}
	return all
}

// A fault is a row of the matrix.
type fault struct {
	name    string
	begin   func(*bench) (end func()) // nil if it is over at once
	empties bool                      // what was counted may be gone
	not     string                    // a kind of servers that does not have it
}

func onProxy(begin func(*redistest.Proxy)) func(*bench) func() {
	return func(b *bench) func() {
		p := b.proxy()
		begin(p)
		return p.Heal
	}
}

func onServer(begin, end func(*redistest.Server)) func(*bench) func() {
	return func(b *bench) func() {
		s := b.server()
		begin(s)
		if end == nil {
			return nil
		}
		return func() { end(s) }
	}
}

// faults are the rows. The last leaves a server dead.
var faults = []fault{
	{name: "replies come after 200 ms", begin: onProxy(func(p *redistest.Proxy) { p.SetDelay(100 * time.Millisecond) })},
	{name: "traffic held", begin: onProxy((*redistest.Proxy).Freeze)},
	{name: "replies held", begin: onProxy((*redistest.Proxy).FreezeReplies)},
	{name: "requests lost", begin: onProxy((*redistest.Proxy).DropRequests)},
	{name: "replies lost", begin: onProxy((*redistest.Proxy).DropReplies)},
	{name: "black hole", begin: onProxy((*redistest.Proxy).BlackHole)},
	{name: "replies truncated", begin: onProxy(func(p *redistest.Proxy) { p.Truncate(5) })},
	{name: "connections reset", begin: onProxy((*redistest.Proxy).Reset)},
	{name: "replies corrupt", begin: onProxy(func(p *redistest.Proxy) { p.Corrupt(1) })},
	{name: "connections cut once", begin: func(b *bench) func() { b.proxy().Cut(); return nil }},
	{name: "frozen (SIGSTOP)", begin: onServer((*redistest.Server).Freeze, (*redistest.Server).Thaw)},
	{name: "flushed", begin: onServer((*redistest.Server).Flush, nil), empties: true},
	{name: "scripts flushed", begin: onServer((*redistest.Server).FlushScripts, nil)},
	{name: "out of memory", begin: onServer((*redistest.Server).FillUp, (*redistest.Server).MakeRoom)},
	{name: "read-only: too few replicas", begin: onServer((*redistest.Server).DenyWrites, (*redistest.Server).AllowWrites)},
	{name: "read-only: a replica", begin: onServer((*redistest.Server).Demote, (*redistest.Server).Promote), not: "Cluster"},
	{name: "password changed", begin: onServer(
		func(s *redistest.Server) { s.SetPassword("another") }, func(s *redistest.Server) { s.SetPassword("") })},
	{name: "restarted empty", begin: func(b *bench) func() { return b.restart }, empties: true},
	{name: "killed, back empty", begin: func(b *bench) func() { b.server().Kill(); return b.restart }, empties: true},
	{name: "failed over", begin: func(b *bench) func() {
		if b.sentinel != nil {
			b.sentinel.Failover()
		} else {
			b.cluster.Failover(b.owner())
			b.cluster.TakeOver(b.owner()) // and back
		}
		return nil
	}, empties: true, not: "one node"},
	{name: "killed, failed over", begin: func(b *bench) func() {
		s := b.server()
		s.Kill()
		return func() {
			if b.sentinel != nil {
				b.sentinel.AwaitFailover(s)
			} else {
				b.cluster.TakeOver(b.owner())
			}
		}
	}, empties: true, not: "one node"},
}

// TestMatrix makes every fault, in every mode, with every kind of servers, under load,
// and prints what was answered, how long it took, and when decisions were back.
//
// It holds times loosely, since machines that test are busy. With -strict they are the
// budget and 10 ms before the breaker opens, 1 ms after, and a second to be back.
func TestMatrix(t *testing.T) {
	all := benches(t)
	tables := make([][]string, len(all))
	t.Run("kinds", func(t *testing.T) {
		for i, b := range all {
			t.Run(b.kind, func(t *testing.T) {
				t.Parallel()
				for _, f := range faults {
					if f.not != b.kind {
						b.well()
						t.Run(f.name, func(t *testing.T) {
							start := time.Now()
							row := b.row(t, f)
							t.Logf("in %v: %s", time.Since(start).Round(time.Millisecond), row)
							tables[i] = append(tables[i], row)
						})
					}
				}
			})
		}
	})
	for i, b := range all {
		fmt.Printf("\n%s\n\n| fault | open | closed | local | slowest 1 %% while the breaker is closed | once open | decisions again after | not answered, but charged |\n| --- | --- | --- | --- | ---: | ---: | ---: | ---: |\n%s\n",
			b.kind, strings.Join(tables[i], "\n"))
	}
}

// row makes a fault, and returns a row of the table.
func (b *bench) row(t *testing.T, f fault) string {
	cells := []*cell{b.cell(t, ratelimit.FailOpen), b.cell(t, ratelimit.FailClosed), b.cell(t, ratelimit.FailLocal)}
	for _, c := range cells {
		const some = 5
		redistest.Await(t, "decisions before the fault", func() bool {
			c.ask()
			return c.decided.Load() >= some && c.limiter.Health().OK()
		})
	}
	stop := make(chan struct{})
	var loads sync.WaitGroup
	stopped := sync.OnceFunc(func() { close(stop); loads.Wait() })
	defer stopped()

	for _, c := range cells {
		c.during.Store(true)
		loads.Go(func() { load(matrixRate, stop, func(int) { c.ask() }) })
	}
	const lasts = 300 * time.Millisecond
	end := f.begin(b)
	if end != nil {
		time.Sleep(lasts)
		end()
	} else {
		time.Sleep(lasts / 5)
	}
	ended := time.Now()
	var back time.Duration
	for _, c := range cells {
		c.during.Store(false)
		redistest.Await(t, "decisions of the store again", func() bool { return c.lastDecided.Load() > ended.UnixNano() })
		back = max(back, time.Duration(c.lastDecided.Load()-ended.UnixNano()))
	}
	stopped()
	within := time.Second
	if !*strict {
		within *= 5
	}
	back = max(back, time.Millisecond/10)
	assert.Less(t, back, within, "decisions again")

	// What is left of the limit is used up, by the store.
	charged := int64(0)
	for _, c := range cells {
		redistest.Await(t, c.mode.String()+": refused by the store", func() bool {
			before := c.refused.Load()
			for range 20 {
				c.ask()
			}
			return c.refused.Load() > before && c.limiter.Health().OK()
		})
		times := int64(1)
		if f.empties {
			times = 2
		}
		assert.LessOrEqual(t, c.admitted.Load(), times*matrixLimit, "%v: admitted by the store", c.mode)
		if !f.empties {
			// What is missing was charged without an answer, once for each at most.
			missing := matrixLimit - c.admitted.Load()
			assert.LessOrEqual(t, missing, c.unanswered.Load(), "%v: charged twice", c.mode)
			charged += missing
		}
		switch c.mode {
		case ratelimit.FailOpen:
			assert.Subset(t, []int{http.StatusOK, http.StatusTooManyRequests}, c.statuses(), "%v", c.mode)
		case ratelimit.FailClosed:
			assert.Zero(t, c.bypassed.Load()+c.localized.Load(), "%v: served without a decision", c.mode)
			assert.Subset(t, []int{http.StatusOK, http.StatusTooManyRequests, http.StatusServiceUnavailable}, c.statuses(), "%v", c.mode)
		case ratelimit.FailLocal:
			assert.Zero(t, c.bypassed.Load(), "%v: served without a decision", c.mode)
			assert.LessOrEqual(t, c.localized.Load(), int64(matrixLimit/2), "%v: the share of one of two", c.mode)
			assert.Subset(t, []int{http.StatusOK, http.StatusTooManyRequests}, c.statuses(), "%v", c.mode)
		}
	}
	var closed, open []time.Duration
	for _, c := range cells {
		closed, open = append(closed, c.closed...), append(open, c.open...)
	}
	// Times of faults that last: at once over, they have none but their own work's.
	slack, once := time.Second, 250*time.Millisecond
	if *strict {
		slack, once = 10*time.Millisecond, time.Millisecond
	}
	assert.LessOrEqual(t, p99(closed), matrixBudget+slack, "while the breaker is closed")
	assert.LessOrEqual(t, p99(open), once, "once the breaker is open")
	row := fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %d |", f.name, cells[0].answers(), cells[1].answers(), cells[2].answers(),
		ms(p99(closed)), ms(p99(open)), ms(back), charged)
	if f.empties {
		row = strings.TrimSuffix(row, fmt.Sprintf(" %d |", charged)) + " |"
	}

	for _, c := range cells {
		require.NoError(t, c.close())
	}
	redistest.Await(t, "all connections are closed", func() bool {
		open := 0
		for _, p := range b.proxies {
			open += p.Open()
		}
		return open == 0
	})
	return row
}

// A cell is a Limiter in one of the modes, with a store and connections of its own.
type cell struct {
	mode    ratelimit.FailMode
	limiter *ratelimit.Limiter
	handler http.Handler
	close   func() error
	during  atomic.Bool // the fault

	// By the store: admitted and refused are decided. Others are not answered.
	decided, admitted, refused, unanswered atomic.Int64
	bypassed, localized, lastDecided       atomic.Int64

	mu           sync.Mutex
	closed, open []time.Duration // by the breaker, when the request came
	seen, answer map[int]int     // ever, and during the fault
}

func (b *bench) cell(t *testing.T, mode ratelimit.FailMode) *cell {
	t.Helper()
	client := b.connect(b.dial)
	store := redisstore.New(client)
	c := &cell{mode: mode, seen: map[int]int{}, answer: map[int]int{}}
	var err error
	c.limiter, err = ratelimit.New(ratelimit.Config{
		// A name of its own for each row: fresh counts.
		Name: mode.String() + policy.NewTicket().String()[:8], Store: store, Budget: matrixBudget, Instances: 2, Observe: c.observe,
		Rules: []ratelimit.Rule{{Name: "rule", Key: byKey, Fail: mode, Limits: []policy.Limit{policy.FixedWindow(matrixLimit, 24*time.Hour)}}},
	})
	require.NoError(t, err)
	c.handler = limited(c.limiter)
	c.close = sync.OnceValue(func() error {
		return errors.Join(c.limiter.Close(), store.Close(), client.Close())
	})
	t.Cleanup(func() { _ = c.close() })
	return c
}

func (c *cell) observe(e ratelimit.Event) {
	switch {
	case e.Kind == ratelimit.Allowed:
		c.admitted.Add(1)
		c.decided.Add(1)
		c.lastDecided.Store(time.Now().UnixNano())
	case e.Kind == ratelimit.Refused && e.Reason == respond.RateLimitExceeded && e.Err == nil:
		c.refused.Add(1)
		c.decided.Add(1)
		c.lastDecided.Store(time.Now().UnixNano())
	case e.Kind == ratelimit.Bypassed:
		c.bypassed.Add(1)
		c.unanswered.Add(1)
	case e.Kind == ratelimit.Localized:
		c.localized.Add(1)
		c.unanswered.Add(1)
	case e.Kind == ratelimit.Refused:
		c.unanswered.Add(1)
	}
}

func (c *cell) ask() {
	during, open := c.during.Load(), !c.limiter.Health().OK()
	status, took := ask(c.handler, subject)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[status]++
	if !during {
		return
	}
	c.answer[status]++
	if open {
		c.open = append(c.open, took)
	} else {
		c.closed = append(c.closed, took)
	}
}

// statuses returns what was ever answered.
func (c *cell) statuses() (all []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for status := range c.seen {
		all = append(all, status)
	}
	slices.Sort(all)
	return all
}

// answers tells what was answered during the fault.
func (c *cell) answers() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(c.answer)) {
		parts = append(parts, strconv.Itoa(status))
	}
	return strings.Join(parts, ", ")
}

// p99 returns what one in a hundred took, or more.
func p99(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[len(times)*99/100]
}

func ms(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 1, 64) + " ms"
}
