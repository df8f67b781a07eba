package middleware_test

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// A remote is a store as another process has one, that tells its clock.
type remote struct {
	*spy
	clock *handClock
}

func newRemote() *remote {
	clock := newHandClock()
	s := newSpy()
	s.Store = memstore.New(memstore.Options{Now: clock.now})
	return &remote{s, clock}
}

func (r *remote) Now() time.Time { return r.clock.now() }

// A block that is known is answered for a second without asking the store.
func TestBlocksAreKnown(t *testing.T) {
	t.Parallel()
	store := newRemote()
	const ip = "192.0.2.1"
	l, h := guarded(t, store, ratelimit.Guard{
		Account: accountOf, PerIP: policy.Lockout(2, time.Minute, time.Minute), PerPair: policy.Lockout(2, time.Minute, 3*time.Second),
	}, passwords)
	rejected := func(asked int) (seconds int) {
		t.Helper()
		before := store.takes
		w := tryLogin(h, ip+":1", "alice", "right")
		require.Equal(t, 429, w.Code)
		require.Equal(t, "blocked", code(t, w))
		require.Equal(t, asked, store.takes-before)
		seconds, err := strconv.Atoi(w.Header().Get("Retry-After"))
		require.NoError(t, err)
		return seconds
	}
	for range 2 {
		require.Equal(t, 401, tryLogin(h, ip+":1", "alice", "wrong").Code)
	}
	first := rejected(1)
	require.Equal(t, first, rejected(0))
	store.clock.advance(999 * time.Millisecond)
	require.Equal(t, first-1, rejected(0), "less is left")
	require.Equal(t, 429, tryLogin(h, ip+":1", "bob", "right").Code, "the network is blocked, whose account it may be")
	require.Equal(t, 200, tryLogin(h, "192.0.2.2:1", "alice", "right").Code)
	store.clock.advance(time.Millisecond)
	rejected(1)
	rejected(0)

	// What this process unblocks is free at once; what another does, in a second.
	require.NoError(t, l.Unblock(t.Context(), "login.pair", ip, "alice"))
	require.NoError(t, l.Unblock(t.Context(), "login.ip", ip))
	require.Equal(t, 200, tryLogin(h, ip+":1", "alice", "right").Code)
	for range 2 {
		require.Equal(t, 401, tryLogin(h, ip+":1", "bob", "wrong").Code)
	}
	require.Equal(t, 429, tryLogin(h, ip+":1", "bob", "right").Code)
	other, _ := guarded(t, store, ratelimit.Guard{
		Account: accountOf, PerIP: policy.Lockout(2, time.Minute, time.Minute), PerPair: policy.Lockout(2, time.Minute, 3*time.Second),
	}, passwords)
	require.NoError(t, other.Unblock(t.Context(), "login.ip", ip))
	require.NoError(t, other.Unblock(t.Context(), "login.pair", ip, "bob"))
	require.Equal(t, 429, tryLogin(h, ip+":1", "bob", "right").Code)
	store.clock.advance(time.Second)
	require.Equal(t, 200, tryLogin(h, ip+":1", "bob", "right").Code)
}

// Of two blocks that are known the longer one is told.
func TestKnownBlocksTellTheLonger(t *testing.T) {
	t.Parallel()
	store := newRemote()
	_, h := guarded(t, store, ratelimit.Guard{
		Account: accountOf, PerIP: policy.Lockout(2, time.Minute, time.Second), PerPair: policy.Lockout(2, time.Minute, time.Hour),
	}, passwords)
	for range 2 {
		require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", "alice", "wrong").Code)
	}
	asked := tryLogin(h, "192.0.2.1:1", "alice", "right").Header().Get("Retry-After")
	require.Len(t, asked, 4, "an hour, and a little more")
	takes := store.takes
	require.Equal(t, asked, tryLogin(h, "192.0.2.1:1", "alice", "right").Header().Get("Retry-After"))
	require.Equal(t, takes, store.takes)
}

// A block is not known for longer than it holds.
func TestKnownBlocksEnd(t *testing.T) {
	t.Parallel()
	store := newRemote()
	_, h := guarded(t, store, ratelimit.Guard{PerIP: policy.Lockout(1, time.Minute, 100*time.Millisecond)}, passwords)
	require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", "a", "wrong").Code)
	require.Equal(t, 429, tryLogin(h, "192.0.2.1:1", "a", "right").Code)
	store.clock.advance(104 * time.Millisecond)
	require.Equal(t, 200, tryLogin(h, "192.0.2.1:1", "a", "right").Code)
}

// Blocks that are known take a bounded memory: of many, some are asked again.
func TestKnownBlocksAreBounded(t *testing.T) {
	t.Parallel()
	store := newRemote()
	key := func(r string) string { return strings.Repeat("k", 10) + r }
	c := policy.Lockout(1, time.Hour)
	l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{{
		Name: "a", Key: accountOf, Limits: []policy.Limit{c},
	}}})
	h := l.Handler(http.HandlerFunc(passwords))
	refuse := func(account string) (asked int) {
		before := store.takes
		require.Equal(t, 429, tryLogin(h, "192.0.2.1:1", account, "right").Code)
		return store.takes - before
	}
	long := strings.Repeat("l", 300)
	require.NoError(t, block(store, "api", "a", long, c))
	require.Equal(t, 1, refuse(long))
	require.Equal(t, 1, refuse(long), "what is very long is not remembered")
	for i := range 10_001 {
		require.NoError(t, block(store, "api", "a", key(strconv.Itoa(i)), c))
		require.Equal(t, 1, refuse(key(strconv.Itoa(i))))
	}
	require.Equal(t, 0, refuse(key("10000")))
	require.Equal(t, 1, refuse(key("1")))
}

// block tells a store of a failure.
func block(store policy.Store, limiter, rule, key string, l policy.Limit) error {
	c := policy.Charge{Limit: l, Scope: policy.NewScope(limiter, rule), Key: key}
	return store.Settle(context.Background(), policy.NewTicket(), []policy.Settlement{{Charge: c, Total: 1}})
}
