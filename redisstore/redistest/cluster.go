package redistest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Cluster is a private Redis Cluster of three masters, each with a third of the
// slots, and with a replica if it was started with them.
type Cluster struct {
	// Nodes are the masters at the start, in the order of their slots. A killed
	// node that is restarted finds its place again.
	Nodes []*Server

	// Replicas are their replicas at the start, in the same order, if there are
	// any. A failover makes a replica of a master, and changes nothing here.
	Replicas []*Server

	// Linger is how long MoveSlots leaves slots on their way whose keys have left, as a
	// tool does that takes its time: nodes redirect by ASK meanwhile. Zero means not at
	// all.
	Linger time.Duration

	tb      testing.TB
	elected map[*Server]time.Time // when a server became a master last
}

const (
	clusterNodes = 3
	clusterSlots = 16_384
)

// StartCluster starts a cluster and waits until each of its nodes says that it
// is well. The arguments are those of redis-server, for every node. It ends
// with the test, and takes a second or two: tests that can should share one,
// with keys of their own.
func StartCluster(tb testing.TB, args ...string) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, elected: map[*Server]time.Time{}, Nodes: startNodes(tb, args)}
	c.join(tb)
	return c
}

// StartClusterWithReplicas is [StartCluster] with a replica of each node. It waits
// until they follow.
func StartClusterWithReplicas(tb testing.TB, args ...string) *Cluster {
	tb.Helper()
	args = append([]string{
		"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", "--cluster-replica-validity-factor", "0",
	}, args...)
	c := &Cluster{tb: tb, elected: map[*Server]time.Time{}, Nodes: startNodes(tb, args), Replicas: startNodes(tb, args)}
	c.join(tb)
	c.follow()
	return c
}

func startNodes(tb testing.TB, args []string) []*Server {
	tb.Helper()
	nodes := make([]*Server, clusterNodes)
	for i := range nodes {
		nodes[i] = Start(tb, append([]string{
			"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000",
		}, args...)...)
	}
	return nodes
}

// Addrs returns the addresses of all nodes, replicas last.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, node := range c.all() {
		addrs = append(addrs, node.Addr())
	}
	return addrs
}

func (c *Cluster) all() []*Server { return append(c.Nodes[:len(c.Nodes):len(c.Nodes)], c.Replicas...) }

// Client returns a new client of the cluster, with default options. It is
// closed when the test tb ends.
func (c *Cluster) Client(tb testing.TB) *redis.ClusterClient {
	tb.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// join makes one cluster of the nodes.
func (c *Cluster) join(tb testing.TB) {
	tb.Helper()
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	clients := make([]*redis.Client, len(c.Nodes))
	for i, node := range c.Nodes {
		clients[i] = redis.NewClient(&redis.Options{Addr: node.Addr()})
		defer clients[i].Close()
	}
	for i, client := range clients {
		first, last := i*clusterSlots/len(clients), (i+1)*clusterSlots/len(clients)-1
		// Epochs that differ from the start spare the nodes an argument.
		if err := client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			tb.Fatalf("redistest: cluster: %v", err)
		}
		if err := client.ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
			tb.Fatalf("redistest: cluster: %v", err)
		}
		host, port := endpoint(c.Nodes[i].Addr())
		for _, other := range clients[:i] {
			if err := other.ClusterMeet(ctx, host, port).Err(); err != nil {
				tb.Fatalf("redistest: cluster: %v", err)
			}
		}
	}
	for i, client := range clients {
		for {
			info, err := client.ClusterInfo(ctx).Result()
			if err == nil && strings.Contains(info, "cluster_state:ok") &&
				strings.Contains(info, "cluster_known_nodes:3") && strings.Contains(info, "cluster_slots_ok:16384") {
				break
			}
			if ctx.Err() != nil {
				tb.Fatalf("redistest: cluster: node %d is not well after %v: %v\n%s", i, patience, err, info)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
