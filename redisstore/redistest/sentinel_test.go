package redistest_test

import (
	"testing"

	"github.com/stint-go/stint/redisstore/redistest"
)

func TestSentinel(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t)
	c := s.Client(t)
	set := func(value string) {
		t.Helper()
		redistest.Await(t, "a write", func() bool { return c.Set(t.Context(), "k", value, 0).Err() == nil })
		if n := c.Wait(t.Context(), 1, 0).Val(); n < 1 {
			t.Fatalf("%d replicas have it", n)
		}
	}
	first := s.Master()
	if first != s.Servers[0] {
		t.Fatalf("the master is %s", first.Addr())
	}
	set("a")
	s.Failover()
	second := s.Master()
	if v := c.Get(t.Context(), "k").Val(); v != "a" || second == first {
		t.Fatalf("%s has %q", second.Addr(), v)
	}
	set("b")
	second.Kill()
	s.AwaitFailover(second)
	redistest.Await(t, "the new master is asked", func() bool { return c.Get(t.Context(), "k").Val() == "b" })
}

func TestClusterFailover(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartClusterWithReplicas(t)
	c := cluster.Client(t)
	if err := c.Set(t.Context(), "{a}", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	slot := int(c.ClusterKeySlot(t.Context(), "a").Val())
	owner := slot * 3 / 16384
	cluster.Failover(owner)
	redistest.Await(t, "a write to the successor", func() bool { return c.Set(t.Context(), "{a}", "w", 0).Err() == nil })
	if v := cluster.Replicas[owner].Client(t).Get(t.Context(), "{a}").Val(); v != "w" {
		t.Errorf("the successor has %q", v)
	}
	cluster.TakeOver(owner) // and back

	other := (owner + 1) % 3
	cluster.MoveSlots(owner, other, slot, slot)
	if v := cluster.Nodes[other].Client(t).Get(t.Context(), "{a}").Val(); v != "w" {
		t.Errorf("where its slot was moved is %q", v)
	}

	cluster.Failover(other)
	cluster.Failover(other) // and back: its replica was elected lately
	cluster.Kill(other)
	cluster.AwaitFailover(other)
	cluster.TakeOver(other) // which has happened
	redistest.Await(t, "a write to the successor", func() bool { return c.Set(t.Context(), "{a}", "x", 0).Err() == nil })
	cluster.Nodes[other].Restart()
	cluster.Restore()
	if v := cluster.Nodes[other].Client(t).Get(t.Context(), "{a}").Val(); v != "x" {
		t.Errorf("who came back has %q", v)
	}
}
