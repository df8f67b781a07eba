package middleware_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// A stateStore is a store in memory that knows how many states it has.
type stateStore struct {
	policy.Store
	states map[string]bool
}

func (s *stateStore) Take(ctx context.Context, ticket policy.Ticket, charges []policy.Charge, d *policy.Decision) error {
	for i := range charges {
		s.states[fmt.Sprint(charges[i].ID(), charges[i].Key)] = true
	}
	return s.Store.Take(ctx, ticket, charges, d)
}

// 100,000 random paths and methods of one client make few states.
func TestRandomRequestsMakeFewStates(t *testing.T) {
	t.Parallel()
	store := &stateStore{Store: memstore.New(memstore.Options{}), states: map[string]bool{}}
	limits := []policy.Limit{policy.PerDay(1_000_000)}
	l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{
		{Name: "endpoint", Key: ratelimit.Endpoint, Limits: limits},
		{Name: "method", Key: ratelimit.Method, Limits: limits},
		{Name: "both", Key: ratelimit.Join(fixed("alice"), ratelimit.Method, ratelimit.Endpoint), Limits: limits},
		{Name: "writes", Key: fixed("alice"), Limits: limits, On: []string{"POST,PUT /{any...}/orders/{id}"}},
	}})
	h := shop("root")(l.Handler)
	random := rand.New(rand.NewPCG(3, 4))
	methods := []string{"GET", "HEAD", "POST", "CONNECT", ""}
	r := request("/", "")
	n := 100_000
	if underRace || testing.Short() {
		n /= 10
	}
	for range n {
		path := fmt.Sprintf("/%s/%x", []string{"users", "static", "api/items", "api/orders", "x", "%2F"}[random.IntN(6)], random.Uint32())
		q := *r
		q.Method = methods[random.IntN(len(methods))]
		if q.Method == "" {
			q.Method = fmt.Sprintf("M%X", random.Uint32())
		}
		u, err := url.ParseRequestURI(path)
		if !assert.NoError(t, err) {
			return
		}
		q.URL = u
		h.ServeHTTP(&discard{header: make(http.Header)}, &q)
	}
	// 5 endpoints ("unmatched" and CONNECT among them), 4 methods, as pairs, and one.
	assert.LessOrEqual(t, len(store.states), 5+4+5*4+1)
	assert.Greater(t, len(store.states), 8)
}
