package serve

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
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
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
	"github.com/stint-go/stint/respond"
)

// 10,000 requests reserve an estimate. Some are settled to more or less, in the
// handler or after it; some crash, before or after that; some clients leave at any
// time; some are refused further inside. In the end the budget has been charged
// what the requests have cost, to the point.
func TestBooksBalance(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		balance(t, memstore.New(memstore.Options{}))
	})
	t.Run("Redis", func(t *testing.T) {
		t.Parallel()
		balance(t, redisstore.Options{Timeout: 30 * time.Second}.New(redistest.Start(t).Client(t)))
	})
}

// fates are what may become of a request.
var fates = [...]string{
	"plain", "set", "set in parts", "set after writing", "failed", "panic", "set and panic", "set, written and panic",
	"abort", "held", "left in the handler", "left at any time", "refused inside", "too costly",
}

const (
	minCost = 10
	clients = 32
	each    = 313 // requests of a client
)

func balance(t *testing.T, store policy.Store) {
	defer func() { assert.NoError(t, store.Close()) }()
	var (
		truth   atomic.Int64 // what the requests have cost
		served  [len(fates)]atomic.Int64
		waiting sync.WaitGroup // for what goes on in the background
		faults  atomic.Int64
	)
	limits := []policy.Limit{policy.Quota(policy.MaxUnits, policy.Yearly), policy.FixedWindow(policy.MaxUnits, policy.MaxWindow)}
	outer := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Name: "books", Store: store, Budget: 30 * time.Second,
		Style: respond.Style{Fields: []respond.FieldWriter{respond.Points{Status: "X-Status", Details: "X-Details"}}, DetailsOn: "details"},
		Observe: func(e ratelimit.Event) {
			if e.Kind != ratelimit.Allowed && e.Kind != ratelimit.Refused && e.Kind != ratelimit.Abandoned {
				faults.Add(1)
			}
		},
		Rules: []ratelimit.Rule{{
			Name: "points", Key: key, Limits: limits, MinCost: minCost,
			Costs: ratelimit.CostsBy(func(r *http.Request) (ratelimit.Costs, error) {
				var c ratelimit.Costs
				c.Add("base", 5)
				c.Add("items", number(r, "items"))
				return c, nil
			}),
			Settle: func(_ *http.Request, o ratelimit.Outcome) int64 {
				if o.Status >= 500 {
					return 0
				}
				return o.Cost
			},
		}},
	}))
	inner := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Name: "inner", Store: store, Budget: 30 * time.Second,
		Rules: []ratelimit.Rule{{
			Name: "inside", Key: key, Limits: []policy.Limit{policy.PerHour(1)},
			Cost: func(*http.Request) (int64, error) { return 2, nil }, // never
			Skip: func(r *http.Request) bool { return fates[number(r, "fate")] != "refused inside" },
		}},
	}))
	h := outer.Handler(inner.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fate, actual := number(r, "fate"), number(r, "actual")
		served[fate].Add(1)
		set := func() {
			assert.NoError(t, ratelimit.SetCost(r.Context(), "points", actual))
		}
		actual, estimate := max(actual, minCost), max(5+number(r, "items"), minCost)
		switch fates[fate] {
		case "plain", "left at any time":
			truth.Add(estimate)
		case "set":
			truth.Add(actual)
			set()
			_, _ = io.WriteString(w, "done")
		case "set in parts":
			truth.Add(actual)
			assert.NoError(t, ratelimit.SetCosts(r.Context(), "points", ratelimit.Costs{{Name: "half", Points: actual / 2}, {Name: "rest", Points: actual - actual/2}}))
		case "set after writing":
			truth.Add(actual)
			_, _ = io.WriteString(w, "done")
			set()
		case "failed":
			truth.Add(minCost)
			set()
			w.WriteHeader(http.StatusBadGateway)
		case "panic":
			truth.Add(minCost)
			panic("crash")
		case "set and panic":
			truth.Add(minCost)
			set()
			panic("crash")
		case "set, written and panic":
			truth.Add(actual)
			set()
			_, _ = io.WriteString(w, "done")
			panic("crash")
		case "abort":
			truth.Add(estimate)
			w.WriteHeader(http.StatusOK)
			panic(http.ErrAbortHandler)
		case "held":
			truth.Add(actual)
			release := ratelimit.Hold(r.Context())
			waiting.Go(func() {
				set()
				release()
			})
		case "left in the handler":
			truth.Add(actual)
			_ = http.NewResponseController(w).Flush() // the client leaves when it has this
			<-r.Context().Done()
			set()
		default:
			t.Errorf("%q is served", fates[fate])
		}
	})))

	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of panics
	srv.Start()
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	var all sync.WaitGroup
	for i := range clients {
		random := rand.New(rand.NewPCG(uint64(i), 5))
		all.Go(func() {
			for n := range each {
				visit(t, transport, srv.URL, (i+n)%len(fates), random)
			}
		})
	}
	all.Wait()
	transport.CloseIdleConnections()
	srv.Close()
	waiting.Wait()
	assert.NoError(t, outer.Close())
	assert.NoError(t, inner.Close())

	charges := make([]policy.Charge, len(limits))
	for i, limit := range limits {
		charges[i] = policy.Charge{Scope: policy.NewScope("books", "points"), Key: "acme", Limit: limit}
	}
	var d policy.Decision
	require.NoError(t, store.Peek(context.Background(), charges, &d))
	assert.EqualValues(t, truth.Load(), d.Results[0].Used)
	assert.EqualValues(t, truth.Load(), d.Results[1].Used)
	assert.Zero(t, faults.Load(), "faults of the store")
	for fate, name := range fates {
		if name == "refused inside" || name == "too costly" {
			assert.Zero(t, served[fate].Load(), name)
		} else {
			assert.Greater(t, served[fate].Load(), int64(100), name)
		}
	}
}

// visit sends a request, and leaves or checks what it is told.
func visit(t *testing.T, transport http.RoundTripper, url string, fate int, random *rand.Rand) {
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	items := random.Int64N(100)
	if fates[fate] == "too costly" {
		items = 1 << 60
	}
	query := "/?details&fate=" + strconv.Itoa(fate) + "&items=" + strconv.FormatInt(items, 10) + "&actual=" + strconv.FormatInt(random.Int64N(200), 10)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+query, nil)
	if !assert.NoError(t, err) {
		return
	}
	if fates[fate] == "left at any time" {
		within := []time.Duration{2 * time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond}[random.IntN(3)]
		timer := time.AfterFunc(time.Duration(random.Int64N(int64(within))), leave)
		defer timer.Stop()
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return // a crash, or it has left
	}
	if fates[fate] == "left in the handler" {
		leave()
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	switch status := resp.StatusCode; fates[fate] {
	case "refused inside", "too costly":
		assert.Equal(t, http.StatusRequestEntityTooLarge, status)
		assert.Empty(t, resp.Header.Values("Retry-After"))
	}
	if text := resp.Header.Get("X-Status"); assert.NotEmpty(t, text) {
		var told struct{ RequestCost int64 }
		assert.NoError(t, json.Unmarshal([]byte(text), &told))
		sum := int64(0)
		for part := range strings.SplitSeq(resp.Header.Get("X-Details"), ",") {
			_, points, _ := strings.Cut(part, "=")
			n, err := strconv.ParseInt(points, 10, 64)
			assert.NoError(t, err)
			sum += n
		}
		assert.Equal(t, told.RequestCost, sum, text)
	}
}

func key(*http.Request) (string, error) { return "acme", nil }

// number returns a number of the query.
func number(r *http.Request, name string) int64 {
	n, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	if err != nil {
		panic(errors.New(name))
	}
	return n
}
