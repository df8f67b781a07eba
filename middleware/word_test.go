package middleware_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// A Check under a ledger of its own, as for each message of a connection, has its
// failures counted whether its cost is set before the word or after it.
func TestWordBesideACost(t *testing.T) {
	t.Parallel()
	lockout, points := policy.Lockout(4, time.Hour), policy.FixedWindow(100, time.Hour)
	network, account := plainKey("X-API-Key"), plainKey("X-API-Key")
	setCost := func(ctx context.Context) error { return ratelimit.SetCost(ctx, "points", 3) }
	for name, order := range map[string][]func(context.Context) error{
		"the cost first": {setCost, ratelimit.Failed},
		"the word first": {ratelimit.Failed, setCost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := memstore.New(memstore.Options{})
			guard := ratelimit.Guard{Name: "login", IP: network, PerIP: lockout, Account: account, PerPair: lockout}
			l := limiter(t, ratelimit.Config{Store: store, Rules: append(guard.Rules(), ratelimit.Rule{Name: "points", Key: apiKey, Limits: []policy.Limit{points}})})
			check := func() context.Context {
				r := request("/", "a")
				r = r.WithContext(ratelimit.NewLedger(t.Context()))
				report, err := l.Check(r)
				require.NoError(t, err)
				require.Nil(t, report.Denial)
				return r.Context()
			}
			failures := func() int64 { return used(t, store, "api", "login.ip", "a", lockout) }
			for i := range int64(3) {
				ctx := check()
				for _, say := range order {
					require.NoError(t, say(ctx))
				}
				require.Equal(t, i+1, failures())
				require.Equal(t, 3*(i+1), used(t, store, "api", "points", hashed("a"), points))
			}
			ctx := check()
			require.NoError(t, setCost(ctx))
			require.EqualValues(t, 4, failures(), "the try is held until there is a word")
			require.NoError(t, ratelimit.Succeeded(ctx))
			require.EqualValues(t, 3, failures())
			until, err := l.Blocked(t.Context(), "login.pair", "a", "a")
			require.NoError(t, err)
			require.Zero(t, until)
			for range 3 { // the pair has forgotten: three more failures block the network alone
				if r := request("/", "a"); failures() < 4 {
					r = r.WithContext(ratelimit.NewLedger(t.Context()))
					_, _ = l.Check(r)
					require.NoError(t, ratelimit.Failed(r.Context()))
				}
			}
			until, err = l.Blocked(t.Context(), "login.ip", "a")
			require.NoError(t, err)
			require.NotZero(t, until)
			until, err = l.Blocked(t.Context(), "login.pair", "a", "a")
			require.NoError(t, err)
			require.Zero(t, until)
		})
	}
}

// A stuck store is a store in memory of which Reset hangs.
type stuck struct {
	*spy
	hang bool
}

func (s *stuck) Reset(ctx context.Context, charges []policy.Charge) error {
	if s.hang {
		return hangs(ctx)
	}
	return s.Store.Reset(ctx, charges)
}

// A success that is to clear a pair does not wait for a node that is known to be away.
func TestSuccessDuringAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &stuck{spy: newSpy()}
		guard := ratelimit.Guard{Name: "login", IP: plainKey("X-API-Key"), Account: plainKey("X-API-Key")}
		l := limiter(t, ratelimit.Config{Store: store, Rules: guard.Rules(), Observe: func(ratelimit.Event) {}})
		h := l.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wrong" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			store.hang = true
			store.fail(hangs)
			get(l.Handler(http.HandlerFunc(ok)), "/", "b")
			assert.False(t, l.Health().OK())
		}))
		get(h, "/wrong", "a")
		began := time.Now()
		get(h, "/", "a")
		assert.Equal(t, 50*time.Millisecond, time.Since(began), "the other request's, and none for the success")
	})
}
