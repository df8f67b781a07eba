package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// hangs is a fault of a store that does not answer.
func hangs(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func ruleOf(fail ratelimit.FailMode, limits ...policy.Limit) ratelimit.Rule {
	return ratelimit.Rule{Name: "per_key", Key: apiKey, Limits: limits, Fail: fail}
}

// A store that does not answer costs one request the budget, and then nothing. Within
// a second of the fault's end it is asked again, and nothing was charged twice.
func TestDeadStoreCostsTheBudgetOnce(t *testing.T) {
	t.Parallel()
	hour := policy.PerHour(100_000)
	for name, pause := range map[string]time.Duration{"busy": 2 * time.Millisecond, "slow": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var seen events
				store := newSpy()
				l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailOpen, hour)}, Observe: seen.observe})
				h := l.Handler(http.HandlerFunc(ok))
				require.Equal(t, 200, get(h, "/", "a").Code)
				require.True(t, l.Health().OK())

				store.fail(hangs)
				began, cost := time.Now(), time.Duration(0)
				requests := int64(0)
				for time.Since(began) < 10*time.Second {
					start := time.Now()
					require.Equal(t, 200, get(h, "/", "a").Code)
					cost += time.Since(start)
					requests++
					time.Sleep(pause)
				}
				assert.Equal(t, 50*time.Millisecond, cost, "of all requests")
				health := l.Health()
				require.Len(t, health.Failing, 1)
				assert.False(t, health.OK())
				assert.Empty(t, health.Failing[0].Node)
				assert.Equal(t, began.Add(50*time.Millisecond), health.Failing[0].Since)
				require.ErrorIs(t, health.Failing[0].Err, context.DeadlineExceeded)
				assert.Equal(t, requests, health.Bypassed)
				assert.Less(t, store.taken(), 40, "probes")
				assert.Greater(t, store.taken(), 10)

				store.fail(nil)
				ended := time.Now()
				for !l.Health().OK() {
					get(h, "/", "a")
					time.Sleep(pause)
				}
				assert.Less(t, time.Since(ended), time.Second)
				synctest.Wait()
				bypassed := l.Health().Bypassed
				before := used(t, store, "api", "per_key", hashed("a"), hour)
				assert.EqualValues(t, 1, before, "what was served meanwhile is not charged, and what probes took is given back")
				get(h, "/", "a")
				assert.Equal(t, before+1, used(t, store, "api", "per_key", hashed("a"), hour))
				assert.Equal(t, bypassed, l.Health().Bypassed)

				kinds := map[ratelimit.Kind]int{}
				for _, kind := range seen.kinds() {
					kinds[kind]++
				}
				assert.Equal(t, map[ratelimit.Kind]int{
					ratelimit.Allowed: 2, ratelimit.Bypassed: int(bypassed), ratelimit.StoreLost: 1, ratelimit.StoreBack: 1}, kinds)
			})
		})
	}
}

// Where requests are rare, a probe is the request itself: it is decided as soon as the
// store is back.
func TestRareRequestIsItsOwnProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newSpy()
		l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailClosed, policy.PerHour(2))}, Observe: func(ratelimit.Event) {}})
		h := l.Handler(http.HandlerFunc(ok))
		store.fail(hangs)
		for range 3 {
			assert.Equal(t, 503, get(h, "/", "a").Code)
			time.Sleep(time.Minute)
		}
		store.fail(nil)
		assert.Equal(t, map[int]int{200: 2, 429: 1}, statuses(h, "a", 3), "of the probe on")
		assert.True(t, l.Health().OK())
	})
}

// Requests that were under way when the breaker opened fail with the one that opened
// it. They put off no probe: a hiccup is over soon, however many requests met it.
func TestHiccupIsOverSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newSpy()
		l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailOpen, policy.PerHour(100_000))}, Observe: func(ratelimit.Event) {}})
		h := l.Handler(http.HandlerFunc(ok))
		store.fail(hangs)
		var wg sync.WaitGroup
		for range 50 { // in the budget, each a millisecond after the other
			wg.Go(func() { get(h, "/", "a") })
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		require.False(t, l.Health().OK())
		wg.Wait() // all have failed
		store.fail(nil)
		ended := time.Now()
		for !l.Health().OK() {
			get(h, "/", "a")
			time.Sleep(time.Millisecond)
		}
		assert.LessOrEqual(t, time.Since(ended), 50*time.Millisecond)
	})
}

// Probes spread: they neither come in step nor later than the longest wait.
func TestProbesAreJittered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Duration
		began := time.Now()
		store := newSpy()
		store.fail(func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(began))
			return context.DeadlineExceeded
		})
		l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailOpen, policy.PerHour(1))}, Observe: func(ratelimit.Event) {}})
		h := l.Handler(http.HandlerFunc(ok))
		for time.Since(began) < 30*time.Second {
			get(h, "/", "a")
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		gaps := map[time.Duration]bool{}
		for i := 10; i < len(at); i++ {
			gap := at[i] - at[i-1]
			gaps[gap.Round(time.Millisecond)] = true
			assert.GreaterOrEqual(t, gap, 300*time.Millisecond)
			assert.LessOrEqual(t, gap, 402*time.Millisecond)
		}
		assert.Greater(t, len(gaps), 10)
	})
}

// One slow call among others that are answered opens nothing: the store is not dead.
func TestSlowCallAmongOthersOpensNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen events
		store := newSpy()
		var n atomic.Int64
		store.fail(func(ctx context.Context) error {
			if n.Add(1)%10 == 0 {
				return hangs(ctx)
			}
			return nil
		})
		l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailOpen, policy.PerHour(100_000))}, Observe: seen.observe})
		h := l.Handler(http.HandlerFunc(ok))
		var wg sync.WaitGroup
		for range 205 {
			wg.Go(func() { get(h, "/", "a") })
			time.Sleep(10 * time.Millisecond)
		}
		wg.Wait()
		assert.NotContains(t, seen.kinds(), ratelimit.StoreLost)
		assert.EqualValues(t, 20, l.Health().Bypassed)
	})
}

// Calls that fail at once cost nothing: it takes a few of them.
func TestQuickFaultsOpenAfterSome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newSpy()
		store.fail(func(context.Context) error { return errTest })
		l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailOpen, policy.PerHour(100))}, Observe: func(ratelimit.Event) {}})
		h := l.Handler(http.HandlerFunc(ok))
		for range 4 {
			get(h, "/", "a")
		}
		assert.True(t, l.Health().OK())
		store.fail(nil)
		get(h, "/", "a")
		store.fail(func(context.Context) error { return errTest })
		for range 4 {
			get(h, "/", "a")
		}
		assert.True(t, l.Health().OK(), "an answer lies between")
		statuses(h, "a", 20)
		assert.False(t, l.Health().OK())
		assert.Equal(t, 10, store.taken(), "five faults, and then it is not asked")
	})
}

// What one key, one client or the charges are at fault for says nothing of the store.
func TestFaultsThatAreNotTheStores(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]error{
		"a key":     fmt.Errorf("test: %w", policy.ErrKey),
		"canceled":  context.Canceled,
		"somewhere": errors.Join(errTest, policy.ErrKey),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newSpy()
			store.fail(func(context.Context) error { return fault })
			l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailClosed, policy.PerHour(1))}, Observe: func(ratelimit.Event) {}})
			h := l.Handler(http.HandlerFunc(ok))
			assert.Equal(t, map[int]int{503: 100}, statuses(h, "bad", 100))
			assert.True(t, l.Health().OK())
			assert.Equal(t, 100, store.taken())
			store.fail(nil)
			assert.Equal(t, 200, get(h, "/", "good").Code)
		})
	}
}

// Clients that go away, however many, neither open the breaker nor pass a limit.
func TestDisconnectsNeitherOpenNorPass(t *testing.T) {
	t.Parallel()
	disconnects := 1_000_000
	if underRace || testing.Short() {
		disconnects = 10_000
	}
	hour := policy.FixedWindow(3, time.Hour)
	store := newSpy()
	var cancel atomic.Pointer[context.CancelFunc]
	store.fail(func(ctx context.Context) error {
		if c := cancel.Load(); c != nil {
			(*c)() // while the store decides
		}
		return ctx.Err()
	})
	var seen atomic.Int64
	l := limiter(t, ratelimit.Config{Store: lean{store}, Budget: time.Minute, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailOpen, hour)}, Observe: func(e ratelimit.Event) {
		if e.Kind != ratelimit.Abandoned {
			seen.Add(1)
		}
	}})
	next := new(served)
	h := l.Handler(next)
	for range disconnects {
		ctx, stop := context.WithCancel(context.Background())
		cancel.Store(&stop)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, request("/", "a").WithContext(ctx))
		if w.Code != http.StatusServiceUnavailable {
			t.Fatal(w.Code)
		}
	}
	cancel.Store(nil)
	assert.Zero(t, next.n)
	assert.Zero(t, seen.Load(), "they were all abandoned, and nothing else")
	assert.True(t, l.Health().OK())
	assert.Zero(t, used(t, store, "api", "per_key", hashed("a"), hour), "all was given back")
	assert.Equal(t, map[int]int{200: 3, 429: 2}, statuses(h, "a", 5))
	assert.Equal(t, ratelimit.Health{}, l.Health())
}

// lean is a spy that keeps no record of settles.
type lean struct{ *spy }

func (l lean) Settle(ctx context.Context, ticket policy.Ticket, settlements []policy.Settlement) error {
	return l.Store.Settle(ctx, ticket, settlements)
}

// While the store is away nobody waits for giving back and settling; they are sent all
// the same.
func TestSettlesGoOnBehindAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hour := policy.PerHour(100)
		store := newSpy()
		l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailOpen, hour)}, Observe: func(ratelimit.Event) {}})
		inner := l.Handler(http.HandlerFunc(ok))
		h := l.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.NoError(t, ratelimit.SetCost(r.Context(), "per_key", 7))
			store.fail(hangs)
			store.settle = func(ctx context.Context) error { time.Sleep(20 * time.Millisecond); return nil }
			get(inner, "/", "b") // which opens the breaker
			assert.False(t, l.Health().OK())
			w.WriteHeader(200)
		}))
		start := time.Now()
		get(h, "/", "a")
		assert.Equal(t, 50*time.Millisecond, time.Since(start), "the other request's, and none for the settle")
		require.NoError(t, l.Close()) // waits for it
		assert.Equal(t, 70*time.Millisecond, time.Since(start))
		assert.EqualValues(t, 7, used(t, store, "api", "per_key", hashed("a"), hour))
	})
}

// A nodal is a store of nodes, named by what the keys begin with, that can be made to
// hang one by one.
type nodal struct {
	*spy
	mu      sync.Mutex
	hanging map[string]bool
	asked   map[string]int
	heirs   sync.Map // of nodes that others have replaced
}

func newNodal() *nodal {
	return &nodal{spy: newSpy(), hanging: map[string]bool{}, asked: map[string]int{}}
}

var _ policy.Nodes = (*nodal)(nil)

func (n *nodal) Node(c *policy.Charge) string {
	if heir, ok := n.heirs.Load(c.Key[:1]); ok {
		return heir.(string)
	}
	return c.Key[:1]
}

func (n *nodal) hang(node string, hang bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hanging[node] = hang
}

func (n *nodal) TakeKnown(ctx context.Context, ticket policy.Ticket, charges []policy.Charge, d *policy.Decision) error {
	var known []policy.Charge
	var at []int
	n.mu.Lock()
	asked := map[string]bool{}
	for i := range charges {
		node := n.Node(&charges[i])
		asked[node] = true
		if !n.hanging[node] {
			known, at = append(known, charges[i]), append(at, i)
		}
	}
	for node := range asked {
		n.asked[node]++
	}
	n.mu.Unlock()
	d.Reset(len(charges))
	if len(known) > 0 {
		var k policy.Decision
		if err := n.Store.Take(ctx, ticket, known, &k); err != nil {
			return err
		}
		d.Verdict, d.Now = k.Verdict, k.Now
		for i := range at {
			d.Results[at[i]] = k.Results[i]
		}
	}
	if len(known) == len(charges) {
		return nil
	}
	return hangs(ctx)
}

// Peek is all or nothing.
func (n *nodal) Peek(ctx context.Context, charges []policy.Charge, d *policy.Decision) error {
	n.mu.Lock()
	hang := false
	for i := range charges {
		hang = hang || n.hanging[n.Node(&charges[i])]
	}
	n.mu.Unlock()
	if hang {
		return hangs(ctx)
	}
	return n.spy.Peek(ctx, charges, d)
}

func plainKey(name string) ratelimit.KeyFunc {
	return func(r *http.Request) (string, error) { return r.Header.Get(name), nil }
}

// One lost node of several fails the rules whose keys it has, each in its mode, and
// opens nothing for the others.
func TestOneLostNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen events
		store := newNodal()
		hour := policy.FixedWindow(4, time.Hour)
		key, workspace := plainKey("X-Key"), plainKey("X-Workspace")
		l := limiter(t, ratelimit.Config{Store: store, Instances: 2, Observe: seen.observe, Rules: []ratelimit.Rule{
			{Name: "closed", Key: key, Limits: []policy.Limit{hour}, Fail: ratelimit.FailClosed},
			{Name: "open", Key: workspace, Limits: []policy.Limit{hour}},
			{Name: "local", Key: workspace, Limits: []policy.Limit{policy.FixedWindow(6, time.Hour)}, Fail: ratelimit.FailLocal},
		}})
		h := l.Handler(http.HandlerFunc(ok))
		send := func(key, workspace string) *httptest.ResponseRecorder {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("X-Key", key)
			r.Header.Set("X-Workspace", workspace)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		require.Equal(t, 200, send("a1", "b1").Code)

		// The node of workspaces is lost. Keys are decided, and workspaces by mode.
		store.hang("b", true)
		start := time.Now()
		w := send("a1", "b1")
		assert.Equal(t, 200, w.Code)
		assert.Equal(t, 50*time.Millisecond, time.Since(start))
		assert.Equal(t, "2", w.Header().Get("X-RateLimit-Remaining"), "of the key's 4, and of the share of 3 that counts from now")
		e := seen.last(t)
		assert.Equal(t, ratelimit.Bypassed, e.Kind)
		assert.Equal(t, "open", e.Rule)
		lost := l.Health().Failing
		require.Len(t, lost, 1)
		assert.Equal(t, "b", lost[0].Node)

		start = time.Now()
		assert.Equal(t, 200, send("a1", "b1").Code)
		assert.Equal(t, 200, send("a1", "b1").Code, "the key's last")
		w = send("a1", "b1")
		assert.Equal(t, 429, w.Code)
		e = seen.last(t)
		assert.Equal(t, "closed", e.Rule, "decided by its node")
		w = send("a2", "b1")
		assert.Equal(t, 429, w.Code)
		e = seen.last(t)
		assert.Equal(t, ratelimit.Refused, e.Kind)
		assert.Equal(t, "local", e.Rule, "the share of 3 is used")
		assert.Zero(t, used(t, store.spy, "api", "closed", "a2", hour), "and what else was taken is given back")
		assert.Zero(t, time.Since(start), "nobody waits for the lost node")
		assert.EqualValues(t, 3, l.Health().Bypassed)
		assert.EqualValues(t, 1, l.Health().Local)

		// The node of keys is lost, too: what is closed refuses, and takes nothing.
		store.hang("a", true)
		start = time.Now()
		before := used(t, store.spy, "api", "open", "c1", hour)
		w = send("a3", "c1")
		assert.Equal(t, 503, w.Code)
		assert.Equal(t, "1", w.Header().Get("Retry-After"))
		assert.Equal(t, 50*time.Millisecond, time.Since(start))
		synctest.Wait()
		assert.Equal(t, before, used(t, store.spy, "api", "open", "c1", hour))
		asked := store.asked["c"]
		assert.Equal(t, 503, send("a3", "c1").Code)
		assert.Equal(t, before, used(t, store.spy, "api", "open", "c1", hour))
		for range 4 {
			assert.Equal(t, 200, send("d1", "c1").Code)
		}
		unavailable := l.Health().Unavailable
		w = send("a3", "c1")
		assert.Equal(t, 429, w.Code, "what can be decided is")
		assert.Equal(t, "3600", w.Header().Get("Retry-After"))
		assert.Equal(t, "open", seen.last(t).Rule)
		assert.Equal(t, asked+4, store.asked["c"], "and nothing taken, nor given back")
		assert.Equal(t, unavailable, l.Health().Unavailable)
		assert.Len(t, l.Health().Failing, 2)

		// They come back, and what is bypassed or local is the store's again.
		store.hang("a", false)
		store.hang("b", false)
		for range 100 {
			send("a4", "b4")
			time.Sleep(10 * time.Millisecond)
		}
		assert.True(t, l.Health().OK())
		assert.Equal(t, 200, send("a5", "b5").Code)
		assert.EqualValues(t, 1, used(t, store.spy, "api", "open", "b5", hour))
	})
}

// Where one node is known to be away and a closed rule with it, what the others say is
// told, each by itself: one more that fails opens nothing for a third.
func TestClosedRequestsAskNodeByNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, hour := newNodal(), policy.FixedWindow(2, time.Hour)
		rule := func(name string, fail ratelimit.FailMode) ratelimit.Rule {
			return ratelimit.Rule{Name: name, Key: plainKey(name), Limits: []policy.Limit{hour}, Fail: fail}
		}
		l := limiter(t, ratelimit.Config{Store: store, Observe: func(ratelimit.Event) {}, Rules: []ratelimit.Rule{
			rule("A", ratelimit.FailClosed), rule("B", ratelimit.FailOpen), rule("C", ratelimit.FailOpen)}})
		h := l.Handler(http.HandlerFunc(ok))
		ask := func(a, b, c string) *http.Request {
			r := httptest.NewRequest("GET", "/", nil)
			for name, key := range map[string]string{"A": a, "B": b, "C": c} {
				r.Header.Set(name, key)
			}
			return r
		}
		send := func(a, b, c string) int {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, ask(a, b, c))
			return w.Code
		}
		failing := func() (nodes []string) {
			for _, f := range l.Health().Failing {
				nodes = append(nodes, f.Node)
			}
			return nodes
		}
		require.Equal(t, 200, send("a", "b", "c"))
		store.hang("a", true)
		require.Equal(t, 503, send("a", "b", "c"))
		require.Equal(t, []string{"a"}, failing())
		store.hang("b", true)
		time.Sleep(time.Millisecond)
		require.Equal(t, 503, send("a", "b", "c"))
		require.Equal(t, []string{"a", "b"}, failing(), "c is well")
		settled := len(store.settles)
		require.Equal(t, 503, send("a", "d", "c"))
		require.Len(t, store.settles, settled)
		require.EqualValues(t, 1, used(t, store.spy, "api", "C", "c", hour), "nothing is taken, nor given back")
		require.Equal(t, 200, send("d", "d", "c")) // the last of c's
		require.Equal(t, 429, send("a", "b", "c"))
		require.Equal(t, 429, send("a", "d", "c"))
		report, err := l.Peek(ask("a", "d", "c"))
		require.Error(t, err)
		require.Equal(t, 429, report.Denial.Status, "as a request would be")
		report, err = l.Peek(ask("a", "d", "d"))
		require.Error(t, err)
		require.Equal(t, 503, report.Denial.Status)
	})
}

// A node that nobody asks any more is failing as long as it has its keys: once another
// has them it is forgotten, with its breaker.
func TestNodeThatIsReplacedIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen events
		store := newNodal()
		l := limiter(t, ratelimit.Config{Store: store, Observe: seen.observe, Rules: []ratelimit.Rule{
			{Name: "open", Key: plainKey("X-Key"), Limits: []policy.Limit{policy.PerHour(100_000)}}}})
		h := l.Handler(http.HandlerFunc(ok))
		send := func(key string) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("X-Key", key)
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
		troubles := func() (lost, back int) {
			seen.mu.Lock()
			defer seen.mu.Unlock()
			for _, e := range seen.all {
				switch e.Kind {
				case ratelimit.StoreLost:
					lost++
				case ratelimit.StoreBack:
					assert.Equal(t, "a", e.Node)
					back++
				}
			}
			return lost, back
		}
		for i := range 2 {
			store.hang("a", true)
			send("a")
			for range 3600 {
				assert.Len(t, l.Health().Failing, 1)
				send("b")
				time.Sleep(time.Second)
			}
			lost, back := troubles()
			assert.Equal(t, i+1, lost)
			assert.Equal(t, i, back)
			store.heirs.Store("a", "") // a moment when it is not known whose its keys are
			assert.Len(t, l.Health().Failing, 1)
			store.heirs.Store("a", "c")
			assert.True(t, l.Health().OK(), "who looks sees it at once")
			_, back = troubles()
			assert.Equal(t, i, back, "and calls nobody")
			send("a") // it is the other's
			lost, back = troubles()
			assert.Equal(t, i+1, lost)
			assert.Equal(t, i+1, back)
			assert.True(t, l.Health().OK())
			assert.EqualValues(t, i+1, l.Health().Bypassed, "that which found it failing")
			store.heirs.Delete("a")
		}
	})
}

// The breaker costs little where all is well: nothing is locked, and time is looked at
// twice.
func BenchmarkHealthyStore(b *testing.B) {
	l := ratelimit.Must(ratelimit.New(ratelimit.Config{Store: foreign{memstore.New(memstore.Options{})}, Rules: []ratelimit.Rule{
		ruleOf(ratelimit.FailOpen, policy.PerHour(1_000_000_000))}}))
	defer l.Close()
	h := l.Handler(http.HandlerFunc(ok))
	b.ReportAllocs()
	r := request("/", "a")
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}

// foreign is a store that the middleware does not know.
type foreign struct{ policy.Store }

// An undivided store is of one node, of which some keys hang.
type undivided struct{ *nodal }

func (undivided) Node(*policy.Charge) string { return "n" }

// A probe of which a part was answered gives that back: nothing is charged for it.
func TestProbeThatIsKnownInPart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, hour := undivided{newNodal()}, policy.FixedWindow(100, time.Hour)
		l := limiter(t, ratelimit.Config{Store: store, Observe: func(ratelimit.Event) {}, Rules: []ratelimit.Rule{
			{Name: "a", Key: plainKey("A"), Limits: []policy.Limit{hour}},
			{Name: "b", Key: plainKey("B"), Limits: []policy.Limit{hour}},
		}})
		h := l.Handler(http.HandlerFunc(ok))
		send := func() {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("A", "a")
			r.Header.Set("B", "b")
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
		store.hang("a", true)
		store.hang("b", true)
		send()
		assert.False(t, l.Health().OK())
		store.hang("a", false)
		time.Sleep(50 * time.Millisecond)
		send() // and behind it a probe
		l.Quiet()
		assert.Equal(t, 2, store.asked["a"], "there was a probe")
		assert.Zero(t, used(t, store.spy, "api", "a", "a", hour))
	})
}

// What was cancelled is no answer: it neither opens a breaker nor closes it.
func TestCancelledIsNoAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newSpy()
		l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailOpen, policy.PerHour(100))}, Observe: func(ratelimit.Event) {}})
		h := l.Handler(http.HandlerFunc(ok))
		cancelled := func(context.Context) error { return context.Canceled }
		for _, open := range []bool{false, true} {
			if open {
				store.fail(hangs)
				get(h, "/", "a")
			}
			store.fail(cancelled)
			before := store.taken()
			for range 20 {
				get(h, "/", "a")
				l.Quiet()
				assert.Equal(t, !open, l.Health().OK())
				time.Sleep(time.Second)
			}
			assert.GreaterOrEqual(t, store.taken(), before+19, "it is asked")
		}
	})
}

// A shy store is a nodal one that does not know its nodes at first.
type shy struct {
	*nodal
	known atomic.Bool
}

func (s *shy) Node(c *policy.Charge) string {
	if !s.known.Load() {
		return ""
	}
	return s.nodal.Node(c)
}

// If the first call fails, before nodes are known, all is well again once a node has
// answered: nobody asks again what is not a node's.
func TestNodesUnknownAtFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen events
		store := &shy{nodal: newNodal()}
		l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{ruleOf(ratelimit.FailOpen, policy.PerHour(100))}, Observe: seen.observe})
		h := l.Handler(http.HandlerFunc(ok))
		node := hashed("a")[:1]
		store.hang(node, true)
		get(h, "/", "a")
		require.Len(t, l.Health().Failing, 1)
		require.Empty(t, l.Health().Failing[0].Node)

		store.known.Store(true)
		store.hang(node, false)
		get(h, "/", "a")
		assert.True(t, l.Health().OK())
		assert.Equal(t, []ratelimit.Kind{ratelimit.StoreLost, ratelimit.Bypassed, ratelimit.StoreBack, ratelimit.Allowed}, seen.kinds())
	})
}
