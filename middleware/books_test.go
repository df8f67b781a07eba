package middleware_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/respond"
)

// A shaky store has nodes, of which each call may fail. What fails takes nothing.
type shaky struct {
	policy.Store
	percent atomic.Int64 // of the calls of a node
}

var _ policy.Nodes = (*shaky)(nil)

func (s *shaky) Node(c *policy.Charge) string { return c.Place()[:1] }

func (s *shaky) fails() bool { return rand.Int64N(100) < s.percent.Load() }

func (s *shaky) Peek(ctx context.Context, charges []policy.Charge, d *policy.Decision) error {
	if s.fails() {
		return errTest
	}
	return s.Store.Peek(ctx, charges, d)
}

func (s *shaky) TakeKnown(ctx context.Context, ticket policy.Ticket, charges []policy.Charge, d *policy.Decision) error {
	lost := map[string]bool{}
	var known []policy.Charge
	var at []int
	for i := range charges {
		node := s.Node(&charges[i])
		if _, asked := lost[node]; !asked {
			lost[node] = s.fails()
		}
		if !lost[node] {
			known, at = append(known, charges[i]), append(at, i)
		}
	}
	if len(known) == len(charges) {
		return s.Store.Take(ctx, ticket, charges, d)
	}
	d.Reset(len(charges))
	if len(known) == 0 {
		return errTest
	}
	var part policy.Decision
	if err := s.Store.Take(ctx, ticket, known, &part); err != nil {
		return err
	}
	d.Verdict, d.Now = part.Verdict, part.Now
	for i, j := range at {
		d.Results[j] = part.Results[i]
	}
	return errTest
}

// A bookRule is a rule of random making, and what is known of it.
type bookRule struct {
	ratelimit.Rule
	limit    policy.Limit
	base     int64 // what a request costs, before the minimum
	refuses  int64 // every so many requests by their cost, or 0
	settles  bool  // to the status
	lockout  bool
	slots    bool
	open     bool // nobody counts while the store is away
	limiters string
}

// script is what a request does in the handler.
type script struct {
	set    map[string]int64 // SetCost, or SetCosts if it is odd
	check  bool
	word   int // 1 failed, 2 succeeded
	status int
	panics bool
	writes bool
}

func randomRule(rng *rand.Rand, limiter string, i int, scale *ratelimit.Scale) *bookRule {
	r := &bookRule{limiters: limiter, base: 1}
	r.Name = fmt.Sprintf("r%d", i)
	node := string(rune('a' + rng.IntN(3)))
	r.Key = func(req *http.Request) (string, error) { return node + req.Header.Get("K"), nil }
	r.Fail = []ratelimit.FailMode{ratelimit.FailOpen, ratelimit.FailClosed, ratelimit.FailLocal, ratelimit.FailLocal}[rng.IntN(4)]
	r.open = r.Fail == ratelimit.FailOpen
	switch rng.IntN(8) {
	case 0, 1:
		r.limit, r.lockout = policy.Lockout(1000, time.Hour), true
	case 2:
		r.limit, r.slots = policy.Concurrency(1000), true
	case 3:
		r.limit = policy.SlidingWindow(1_000_000, time.Hour)
	default:
		r.limit = policy.FixedWindow(1_000_000, time.Hour)
	}
	r.Limits = []policy.Limit{r.limit}
	if r.lockout || r.slots {
		return r
	}
	if rng.IntN(3) == 0 {
		r.Scale = scale
	}
	if rng.IntN(2) == 0 {
		r.MinCost = rng.Int64N(20)
	}
	r.base = rng.Int64N(30)
	refused := rng.IntN(4) == 0
	if refused {
		r.refuses = 5
	}
	costs := func(req *http.Request) (int64, error) {
		n, _ := strconv.Atoi(req.Header.Get("N"))
		if refused && n%5 == 0 {
			return r.base, &ratelimit.CostError{}
		}
		return r.base, nil
	}
	switch rng.IntN(3) {
	case 0:
		r.base = 1
		r.refuses = 0
	case 1:
		r.Cost = costs
	case 2:
		r.Costs = ratelimit.CostsBy(func(req *http.Request) (ratelimit.Costs, error) {
			n, err := costs(req)
			var c ratelimit.Costs
			c.Add("one", n/2)
			c.Add("two", n-n/2)
			return c, err
		})
	}
	if rng.IntN(3) == 0 {
		r.settles = true
		r.Settle = func(_ *http.Request, o ratelimit.Outcome) int64 { return int64(o.Status) }
	}
	return r
}

// TestBooks sends random requests at random rules over a store whose nodes fail, and
// holds what is counted at the end to what should be, request by request.
func TestBooks(t *testing.T) {
	t.Parallel()
	rounds := 150
	if underRace || testing.Short() {
		rounds = 20
	}
	for seed := range rounds {
		books(t, uint64(seed))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func books(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 56))
	store := &shaky{Store: memstore.New(memstore.Options{})}
	if rng.IntN(4) > 0 {
		store.percent.Store(rng.Int64N(60))
	}
	scale := ratelimit.NewScale()
	require.NoError(t, scale.Set(t.Context(), 0.5, time.Time{}))
	style := respond.Style{Fields: []respond.FieldWriter{respond.XRateLimit, respond.Points{Status: "Status", Details: "Details"}}, DetailsOn: "debug"}
	style2 := respond.Style{Fields: []respond.FieldWriter{respond.RateLimit, respond.Points{Status: "Status", Details: "Details"}}, DetailsOn: "debug"}
	limiters := map[string]*ratelimit.Limiter{}
	rules := map[string][]*bookRule{}
	count := 0
	made := func(name string, n int) *ratelimit.Limiter {
		c := ratelimit.Config{Name: name, Store: store, Instances: 2, Style: style, Styles: map[string]respond.Style{"other": style2},
			StyleFor: func(r *http.Request) string { return r.Header.Get("Style") }, Observe: func(ratelimit.Event) {}}
		var more []ratelimit.Rule
		for i := range n {
			r := randomRule(rng, name, count, scale)
			count++
			rules[name] = append(rules[name], r)
			if i == 0 || rng.IntN(2) == 0 {
				c.Rules = append(c.Rules, r.Rule)
			} else {
				more = append(more, r.Rule)
			}
		}
		l := limiter(t, c)
		wider, err := l.With(more...)
		require.NoError(t, err)
		limiters[name] = wider
		return wider
	}
	outer, inner, late := made("outer", 1+rng.IntN(5)), made("inner", 1+rng.IntN(5)), made("late", 1+rng.IntN(3))
	gate := policy.FixedWindow(40, time.Hour)
	gated, err := inner.With(ratelimit.Rule{Name: "gate", Key: plainKey("G"), Limits: []policy.Limit{gate}, Fail: ratelimit.FailClosed,
		Settle: func(_ *http.Request, o ratelimit.Outcome) int64 { return o.Cost }})
	require.NoError(t, err)

	const requests = 64
	scripts := make([]script, requests)
	reached := make([]atomic.Bool, requests)
	checked := make([]atomic.Bool, requests)
	costly := make([]atomic.Bool, requests)
	for i := range scripts {
		s := &scripts[i]
		s.set = map[string]int64{}
		for _, name := range []string{"outer", "inner", "late"} {
			for _, r := range rules[name] {
				if !r.lockout && !r.slots && rng.IntN(3) == 0 {
					s.set[r.Name] = rng.Int64N(60)
				}
			}
		}
		s.check, s.word, s.panics, s.writes = rng.IntN(2) == 0, rng.IntN(4), rng.IntN(6) == 0, rng.IntN(2) == 0
		s.status = []int{200, 200, 204, 401, 403, 500}[rng.IntN(6)]
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i, _ := strconv.Atoi(r.Header.Get("N"))
		s := &scripts[i]
		reached[i].Store(true)
		if s.check {
			report, _ := late.Check(r)
			if report.Denial == nil {
				checked[i].Store(true)
			} else if report.Denial.Reason == respond.InvalidCost {
				costly[i].Store(true)
			}
		}
		for name, n := range s.set {
			if n%2 == 0 {
				_ = ratelimit.SetCost(r.Context(), name, n)
			} else {
				var c ratelimit.Costs
				c.Add("three", n/3)
				c.Add("four", n-n/3)
				_ = ratelimit.SetCosts(r.Context(), name, c)
			}
		}
		switch s.word {
		case 1:
			assert.NoError(t, ratelimit.Failed(r.Context()))
		case 2:
			assert.NoError(t, ratelimit.Succeeded(r.Context()))
		}
		if s.panics {
			panic(http.ErrAbortHandler)
		}
		if s.writes || s.status != 200 {
			w.WriteHeader(s.status)
		}
	})
	within := gated.Handler(handler)
	h := outer.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i, _ := strconv.Atoi(r.Header.Get("N")); i%7 == 6 { // the client goes
			ctx, cancel := context.WithCancel(r.Context())
			cancel()
			r = r.WithContext(ctx)
		}
		within.ServeHTTP(w, r)
	}))
	codes := make([]int, requests)
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			r := httptest.NewRequest("GET", "/?debug=1", nil)
			r.Header.Set("K", fmt.Sprintf("k%d", i))
			r.Header.Set("N", strconv.Itoa(i))
			r.Header.Set("G", "g")
			if i%3 == 0 {
				r.Header.Set("Style", "other")
			}
			w := httptest.NewRecorder()
			func() {
				defer func() { _ = recover() }()
				h.ServeHTTP(w, r)
			}()
			codes[i] = w.Code
			if status := w.Header().Get("Status"); status != "" {
				var points struct{ RequestCost int64 }
				assert.NoError(t, json.Unmarshal([]byte(status), &points))
				var sum int64
				if text := w.Header().Get("Details"); text != "" {
					for _, part := range strings.Split(text, ",") {
						_, n, _ := strings.Cut(part, "=")
						k, _ := strconv.ParseInt(n, 10, 64)
						sum += k
					}
				}
				assert.Equal(t, points.RequestCost, sum, "%s; %s: %+v (%d)", status, w.Header().Get("Details"), scripts[i], w.Code)
			}
		})
	}
	wg.Wait()
	failing := store.percent.Swap(0) > 0
	for _, l := range limiters {
		l.Quiet()
	}
	usedOf := func(limiter string, rule, key string, limit policy.Limit) int64 {
		n := used(t, store.Store, limiter, rule, key, limit)
		if m := limiters[limiter].Memory(); m != nil {
			n += used(t, m, limiter, rule, key, limit)
		}
		return n
	}
	served := int64(0)
	for i := range requests {
		s := &scripts[i]
		status := s.status
		if s.panics {
			status = 500
		}
		byCost := map[string]bool{}
		for name, rs := range rules {
			for _, r := range rs {
				byCost[name] = byCost[name] || r.refuses > 0 && int64(i)%r.refuses == 0
			}
		}
		if reached[i].Load() {
			served++
		}
		for name, rs := range rules {
			for _, r := range rs {
				want := int64(0)
				base := max(r.base, r.MinCost)
				total := func(status int, set bool) int64 {
					n := base
					if set {
						if v, ok := s.set[r.Name]; ok {
							n = max(v, r.MinCost)
						}
					}
					if r.settles && name != "late" {
						n = max(int64(status), r.MinCost)
					}
					return n
				}
				failedBy := func(status int) int64 {
					switch {
					case s.word == 1 || s.word != 2 && name != "late" && (status == 401 || status == 403):
						return 1
					}
					return 0
				}
				switch {
				case r.slots:
				case reached[i].Load() && (name != "late" || checked[i].Load()):
					if want = total(status, true); r.lockout {
						want = failedBy(status)
					}
				case name == "late" && costly[i].Load():
					if want = base; r.lockout {
						want = 0
					}
				case name == "late" || reached[i].Load():
				case codes[i] == 400 && byCost["outer"] && name == "outer":
					if want = base; r.lockout {
						want = 0
					}
				case codes[i] == 400 && !byCost["outer"]:
					switch {
					case r.lockout:
					case name == "outer":
						want = total(400, false)
					default:
						want = base
					}
				}
				got := usedOf(name, r.Name, key(r, i), r.limit)
				ok := []int64{want}
				if failing && r.open {
					ok = append(ok, 0)
				}
				assert.Contains(t, ok, got, "request %d (%d, reached %v, checked %v, costly %v): %s %s %s fail %s, %+v", i, codes[i], reached[i].Load(), checked[i].Load(), costly[i].Load(), name, r.Name, r.limit, r.Fail, *s)
			}
		}
	}
	byCost := int64(0)
	for i := range requests {
		if codes[i] == 400 && !reached[i].Load() && !slices.ContainsFunc(rules["outer"], func(r *bookRule) bool { return r.refuses > 0 && int64(i)%r.refuses == 0 }) {
			byCost++
		}
	}
	assert.Equal(t, served+byCost, usedOf("inner", "gate", "g", gate))
}

func key(r *bookRule, i int) string {
	req := httptest.NewRequest("GET", "/", nil)
	req.Header.Set("K", fmt.Sprintf("k%d", i))
	k, _ := r.Key(req)
	return k
}
