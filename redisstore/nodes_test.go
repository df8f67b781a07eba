package redisstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// onNode returns a key that the store keeps on a node, and one that it keeps elsewhere.
func onNode(t *testing.T, store *redisstore.Store, addr string) (there, elsewhere string) {
	t.Helper()
	for i := 0; there == "" || elsewhere == ""; i++ {
		require.Less(t, i, 1000)
		key := fmt.Sprint("key", i)
		c := charge(policy.PerHour(100), key)
		take(t, store, c) // so that the node is known
		if store.Node(&c) == addr {
			there = key
		} else {
			elsewhere = key
		}
	}
	return there, elsewhere
}

// One node of a cluster is lost: what the others decide stands, and of the charges
// there nothing is known. What the others refuse is refused, and takes nothing.
func TestTakeKnown(t *testing.T) {
	cluster := redistest.StartCluster(t, "--cluster-require-full-coverage", "no")
	store := redisstore.New(cluster.Client(t))
	defer store.Close()
	lost := cluster.Nodes[1]
	there, elsewhere := onNode(t, store, lost.Addr())
	wide := policy.PerHour(100).Named("wide")
	narrow := policy.FixedWindow(1, 24*time.Hour)

	another := "" // of another partition, on a node that stays
	for i := 0; another == ""; i++ {
		c := charge(narrow, fmt.Sprint("another", i))
		if node := store.Node(&c); node != "" && node != lost.Addr() {
			another = c.Key
		}
	}

	all := []policy.Charge{charge(wide, there), charge(wide, elsewhere), charge(narrow, another)}
	ask := func() (policy.Decision, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var d policy.Decision
		err := store.TakeKnown(ctx, policy.NewTicket(), all, &d)
		return d, err
	}
	d, err := ask()
	require.NoError(t, err)
	require.Equal(t, policy.Allowed, d.Verdict)
	require.NoError(t, store.Reset(t.Context(), all))

	lost.Freeze()
	d, err = ask()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, policy.Allowed, d.Verdict)
	require.Equal(t, policy.Unknown, d.Results[0].Verdict)
	require.Equal(t, policy.Allowed, d.Results[1].Verdict)
	require.Equal(t, policy.Allowed, d.Results[2].Verdict)
	require.Equal(t, int64(1), used(t, store, all[1]))

	d, err = ask()
	require.Error(t, err)
	require.Equal(t, policy.Refused, d.Verdict)
	require.Equal(t, policy.Unknown, d.Results[0].Verdict)
	require.Equal(t, policy.Allowed, d.Results[1].Verdict)
	require.Equal(t, policy.Refused, d.Results[2].Verdict)
	eventually(t, "refused, so that nothing stays taken", func() bool { return used(t, store, all[1]) == 1 })

	// Take says less, and keeps less.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Error(t, store.Take(ctx, policy.NewTicket(), all[:2], &d))
	eventually(t, "given back", func() bool { return used(t, store, all[1]) == 1 })

	// What was sent to the lost node is given back when it answers late.
	lost.Thaw()
	eventually(t, "the lost node is back", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var d policy.Decision
		return store.Peek(ctx, all[:1], &d) == nil && d.Results[0].Used == 0
	})

	lost.Kill()
	d, err = ask()
	require.Error(t, err)
	require.Equal(t, policy.Refused, d.Verdict, "the others still refuse")
	// Where all are lost nothing is known.
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.Error(t, store.TakeKnown(ctx, policy.NewTicket(), all[:1], &d))
	require.Equal(t, policy.Unknown, d.Verdict)
}

func TestNode(t *testing.T) {
	cluster := redistest.StartCluster(t)
	c := charge(policy.PerHour(100), "alice")

	single := redisstore.New(cluster.Nodes[0].Client(t))
	defer single.Close()
	assert.Empty(t, single.Node(&c), "a single server needs no name")

	store := redisstore.New(cluster.Client(t))
	defer store.Close()
	assert.Empty(t, store.Node(&c), "nobody is asked")
	other := charge(policy.PerHour(100), "bob")
	take(t, store, other)
	assert.Contains(t, cluster.Addrs(), store.Node(&c), "by what the client knows of the cluster")
	guess := store.Node(&c)
	take(t, store, c)
	assert.Equal(t, guess, store.Node(&c))
	assert.Zero(t, testing.AllocsPerRun(100, func() { store.Node(&c) }))

	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": cluster.Nodes[0].Addr()}})
	defer ring.Close()
	onRing := redisstore.New(ring)
	defer onRing.Close()
	assert.Equal(t, cluster.Nodes[0].Addr(), onRing.Node(&c))
}

// A key that is not stint's says nothing about the server.
func TestForeignKeyIsBlameless(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	store := redisstore.New(rdb)
	defer store.Close()
	require.NoError(t, rdb.LPush(t.Context(), "stint{alice}", "x").Err())
	var d policy.Decision
	err := store.Take(t.Context(), policy.NewTicket(), []policy.Charge{charge(policy.PerHour(1), "alice")}, &d)
	require.ErrorIs(t, err, policy.ErrKey)
}
