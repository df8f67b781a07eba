package redisstore_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// A migration is a slot on its way from one node of a cluster to another, for as
// long as a test wants.
type migration struct {
	t              *testing.T
	slot           int
	nodes          []*redis.Client
	from, to       *redis.Client
	fromID, toID   string
	toHost, toPort string
}

// migrate begins to move the slot of a hash tag. None of its keys has moved yet.
func migrate(t *testing.T, cluster *redistest.Cluster, tag string) *migration {
	t.Helper()
	m := &migration{t: t, slot: int(cluster.Nodes[0].Client(t).ClusterKeySlot(t.Context(), tag).Val())}
	for _, node := range cluster.Nodes {
		m.nodes = append(m.nodes, node.Client(t))
	}
	owner := 0
	for (owner+1)*16384/3 <= m.slot {
		owner++
	}
	other := (owner + 1) % len(m.nodes)
	m.from, m.to = m.nodes[owner], m.nodes[other]
	m.fromID, m.toID = m.do(m.from, "cluster", "myid").(string), m.do(m.to, "cluster", "myid").(string)
	m.toHost, m.toPort, _ = net.SplitHostPort(cluster.Nodes[other].Addr())
	m.do(m.to, "cluster", "setslot", m.slot, "importing", m.fromID)
	m.do(m.from, "cluster", "setslot", m.slot, "migrating", m.toID)
	return m
}

// move moves keys that there are.
func (m *migration) move(keys ...string) {
	m.t.Helper()
	args := []any{"migrate", m.toHost, m.toPort, "", 0, 5000, "keys"}
	for _, key := range keys {
		args = append(args, key)
	}
	require.Equal(m.t, "OK", m.do(m.from, args...))
}

// end makes the slot the other node's.
func (m *migration) end() {
	m.t.Helper()
	require.Empty(m.t, m.from.ClusterGetKeysInSlot(m.t.Context(), m.slot, 10).Val())
	m.do(m.to, "cluster", "setslot", m.slot, "node", m.toID)
	for _, node := range m.nodes {
		m.do(node, "cluster", "setslot", m.slot, "node", m.toID)
	}
}

func (m *migration) do(node *redis.Client, args ...any) any {
	m.t.Helper()
	reply, err := node.Do(m.t.Context(), args...).Result()
	require.NoError(m.t, err)
	return reply
}

// counted returns what a node counts under a name of INFO: calls of a command, or
// errors of a kind.
func counted(t *testing.T, node *redis.Client, section, name string) int {
	t.Helper()
	for line := range strings.Lines(node.Info(t.Context(), section).Val()) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			_, rest, _ = strings.Cut(rest, "=")
			n, err := strconv.Atoi(strings.TrimRight(rest[:strings.IndexAny(rest+",", ",\r\n")], "\r\n"))
			require.NoError(t, err)
			return n
		}
	}
	return 0
}

// While a slot moves, a key may live where the slot does not: on the node that
// imports it. Takes are sent on there, behind an ASKING each, and none is lost or
// counted twice: not before, during or after. New keys begin there.
func TestAskIsFollowed(t *testing.T) {
	cluster := redistest.StartCluster(t)
	store := redisstore.New(cluster.Client(t))
	defer store.Close()
	c := charge(policy.PerDay(10_000), "asked")
	want := int64(0)
	takes := func(n int) {
		t.Helper()
		for range n {
			require.Equal(t, policy.Allowed, take(t, store, c).Verdict)
			want++
			require.Equal(t, want, used(t, store, c))
		}
		var together sync.WaitGroup
		var admitted atomic.Int64
		for range 4 * n {
			together.Go(func() {
				var d policy.Decision
				if err := store.Take(context.Background(), policy.NewTicket(), []policy.Charge{c}, &d); err != nil {
					t.Error(err)
				} else if d.Verdict == policy.Allowed {
					admitted.Add(1)
				}
			})
		}
		together.Wait()
		want += admitted.Load()
		require.EqualValues(t, 4*n, admitted.Load())
		require.Equal(t, want, used(t, store, c))
	}
	takes(10)

	m := migrate(t, cluster, "asked")
	takes(10) // it has not moved yet
	require.Zero(t, counted(t, m.from, "errorstats", "errorstat_ASK"))
	asked := counted(t, m.to, "commandstats", "cmdstat_asking")
	require.Zero(t, asked)

	m.move("stint{asked}")
	require.Zero(t, m.from.DBSize(t.Context()).Val())
	takes(10)
	asked = counted(t, m.to, "commandstats", "cmdstat_asking")
	require.GreaterOrEqual(t, asked, 20, "each take, and each peek, that went alone")
	require.GreaterOrEqual(t, counted(t, m.from, "errorstats", "errorstat_ASK"), 20)
	m.do(m.to, "script", "flush") // the text goes behind an ASKING too
	takes(1)
	var d policy.Decision
	ticket := policy.NewTicket()
	require.NoError(t, store.Take(t.Context(), ticket, []policy.Charge{c}, &d))
	want++
	// A settle has a key that is new, its ticket's, beside one that is not: it waits for
	// the slot to arrive.
	settled := make(chan error, 1)
	go func() {
		settled <- store.Settle(context.Background(), ticket, []policy.Settlement{{Charge: c, Receipt: d.Results[0].Receipt, Total: 5}})
	}()
	eventually(t, "it was refused", func() bool { return counted(t, m.to, "errorstats", "errorstat_TRYAGAIN") > 0 })
	require.Equal(t, want, used(t, store, c))
	fresh := charge(policy.PerDay(3), "fresh")
	fresh.Partition = "asked"
	for i := range 4 {
		require.Equal(t, i < 3, take(t, store, fresh).Verdict == policy.Allowed)
	}
	require.Zero(t, m.from.DBSize(t.Context()).Val(), "nothing begins where it ends")

	m.end()
	require.NoError(t, <-settled)
	want += 4
	require.Equal(t, want, used(t, store, c))
	asked = counted(t, m.to, "commandstats", "cmdstat_asking")
	takes(10)
	require.Equal(t, asked, counted(t, m.to, "commandstats", "cmdstat_asking"))
	require.Equal(t, policy.Refused, take(t, store, fresh).Verdict)
}

// A take of two keys of which one has moved cannot be decided by either node, which
// say TRYAGAIN: nothing ran. It is tried again until the other key has moved too, and
// counts once then, or until its caller has waited for long enough, and counts never.
func TestTryAgainIsTriedAgain(t *testing.T) {
	cluster := redistest.StartCluster(t)
	store := redisstore.New(cluster.Client(t))
	defer store.Close()
	perKey, perWorkspace := charge(policy.PerDay(10_000), "key"), charge(policy.PerDay(20_000), "acme")
	perKey.Partition = "acme"
	both := []policy.Charge{perKey, perWorkspace}
	want := int64(0)
	takes := func(n int) {
		t.Helper()
		for range n {
			require.Equal(t, policy.Allowed, take(t, store, both...).Verdict)
			want++
			for i := range both {
				require.Equal(t, want, used(t, store, both[i]))
			}
		}
	}
	takes(5)
	m := migrate(t, cluster, "acme")
	takes(5)
	m.move("stint{acme}")

	// Each by itself goes on where it lives.
	require.Equal(t, want, used(t, store, perKey))
	require.Equal(t, want, used(t, store, perWorkspace))
	refused := func() int { return counted(t, m.from, "errorstats", "errorstat_TRYAGAIN") }
	require.Zero(t, refused())
	const budget = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), budget)
	defer cancel()
	var d policy.Decision
	start := time.Now()
	err := store.Take(ctx, policy.NewTicket(), both, &d)
	require.Error(t, err, "unknown is no refusal")
	require.NotErrorIs(t, err, policy.ErrKey)
	require.Less(t, time.Since(start), 10*budget)
	require.Equal(t, policy.Unknown, d.Verdict)
	require.GreaterOrEqual(t, refused(), 2, "it was tried again")

	// Others wait for as long as it takes.
	const callers = 20
	var waiting sync.WaitGroup
	var admitted atomic.Int64
	before := refused()
	for range callers {
		waiting.Go(func() {
			patient, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			var d policy.Decision
			if err := store.Take(patient, policy.NewTicket(), both, &d); err != nil {
				t.Error(err)
			} else if d.Verdict == policy.Allowed {
				admitted.Add(1)
			}
		})
	}
	eventually(t, "it was refused", func() bool { return refused() > before+1 })
	require.Zero(t, admitted.Load())
	m.move("stint{acme}|key=key")
	waiting.Wait()
	require.EqualValues(t, callers, admitted.Load())
	want += callers
	takes(5)
	m.end()
	takes(5)
}
