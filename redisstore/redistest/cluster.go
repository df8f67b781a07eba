package redistest

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Cluster is a private Redis Cluster of three masters without replicas, each
// with a third of the slots.
type Cluster struct {
	// Nodes are the servers, in the order of their slots. A killed node that is
	// restarted finds its place again.
	Nodes []*Server
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
	c := &Cluster{}
	for range clusterNodes {
		node := Start(tb, append([]string{
			"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000",
		}, args...)...)
		c.Nodes = append(c.Nodes, node)
	}
	c.join(tb)
	return c
}

// Addrs returns the addresses of all nodes.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.Nodes))
	for i, node := range c.Nodes {
		addrs[i] = node.Addr()
	}
	return addrs
}

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
		host, port, _ := net.SplitHostPort(c.Nodes[i].Addr())
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
