package middleware_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served answers 200 and counts.
type served struct {
	mu sync.Mutex
	n  int
}

func (s *served) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	s.n++
	s.mu.Unlock()
	w.WriteHeader(http.StatusOK)
}

// get sends a GET request with an API key.
func get(h http.Handler, path, key string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(path, key))
	return w
}

func request(path, key string) *http.Request {
	r := httptest.NewRequest("GET", path, nil)
	if key != "" {
		r.Header.Set("X-API-Key", key)
	}
	return r
}

// statuses sends n requests and counts the answers by status.
func statuses(h http.Handler, key string, n int) map[int]int {
	got := make(map[int]int)
	for range n {
		got[get(h, "/", key).Code]++
	}
	return got
}

var apiKey = ratelimit.Header("X-API-Key")

func limiter(t *testing.T, c ratelimit.Config) *ratelimit.Limiter {
	t.Helper()
	l, err := ratelimit.New(c)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	return l
}

// used returns what counts against a limit of a key.
func used(t *testing.T, store policy.Store, limiter, rule, key string, limit policy.Limit) int64 {
	t.Helper()
	if s, ok := store.(*spy); ok {
		store = s.Store
	}
	var d policy.Decision
	charge := policy.Charge{Scope: policy.NewScope(limiter, rule), Key: key, Limit: limit}
	require.NoError(t, store.Peek(context.Background(), []policy.Charge{charge}, &d))
	return d.Results[0].Used
}

// A spy is a store in memory that counts calls and can be made to fail.
type spy struct {
	policy.Store
	take   func(ctx context.Context) error
	settle func(ctx context.Context) error

	mu      sync.Mutex
	takes   int
	charges int
	most    int64 // units of one charge
	peeks   int
	settles [][]policy.Settlement
	tickets map[policy.Ticket]int // settles by ticket
}

func newSpy() *spy {
	return &spy{Store: memstore.New(memstore.Options{}), tickets: make(map[policy.Ticket]int)}
}

// fail sets what becomes of takes and peeks from now on; nil means nothing.
func (s *spy) fail(fault func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take = fault
}

func (s *spy) fault(ctx context.Context) error {
	s.mu.Lock()
	fault := s.take
	s.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(ctx)
}

// taken returns how many takes there were.
func (s *spy) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takes
}

func (s *spy) Take(ctx context.Context, ticket policy.Ticket, charges []policy.Charge, d *policy.Decision) error {
	s.mu.Lock()
	s.takes++
	s.charges += len(charges)
	for i := range charges {
		s.most = max(s.most, charges[i].Units)
	}
	s.mu.Unlock()
	if err := s.fault(ctx); err != nil {
		return err
	}
	return s.Store.Take(ctx, ticket, charges, d)
}

func (s *spy) Peek(ctx context.Context, charges []policy.Charge, d *policy.Decision) error {
	s.mu.Lock()
	s.peeks++
	s.mu.Unlock()
	if err := s.fault(ctx); err != nil {
		return err
	}
	return s.Store.Peek(ctx, charges, d)
}

func (s *spy) Settle(ctx context.Context, ticket policy.Ticket, settlements []policy.Settlement) error {
	s.mu.Lock()
	s.settles = append(s.settles, append([]policy.Settlement(nil), settlements...))
	s.tickets[ticket]++
	s.mu.Unlock()
	if s.settle != nil {
		if err := s.settle(ctx); err != nil {
			return err
		}
	}
	return s.Store.Settle(ctx, ticket, settlements)
}

// events collects what a Limiter tells.
type events struct {
	mu  sync.Mutex
	all []ratelimit.Event
}

func (e *events) observe(event ratelimit.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

func (e *events) kinds() []ratelimit.Kind {
	e.mu.Lock()
	defer e.mu.Unlock()
	kinds := make([]ratelimit.Kind, len(e.all))
	for i, event := range e.all {
		kinds[i] = event.Kind
	}
	return kinds
}

// decisions returns the kinds of the events that are not about the store itself.
func (e *events) decisions() []ratelimit.Kind {
	return slices.DeleteFunc(e.kinds(), func(k ratelimit.Kind) bool { return k == ratelimit.StoreLost || k == ratelimit.StoreBack })
}

func (e *events) last(t *testing.T) ratelimit.Event {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	require.NotEmpty(t, e.all)
	return e.all[len(e.all)-1]
}
