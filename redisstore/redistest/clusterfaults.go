package redistest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Failover makes the i-th node's replica the master of its slots, or the node again
// if the replica is: as an operator does, without a loss, after FailoverDelay at
// most. It returns when the two have changed places.
func (c *Cluster) Failover(i int) {
	c.tb.Helper()
	var heir, old *Server
	Await(c.tb, "the replica follows", func() bool {
		// Who is which may change: on a busy machine nodes miss each other.
		heir, old = c.Replicas[i], c.Nodes[i]
		if heir.role() == "master" {
			heir, old = old, heir
		}
		return old.Followed(1)
	})
	time.Sleep(c.delay(heir))
	Await(c.tb, "a failover", func() bool {
		if heir.role() == "master" {
			return true
		}
		_, _ = heir.ask("CLUSTER", "FAILOVER")
		time.Sleep(50 * time.Millisecond)
		return false
	})
	c.AwaitFailover(i)
}

// TakeOver makes the replica of the i-th node, or the node itself if the replica is
// master, the master at once, as an operator can: without a vote, which masters that
// have voted lately would refuse for seconds. If one of the two was killed, it makes the
// other the master, which may have become it by itself.
func (c *Cluster) TakeOver(i int) {
	c.tb.Helper()
	heir, other := c.Replicas[i], c.Nodes[i]
	if other.proc != nil && (heir.proc == nil || heir.role() == "master") {
		heir = other
	}
	Await(c.tb, "a takeover", func() bool {
		_, _ = heir.ask("CLUSTER", "FAILOVER", "TAKEOVER")
		return heir.role() == "master"
	})
	c.AwaitFailover(i)
}

// Kill kills the i-th node so that its replica can follow it, after FailoverDelay at most.
func (c *Cluster) Kill(i int) {
	time.Sleep(c.delay(c.Replicas[i]))
	c.Nodes[i].Kill()
}

// FailoverDelay returns how long Kill and Failover may have to wait before the i-th node
// and its replica change places, once or back and forth: until eight seconds after the
// heir's last election, and one more. For so long it keeps the votes of that. If it is to
// follow its master then, Redis 7.0 counts them once more instead of asking anew, and to
// the other nodes an heir with an old epoch is none: there are two masters, for good.
func (c *Cluster) FailoverDelay(i int) time.Duration {
	return max(c.delay(c.Nodes[i]), c.delay(c.Replicas[i]))
}

func (c *Cluster) delay(heir *Server) time.Duration {
	const votes = 8 * time.Second // twice the wait for them, which is twice the nodes' timeout
	return max(0, time.Until(c.elected[heir].Add(votes+time.Second)))
}

// AwaitFailover waits until the i-th node, which may have been killed, or its replica
// is the other's successor, and all other nodes say that the cluster is well.
func (c *Cluster) AwaitFailover(i int) {
	c.tb.Helper()
	Await(c.tb, "a successor, and a cluster that is well", func() bool {
		for j, node := range c.Nodes {
			if (j != i || node.proc != nil) && !node.inWellCluster() {
				return false
			}
		}
		return c.Replicas[i].inWellCluster() &&
			(c.Replicas[i].role() == "master") != (c.Nodes[i].role() == "master")
	})
	master := c.Nodes[i]
	if c.Replicas[i].role() == "master" {
		master = c.Replicas[i]
	}
	c.elected[master] = time.Now()
}

// Restore makes each of Nodes master again whose replica has taken its place, as one
// does by itself when a busy machine keeps its master silent for long enough. It waits
// until the cluster is well, and every node has its replica.
func (c *Cluster) Restore() {
	c.tb.Helper()
	c.AwaitWell()
	for i, node := range c.Nodes {
		Await(c.tb, "a replica follows", func() bool {
			if node.role() != "master" {
				c.elected[c.Replicas[i]] = time.Now() // it may have been so just now
				c.Failover(i)
			}
			return node.Followed(1)
		})
	}
	c.AwaitWell()
}

// AwaitWell waits until all nodes that were not killed say that the cluster is well,
// and the same of whose slots are whose.
//
// An epoch that nodes do not agree about can keep a dead node from having a successor:
// a resharding and a failover at the same time may have taken the same one, and masters
// vote for no replica that has not heard yet which of the two gave way.
func (c *Cluster) AwaitWell() {
	c.tb.Helper()
	Await(c.tb, "a cluster that is well", func() bool {
		var agreed []string
		for _, node := range c.all() {
			if node.proc == nil {
				continue
			}
			if !node.inWellCluster() {
				return false
			}
			owners, distinct := node.owners()
			if agreed == nil {
				agreed = owners
			}
			if !distinct || !slices.Equal(owners, agreed) {
				return false
			}
		}
		return true
	})
}

// owners returns what the node says of each master that has slots: its name, its
// epoch and its slots. It reports whether the epochs are distinct.
func (s *Server) owners() (owners []string, distinct bool) {
	nodes, _ := s.ask("CLUSTER", "NODES")
	epochs := map[string]bool{}
	for line := range strings.Lines(fmt.Sprint(nodes)) {
		fields := strings.Fields(line)
		const name, flags, epoch, slots = 0, 2, 6, 8
		if len(fields) <= slots || !strings.Contains(fields[flags], "master") {
			continue
		}
		told := []string{fields[name], fields[epoch]}
		for _, some := range fields[slots:] {
			if !strings.HasPrefix(some, "[") { // a slot that is on its way
				told = append(told, some)
			}
		}
		owners = append(owners, strings.Join(told, " "))
		epochs[fields[epoch]] = true
	}
	slices.Sort(owners)
	return owners, len(owners) > 0 && len(epochs) == len(owners)
}

// inWellCluster reports whether the node says that it sees the cluster well.
func (s *Server) inWellCluster() bool {
	info, _ := s.ask("CLUSTER", "INFO")
	return strings.Contains(fmt.Sprint(info), "cluster_state:ok")
}

// tellsOfReplicas reports whether the server tells clients of a replica for all slots.
func (s *Server) tellsOfReplicas() bool {
	slots, _ := s.ask("CLUSTER", "SLOTS") // as clients ask
	ranges, _ := slots.([]any)
	return len(ranges) > 0 && !slices.ContainsFunc(ranges, func(r any) bool {
		fields, _ := r.([]any)
		return len(fields) < 4 // the first and the last slot, the master, the replica
	})
}

// follow makes replicas of the nodes of the cluster, and waits until they are.
func (c *Cluster) follow() {
	c.tb.Helper()
	for i, replica := range c.Replicas {
		host, port := endpoint(c.Nodes[i].Addr())
		replica.do("CLUSTER", "MEET", host, port)
	}
	for i, replica := range c.Replicas {
		id := fmt.Sprint(c.Nodes[i].do("CLUSTER", "MYID"))
		Await(c.tb, "a replica knows its master", func() bool {
			_, err := replica.ask("CLUSTER", "REPLICATE", id)
			return err == nil
		})
	}
	Await(c.tb, "replicas follow", func() bool {
		for i := range c.Nodes {
			known := strings.Count(fmt.Sprint(c.Nodes[i].do("CLUSTER", "NODES")), " slave ")
			if !c.Nodes[i].Followed(1) || known != len(c.Replicas) || !c.Replicas[i].inWellCluster() {
				return false
			}
		}
		return true
	})
	// Nodes tell clients of a replica only once they know that it has some of its
	// master's stream, which may be seconds later.
	Await(c.tb, "clients are told of replicas", func() bool {
		return !slices.ContainsFunc(c.all(), func(s *Server) bool { return !s.tellsOfReplicas() })
	})
}

// MoveSlots moves a range of slots, both ends among it, from one of Nodes to another,
// with their keys, one slot after the other, as redis-cli does when it reshards. Other
// tests' keys move too. A node that is left without slots may become a replica.
func (c *Cluster) MoveSlots(from, to, first, last int) {
	c.tb.Helper()
	ctx := context.Background()
	dial := func(s *Server) *redis.Client {
		return redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1})
	}
	source, target := dial(c.Nodes[from]), dial(c.Nodes[to])
	defer source.Close()
	defer target.Close()
	sourceID := fmt.Sprint(c.Nodes[from].do("CLUSTER", "MYID"))
	targetID := fmt.Sprint(c.Nodes[to].do("CLUSTER", "MYID"))
	host, port := endpoint(c.Nodes[to].Addr())
	check := func(err error) {
		c.tb.Helper()
		if err != nil {
			c.tb.Fatalf("redistest: reshard: %v", err)
		}
	}
	// A hundred slots are on their way at a time.
	const batch = 100
	for begin := first; begin <= last; begin += batch {
		end := min(begin+batch-1, last)
		setSlots := func(client *redis.Client, state, id string) {
			_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
				for slot := begin; slot <= end; slot++ {
					p.Do(ctx, "CLUSTER", "SETSLOT", slot, state, id)
				}
				return nil
			})
			check(err)
		}
		setSlots(target, "IMPORTING", sourceID)
		setSlots(source, "MIGRATING", targetID)
		var slots []int // that may have keys still
		for slot := begin; slot <= end; slot++ {
			slots = append(slots, slot)
		}
		for len(slots) > 0 {
			const some = 100
			var inSlot []*redis.StringSliceCmd
			_, err := source.Pipelined(ctx, func(p redis.Pipeliner) error {
				for _, slot := range slots {
					inSlot = append(inSlot, p.ClusterGetKeysInSlot(ctx, slot, some))
				}
				return nil
			})
			check(err)
			left := slots[:0]
			for i, keys := range inSlot {
				if len(keys.Val()) == 0 {
					continue
				}
				left = append(left, slots[i])
				args := []any{"MIGRATE", host, port, "", 0, 5000, "KEYS"}
				for _, key := range keys.Val() {
					args = append(args, key)
				}
				check(source.Do(ctx, args...).Err())
			}
			slots = left
		}
		time.Sleep(c.Linger)
		setSlots(target, "NODE", targetID)
		setSlots(source, "NODE", targetID)
		for i, node := range c.Nodes {
			if i != from && i != to {
				other := dial(node)
				setSlots(other, "NODE", targetID)
				_ = other.Close()
			}
		}
	}
}
