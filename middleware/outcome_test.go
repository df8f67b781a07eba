package middleware_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// settled limits by a rule whose cost the outcome decides.
func settled(t *testing.T, store policy.Store, limit policy.Limit, settle func(*http.Request, ratelimit.Outcome) int64) *ratelimit.Limiter {
	t.Helper()
	return limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{
		{Name: "rate", Key: apiKey, Limits: []policy.Limit{limit}},
		{Name: "settled", Key: apiKey, Limits: []policy.Limit{limit}, Settle: settle},
	}})
}

func TestSettleByOutcome(t *testing.T) {
	t.Parallel()
	limit := policy.PerHour(1000)
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    ratelimit.Outcome // but for Elapsed
	}{
		"nothing written": {func(http.ResponseWriter, *http.Request) {}, ratelimit.Outcome{Status: 200, Cost: 1}},
		"a body":          {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, ratelimit.Outcome{Status: 200, Written: 5, Cost: 1}},
		"copied": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, strings.NewReader("hello!")) },
			ratelimit.Outcome{Status: 200, Written: 6, Cost: 1}},
		"not modified": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, ratelimit.Outcome{Status: 304, Cost: 1}},
		"early hints": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(502) },
			ratelimit.Outcome{Status: 502, Cost: 1}},
		"panic":        {func(http.ResponseWriter, *http.Request) { panic("no") }, ratelimit.Outcome{Status: 500, Cost: 1}},
		"late panic":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); panic("no") }, ratelimit.Outcome{Status: 201, Cost: 1}},
		"panic behind": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x"); panic("no") }, ratelimit.Outcome{Status: 200, Written: 1, Cost: 1}},
		"a cost was set": {func(_ http.ResponseWriter, r *http.Request) {
			assert.NoError(t, ratelimit.SetCost(r.Context(), "settled", 40))
		}, ratelimit.Outcome{Status: 200, Cost: 40}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newSpy()
			var got ratelimit.Outcome
			h := settled(t, store, limit, func(r *http.Request, o ratelimit.Outcome) int64 {
				assert.Equal(t, "/x", r.URL.Path)
				got = o
				return 7
			}).Handler(test.handler)
			func() {
				defer func() { _ = recover() }()
				get(h, "/x", "a")
			}()
			got.Elapsed = 0
			assert.Equal(t, test.want, got)
			assert.EqualValues(t, 7, used(t, store, "api", "settled", hashed("a"), limit))
			assert.EqualValues(t, 1, used(t, store, "api", "rate", hashed("a"), limit))
			assert.Len(t, store.settles, 1)
		})
	}
}

// A server's fault costs nothing, and what was not changed is not sent.
func TestSettleToNothing(t *testing.T) {
	t.Parallel()
	store := newSpy()
	limit := policy.PerHour(1000)
	status := 200
	h := settled(t, store, limit, func(_ *http.Request, o ratelimit.Outcome) int64 {
		if o.Status >= 500 {
			return -1 // less than zero is zero
		}
		return o.Cost
	}).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	get(h, "/", "a")
	assert.Empty(t, store.settles)
	status = 503
	get(h, "/", "a")
	assert.Len(t, store.settles, 1)
	assert.EqualValues(t, 1, used(t, store, "api", "settled", hashed("a"), limit))
	assert.EqualValues(t, 2, used(t, store, "api", "rate", hashed("a"), limit))
}

// What an inner limiter refuses was given back, and has no outcome.
func TestSettleOfWhatWasGivenBack(t *testing.T) {
	t.Parallel()
	store := newSpy()
	limit := policy.PerHour(1000)
	calls := 0
	outer := settled(t, store, limit, func(*http.Request, ratelimit.Outcome) int64 { calls++; return 50 })
	inner := rated(t, store, "inner", policy.PerHour(1))
	h := outer.Handler(inner.Handler(&served{}))
	require.Equal(t, map[int]int{200: 1, 429: 5}, statuses(h, "a", 6))
	assert.Equal(t, 1, calls)
	assert.EqualValues(t, 50, used(t, store, "api", "settled", hashed("a"), limit))
	assert.EqualValues(t, 1, used(t, store, "api", "rate", hashed("a"), limit))
}

// The response writer does all that the server's does.
func TestSettleLeavesTheWriterWhole(t *testing.T) {
	t.Parallel()
	var status int
	h := settled(t, memstore.New(memstore.Options{}), policy.PerHour(1000), func(_ *http.Request, o ratelimit.Outcome) int64 {
		status = o.Status
		return 1
	}).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if r.URL.Path == "/hijack" {
			conn, rw, err := rc.Hijack()
			if assert.NoError(t, err) {
				_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: close\r\n\r\nours")
				_ = rw.Flush()
				_ = conn.Close()
			}
			return
		}
		_, _ = io.WriteString(w, "one\n")
		assert.NoError(t, rc.Flush())
		assert.NoError(t, rc.SetWriteDeadline(time.Now().Add(time.Minute)))
		_, isFlusher := w.(http.Flusher)
		_, isReaderFrom := w.(io.ReaderFrom)
		assert.True(t, isFlusher && isReaderFrom)
	}))
	done := make(chan struct{}, 2)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { done <- struct{}{} }()
		h.ServeHTTP(w, r)
	}))
	defer srv.Close()
	for _, path := range []string{"/", "/hijack"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+path, nil)
		require.NoError(t, err)
		r.Header.Set("X-API-Key", "a")
		resp, err := srv.Client().Do(r)
		require.NoError(t, err)
		line, _ := bufio.NewReader(resp.Body).ReadString('\n')
		_ = resp.Body.Close()
		<-done
		if path == "/" {
			require.Equal(t, "one\n", line)
		} else {
			require.Equal(t, 101, resp.StatusCode)
		}
		require.Equal(t, 200, status)
	}
}

// An operator hears once in a period of each threshold, from any process.
func TestQuotaReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(36 * time.Hour) // 2000-01-02
		store := memstore.New(memstore.Options{})
		type heard struct {
			percent int
			key     string
		}
		var events []heard
		process := func() http.Handler {
			return limiter(t, ratelimit.Config{Store: store, Observe: func(e ratelimit.Event) {
				if e.Kind == ratelimit.QuotaReached {
					events = append(events, heard{e.Percent, e.Key})
					assert.Equal(t, "rows", e.Rule)
				}
			}, Rules: []ratelimit.Rule{{
				Name: "rows", Key: func(r *http.Request) (string, error) { return r.Header.Get("X-API-Key"), nil },
				Limits: []policy.Limit{policy.Quota(10, policy.Monthly)},
				Settle: func(r *http.Request, o ratelimit.Outcome) int64 {
					if r.URL.Path == "/free" {
						return 0
					}
					return o.Cost
				},
			}}}).Handler(&served{})
		}
		one, two := process(), process()
		for range 7 {
			get(one, "/", "a")
		}
		get(one, "/free", "a") // for a moment only
		require.Empty(t, events)
		get(one, "/", "a")
		require.Equal(t, []heard{{80, "a"}}, events)
		get(two, "/", "a")
		require.Len(t, events, 1, "it was told")
		get(one, "/", "a")
		require.Equal(t, []heard{{80, "a"}, {100, "a"}}, events)
		require.Equal(t, 429, get(two, "/", "a").Code)
		get(one, "/", "b")
		require.Len(t, events, 2)
		time.Sleep(31 * 24 * time.Hour)
		for range 10 {
			get(two, "/", "a")
		}
		require.Equal(t, []heard{{80, "a"}, {100, "a"}}, events[2:])
	})
}

// A settle reaches a threshold, too.
func TestQuotaReachedBySettle(t *testing.T) {
	t.Parallel()
	var percents []int
	h := limiter(t, ratelimit.Config{Observe: func(e ratelimit.Event) {
		if e.Kind == ratelimit.QuotaReached {
			percents = append(percents, e.Percent)
		}
	}, Rules: []ratelimit.Rule{{
		Name: "rows", Key: apiKey, Limits: []policy.Limit{policy.Quota(1000, policy.Yearly)},
		Settle: func(*http.Request, ratelimit.Outcome) int64 { return 900 },
	}}}).Handler(&served{})
	require.Equal(t, 200, get(h, "/", "a").Code)
	require.Equal(t, []int{80}, percents)
	require.Equal(t, 200, get(h, "/", "a").Code)
	require.Equal(t, []int{80, 100}, percents)
}

// So does a Check, once it is sure of what it takes: with nobody to settle it at
// once, and otherwise in the end.
func TestQuotaReachedByCheck(t *testing.T) {
	t.Parallel()
	heard := 0
	l := limiter(t, ratelimit.Config{Observe: func(e ratelimit.Event) {
		if e.Kind == ratelimit.QuotaReached {
			heard++
		}
	}, Rules: []ratelimit.Rule{{
		Name: "rows", Key: apiKey, Limits: []policy.Limit{policy.Quota(10, policy.Yearly)},
		Cost: func(*http.Request) (int64, error) { return 9, nil },
	}}})
	check := func(r *http.Request) {
		report, err := l.Check(r)
		assert.NoError(t, err)
		assert.Nil(t, report.Denial)
	}
	check(request("/", "a"))
	assert.Equal(t, 1, heard, "no ledger")
	check(request("/", "b").WithContext(ratelimit.NewLedger(t.Context())))
	assert.Equal(t, 2, heard, "nobody holds it")
	ctx := ratelimit.NewLedger(t.Context())
	release := ratelimit.Hold(ctx)
	check(request("/", "c").WithContext(ctx))
	assert.Equal(t, 2, heard, "it may be given back")
	release()
	assert.Equal(t, 3, heard)
	ctx = ratelimit.NewLedger(t.Context())
	release = ratelimit.Hold(ctx)
	check(request("/", "d").WithContext(ctx))
	require.NoError(t, ratelimit.SetCost(ctx, "rows", 1))
	release()
	assert.Equal(t, 3, heard, "it has cost less")
}
