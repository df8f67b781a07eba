package faults

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
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

// What is promised.
const (
	closedMore = 10 * time.Millisecond // than the budget, while the breaker is closed
	openMore   = time.Millisecond      // than without stint, once it is open
	backWithin = time.Second           // of the fault's end
)

const (
	matrixBudget = 50 * time.Millisecond
	matrixLimit  = 600
	matrixRounds = 6   // of each fault
	enough       = 100 // requests to have a 99th percentile
)

// A bench is servers of one kind, each behind a proxy.
type bench struct {
	t        *testing.T
	proxies  map[string]*redistest.Proxy // by address
	sentinel *redistest.Sentinel
	cluster  *redistest.Cluster
	owner    int // of the subject, among the cluster's nodes
	single   *redistest.Server
	connect  func(dialer) redis.UniversalClient
}

type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

const (
	subject    = "alice"
	masterName = "stint" // of redistest's sentinels
)

// server returns who decides about the subject.
func (b *bench) server() *redistest.Server {
	switch {
	case b.sentinel != nil:
		return b.sentinel.Master()
	case b.cluster != nil:
		return b.cluster.Nodes[b.owner]
	}
	return b.single
}

func (b *bench) proxy() *redistest.Proxy { return b.proxies[b.server().Addr()] }

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

// patient has Sentinel replace a master that has not answered for so long. Where the
// machine is busy a server takes a second to start, and a failover is a fault apart.
func (b *bench) patient(t *testing.T, patience time.Duration) {
	if b.sentinel != nil {
		c := b.sentinel.Watcher.Client(t)
		require.NoError(t, c.Do(t.Context(), "SENTINEL", "SET", masterName, "down-after-milliseconds", patience.Milliseconds()).Err())
	}
}

// restart restarts the server, empty. In a cluster it refuses for two seconds then.
func (b *bench) restart() {
	b.server().Restart()
	if b.cluster != nil {
		b.cluster.AwaitWell()
	}
}

func nodeBench(t *testing.T) *bench {
	b := &bench{single: redistest.Start(t)}
	b.connect = func(dial dialer) redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: b.single.Addr(), Dialer: dial})
	}
	b.stand(t, b.single)
	return b
}

func sentinelBench(t *testing.T) *bench {
	b := &bench{sentinel: redistest.StartSentinel(t)}
	b.connect = func(dial dialer) redis.UniversalClient {
		o := b.sentinel.Options()
		o.Dialer = dial
		return redis.NewFailoverClient(o)
	}
	b.stand(t, b.sentinel.Servers...)
	return b
}

func clusterBench(t *testing.T) *bench {
	b := &bench{cluster: redistest.StartClusterWithReplicas(t)}
	b.connect = func(dial dialer) redis.UniversalClient {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: b.cluster.Addrs(), Dialer: dial})
	}
	slot := b.cluster.Nodes[0].Client(t).ClusterKeySlot(t.Context(), subject).Val()
	b.owner = int(slot) * len(b.cluster.Nodes) / 16384
	b.stand(t, slices.Concat(b.cluster.Nodes, b.cluster.Replicas)...)
	return b
}

// stand puts proxies before servers.
func (b *bench) stand(t *testing.T, servers ...*redistest.Server) {
	b.t, b.proxies = t, map[string]*redistest.Proxy{}
	for _, s := range servers {
		b.proxies[s.Addr()] = redistest.StartProxy(t, s.Addr())
	}
}

// A fault is a row of the matrix.
type fault struct {
	name     string
	begin    func(*bench) (end func()) // nil if it is over at once
	empties  bool                      // what was counted may be gone
	opens    bool                      // the breaker, since nothing is decided
	network  bool                      // it is the network's: servers are well, however long it lasts
	rounds   int                       // how often; 0 is matrixRounds
	patience time.Duration             // of Sentinel; 0 is plenty
	not      string                    // a kind of servers that does not have it
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
	{name: "replies come after 200 ms", begin: onProxy(func(p *redistest.Proxy) { p.SetDelay(100 * time.Millisecond) }), opens: true, network: true},
	{name: "traffic held", begin: onProxy((*redistest.Proxy).Freeze), opens: true, network: true},
	{name: "replies held", begin: onProxy((*redistest.Proxy).FreezeReplies), opens: true, network: true},
	{name: "requests lost", begin: onProxy((*redistest.Proxy).DropRequests), opens: true, network: true},
	{name: "replies lost", begin: onProxy((*redistest.Proxy).DropReplies), opens: true, network: true},
	// Callers still wait when the connections are closed: what was sent could be sent again.
	{name: "replies lost for 20 ms", begin: func(b *bench) func() {
		p := b.proxy()
		p.DropReplies()
		time.Sleep(20 * time.Millisecond)
		p.Heal()
		return nil
	}, network: true},
	{name: "black hole", begin: onProxy((*redistest.Proxy).BlackHole), opens: true, network: true},
	{name: "replies truncated", begin: onProxy(func(p *redistest.Proxy) { p.Truncate(5) }), opens: true, network: true},
	{name: "connections reset", begin: onProxy((*redistest.Proxy).Reset), opens: true, network: true},
	{name: "replies corrupt", begin: onProxy(func(p *redistest.Proxy) { p.Corrupt(1) }), opens: true, network: true},
	{name: "connections cut once", begin: func(b *bench) func() { b.proxy().Cut(); return nil }},
	{name: "frozen (SIGSTOP)", opens: true, begin: onServer((*redistest.Server).Freeze, (*redistest.Server).Thaw)},
	{name: "flushed", begin: onServer((*redistest.Server).Flush, nil), empties: true},
	{name: "scripts flushed", begin: onServer((*redistest.Server).FlushScripts, nil)},
	{name: "out of memory", opens: true, begin: onServer((*redistest.Server).FillUp, (*redistest.Server).MakeRoom)},
	{name: "read-only: too few replicas", opens: true, begin: onServer((*redistest.Server).DenyWrites, (*redistest.Server).AllowWrites)},
	{name: "read-only: a replica", opens: true, begin: onServer((*redistest.Server).Demote, (*redistest.Server).Promote), not: "Cluster"},
	{name: "password changed", opens: true, begin: onServer(
		func(s *redistest.Server) { s.SetPassword("another") }, func(s *redistest.Server) { s.SetPassword("") })},
	{name: "restarted empty", rounds: 3, begin: func(b *bench) func() { return b.restart }, empties: true},
	{name: "killed, back empty", rounds: 3, opens: true, begin: func(b *bench) func() { b.server().Kill(); return b.restart }, empties: true},
	{name: "failed over", rounds: 1, begin: func(b *bench) func() {
		if b.sentinel != nil {
			b.sentinel.Failover()
		} else {
			b.cluster.Failover(b.owner)
			b.cluster.TakeOver(b.owner) // and back
		}
		return nil
	}, empties: true, not: "one node"},
	{name: "killed, failed over", opens: true, rounds: 1, patience: 1200 * time.Millisecond, begin: func(b *bench) func() {
		if b.cluster != nil {
			b.cluster.Kill(b.owner)
			return func() { b.cluster.TakeOver(b.owner) }
		}
		s := b.server()
		s.Kill()
		return func() { b.sentinel.AwaitFailover(s) }
	}, empties: true, not: "one node"},
}

// TestMatrix makes every fault, in every mode, with every kind of servers, under load,
// and prints what was answered, how long it took, and when decisions were back.
//
// Latency is measured beside controls, as [added] says, in each mode; recovery from
// when a [witness] sees the servers well, in each round.
func TestMatrix(t *testing.T) {
	// Proxies make much garbage when connections come and go. To collect it delays
	// those who allocate, which controls do less.
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	kinds := []struct {
		name  string
		bench func(*testing.T) *bench
		rows  []string
	}{
		{name: "one node", bench: nodeBench},
		{name: "Sentinel", bench: sentinelBench},
		{name: "Cluster", bench: clusterBench},
	}
	t.Run("kinds", func(t *testing.T) {
		// Beside each other, however few cores there are: they mostly wait.
		var all sync.WaitGroup
		defer all.Wait()
		for i := range kinds {
			k := &kinds[i]
			all.Go(func() {
				t.Run(k.name, func(t *testing.T) {
					b := k.bench(t)
					for _, f := range faults {
						if f.not != k.name {
							t.Run(f.name, func(t *testing.T) { k.rows = append(k.rows, b.row(t, f)) })
						}
					}
				})
			})
		}
	})
	for _, k := range kinds {
		fmt.Printf("\n### %s\n\n| fault | open | closed | local | breaker closed, 99 %% | longer than controls | open, 99 %% | longer than controls | decisions again after | not answered, but charged |\n"+
			"| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n%s\n", k.name, strings.Join(k.rows, "\n"))
	}
}

// row makes a fault, round by round, and returns a row of the table. A breaker is
// closed for the budget alone in each: that takes many rounds, most of them short.
func (b *bench) row(t *testing.T, f fault) string {
	b.patient(t, cmp.Or(f.patience, time.Minute))
	cells := []*cell{b.cell(t, ratelimit.FailOpen), b.cell(t, ratelimit.FailClosed), b.cell(t, ratelimit.FailLocal)}
	w, machine := b.witness(), new(controls)
	closed := sync.OnceValue(w.close)
	defer func() { _ = closed() }()
	for i := range cmp.Or(f.rounds, matrixRounds) {
		if i == 0 || !f.network {
			b.well()
		}
		lasts := 2 * matrixBudget
		if i == 0 {
			lasts = 500 * time.Millisecond
			if f.network {
				lasts = time.Second // the breaker's probes are rare by then
			}
		}
		b.round(t, f, lasts, cells, w, machine)
	}
	require.NoError(t, closed())

	var atClosed, atOpen, atClosedMore, atOpenMore, back time.Duration
	charged := int64(0)
	for _, c := range cells {
		charged += c.balance(t, f)
		c.hold(t, f, machine)
		took, more := c.added.closed(machine)
		atClosed, atClosedMore = max(atClosed, took), worst(atClosedMore, more)
		if len(c.added.open) >= enough {
			atOpen, atOpenMore = max(atOpen, p99(c.added.open)), worst(atOpenMore, p99(c.added.openMore))
		}
		back = max(back, slices.Max(c.backAfter))
	}
	cell := []string{f.name, cells[0].answers(), cells[1].answers(), cells[2].answers(),
		ms(atClosed), ms(atClosedMore), ms(atOpen), ms(atOpenMore), ms(max(back, time.Millisecond/10)), strconv.FormatInt(charged, 10)}
	if f.empties {
		cell[len(cell)-1] = ""
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
	return "| " + strings.Join(cell, " | ") + " |"
}

// worst returns the larger of two differences, of which 0 is none yet.
func worst(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return a + b
	}
	return max(a, b)
}

// round makes a fault, under load, and waits until the store decides again.
func (b *bench) round(t *testing.T, f fault, lasts time.Duration, cells []*cell, w *witness, machine *controls) {
	for _, c := range cells {
		const some = 5
		before := c.decided.Load()
		redistest.Await(t, "decisions before the fault", func() bool {
			c.ask()
			return c.decided.Load() >= before+some && c.limiter.Health().OK()
		})
	}
	// Controls go on until all requests are answered, whenever they came.
	answered := make(chan struct{})
	var controls sync.WaitGroup
	controls.Go(func() {
		load(int(time.Second/matrixEvery), answered, func(i int) {
			c := cells[i%len(cells)]
			machine.control(c.send("/waits"))
		})
	})
	stop := make(chan struct{})
	var loads sync.WaitGroup
	defer func() {
		close(stop)
		loads.Wait()
		close(answered)
		controls.Wait()
	}()
	for _, c := range cells {
		c.added.next()
		c.during.Store(true)
		loads.Go(func() { c.load(stop) })
	}
	end := f.begin(b)
	if end != nil {
		time.Sleep(lasts)
		end()
	} else {
		time.Sleep(matrixBudget)
	}
	ended := time.Now()
	for _, c := range cells {
		c.during.Store(false)
		c.back.Store(0)
	}
	for _, c := range cells {
		redistest.Await(t, c.mode.String()+": decisions of the store again", func() bool { return c.back.Load() != 0 })
		c.backAfter = append(c.backAfter, w.since(ended, time.Unix(0, c.back.Load())))
	}
}

// A cell is a Limiter in one of the modes, with a store and connections of its own.
type cell struct {
	mode    ratelimit.FailMode
	limiter *ratelimit.Limiter
	store   *redisstore.Store
	router  http.Handler
	close   func() error
	own     policy.Charge // of a request, but for the key
	shared  policy.Charge

	during   atomic.Bool  // the fault
	back     atomic.Int64 // when the store decided first after it
	requests atomic.Int64

	// By the store: admitted and refused are decided. Others are not answered.
	decided, admitted, refused atomic.Int64
	bypassed, localized        atomic.Int64

	added     added
	backAfter []time.Duration
	fault     atomic.Value // how the store failed last

	mu           sync.Mutex
	seen, answer map[int]int // ever, and during the fault
}

func (b *bench) cell(t *testing.T, mode ratelimit.FailMode) *cell {
	t.Helper()
	client := b.connect(b.dial)
	store := redisstore.New(client)
	// A name of its own for each row: fresh counts.
	name := mode.String() + policy.NewTicket().String()[:8]
	shared, own := policy.FixedWindow(matrixLimit, 24*time.Hour), policy.FixedWindow(10, 24*time.Hour)
	c := &cell{
		mode: mode, store: store, seen: map[int]int{}, answer: map[int]int{},
		shared: policy.Charge{Limit: shared, Scope: policy.NewScope(name, "shared"), Key: subject},
		own:    policy.Charge{Limit: own, Scope: policy.NewScope(name, "own"), Partition: subject},
	}
	var err error
	c.limiter, err = ratelimit.New(ratelimit.Config{
		Name: name, Store: store, Budget: matrixBudget, Instances: 2, Observe: c.observe,
		Rules: []ratelimit.Rule{
			{Name: "shared", Key: byKey, Fail: mode, Limits: []policy.Limit{shared}},
			// What became of each request: it is charged for itself, too.
			{Name: "own", Key: byRequest, Partition: byKey, Fail: mode, Limits: []policy.Limit{own}},
		},
	})
	require.NoError(t, err)
	router := http.NewServeMux()
	router.Handle("/limited", limited(c.limiter))
	router.HandleFunc("/free", func(http.ResponseWriter, *http.Request) {})
	router.HandleFunc("/waits", func(_ http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), matrixBudget) // a budget, and no more
		defer cancel()
		<-ctx.Done()
	})
	c.router = router
	c.close = sync.OnceValue(func() error {
		return errors.Join(c.limiter.Close(), store.Close(), client.Close())
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%v: %+v, requests %d, last fault: %v", mode, c.limiter.Health(), c.requests.Load(), c.fault.Load())
		}
		_ = c.close()
	})
	return c
}

func byRequest(r *http.Request) (string, error) { return r.Header.Get("X-Request"), nil }

func (c *cell) observe(e ratelimit.Event) {
	if e.Err != nil {
		c.fault.Store(fmt.Sprintf("%v: %v: %v", time.Now().Format("05.000"), e.Kind, e.Err))
	}
	switch {
	case e.Kind == ratelimit.Allowed:
		c.admitted.Add(1)
	case e.Kind == ratelimit.Refused && e.Reason == respond.RateLimitExceeded && e.Err == nil:
		c.refused.Add(1)
	case e.Kind == ratelimit.Bypassed:
		c.bypassed.Add(1)
		return
	case e.Kind == ratelimit.Localized:
		c.localized.Add(1)
		return
	default:
		return
	}
	c.decided.Add(1)
	c.back.CompareAndSwap(0, time.Now().UnixNano())
}

// load sends requests and their controls, until stop is closed, and returns when all
// are answered.
func (c *cell) load(stop <-chan struct{}) {
	runtime.LockOSThread() // whose preemptions are counted
	defer runtime.UnlockOSThread()
	var calls sync.WaitGroup
	defer calls.Wait()
	tick := time.NewTicker(matrixEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		during := c.during.Load()
		switch {
		case c.turned():
			c.next(during, i)
		case during:
			calls.Go(func() { c.added.request(c.send("/limited")) })
		default:
			calls.Go(c.ask)
		}
	}
}

// turned tells whether the breaker turns requests away now.
func (c *cell) turned() bool {
	failing := c.limiter.Health().Failing
	if len(failing) == 0 {
		return false
	}
	node := c.store.Node(&c.shared)
	return slices.ContainsFunc(failing, func(f ratelimit.Failure) bool { return f.Node == node })
}

// next sends a request next to one without a limiter, now one of them first and now
// the other.
func (c *cell) next(during bool, i int) {
	paths := [2]string{"/limited", "/free"}
	took := map[string]time.Duration{}
	before := preemptions()
	for j := range paths {
		path := paths[(i+j)%2]
		took[path] = c.send(path).took
	}
	if during {
		c.added.pair(took["/limited"], took["/free"], preemptions() != before)
	}
}

// ask sends a request that is not measured.
func (c *cell) ask() { c.send("/limited") }

// send sends a request.
func (c *cell) send(path string) measured {
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("X-Key", subject)
	limited := path == "/limited"
	if limited {
		r.Header.Set("X-Request", strconv.FormatInt(c.requests.Add(1), 10))
	}
	during := c.during.Load()
	w := httptest.NewRecorder()
	start := time.Now()
	c.router.ServeHTTP(w, r)
	end := time.Now()
	if limited {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.seen[w.Code]++
		if during {
			c.answer[w.Code]++
		}
	}
	return measured{end.Sub(start), end}
}

// balance uses up what is left of the limit, by the store, and balances the books: no
// more was admitted than the limit, and each request was charged once at most, whether
// or not it was answered. It returns how many were charged that were not answered.
func (c *cell) balance(t *testing.T, f fault) (charged int64) {
	t.Helper()
	redistest.Await(t, c.mode.String()+": the limit used up, by charges of a request each", func() bool {
		before := c.refused.Load()
		var asks sync.WaitGroup
		for range 8 {
			asks.Go(func() {
				for range 20 {
					c.ask()
				}
			})
		}
		asks.Wait()
		if c.refused.Load() == before || !c.limiter.Health().OK() {
			return false
		}
		total := c.chargedOnce(t)
		// What comes back late, from takes that nobody waited for, is used up too.
		return total >= 0 && f.empties || total == matrixLimit
	})
	admitted, most := c.admitted.Load(), int64(matrixLimit)
	if f.empties {
		most *= int64(1 + cmp.Or(f.rounds, matrixRounds))
	}
	assert.LessOrEqual(t, admitted, most, "%v: admitted by the store", c.mode)
	return max(matrixLimit-admitted, 0)
}

// chargedOnce holds each request to one charge at most, and returns how many there are.
func (c *cell) chargedOnce(t *testing.T) (total int64) {
	t.Helper()
	var charges []policy.Charge
	var d policy.Decision
	last := c.requests.Load()
	for i := int64(1); i <= last; i++ {
		own := c.own
		own.Key = strconv.FormatInt(i, 10)
		charges = append(charges, own)
		if len(charges) < policy.MaxCharges && i < last {
			continue
		}
		if err := c.store.Peek(t.Context(), charges, &d); err != nil {
			return -1
		}
		for j := range d.Results {
			total += d.Results[j].Used
			assert.LessOrEqual(t, d.Results[j].Used, int64(1), "%v: charges of one request", c.mode)
		}
		charges = charges[:0]
	}
	return total
}

// hold holds the cell to what its mode promises.
func (c *cell) hold(t *testing.T, f fault, machine *controls) {
	t.Helper()
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
	took, more := c.added.closed(machine)
	open := c.added.openMore
	t.Logf("%v: breaker closed: 99 %% within %v, %v beyond controls; open: %d and %d set aside, within %v, %v; decisions again after %v",
		c.mode, took, more, len(open), c.added.aside, p99(c.added.open), p99(open), c.backAfter)
	if underRace {
		return
	}
	if f.opens {
		assert.GreaterOrEqual(t, len(open), enough, "%v: requests once the breaker is open", c.mode)
		assert.Less(t, c.added.aside, len(open), "%v: most of them count", c.mode)
	}
	if len(c.added.rounds) >= 3 { // else there is none in the middle
		assert.LessOrEqual(t, more, closedMore, "%v: longer than the budget, while the breaker is closed", c.mode)
	}
	if len(open) >= enough {
		assert.Less(t, p99(open), openMore, "%v: longer than without a limiter, once the breaker is open", c.mode)
	}
	for _, after := range c.backAfter {
		assert.Less(t, after, backWithin, "%v: decisions again", c.mode)
	}
}

// statuses returns what was ever answered.
func (c *cell) statuses() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.seen))
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

func ms(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 1, 64) + " ms"
}
