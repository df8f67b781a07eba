package redisstore

import (
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore/redistest"
)

// A key with hundreds of states has no room for a lease once other limits of the
// same request have what they begin: the lease goes to a set. It does that without
// harm to the rest of the group.
func TestCrowdedKeyInAGroup(t *testing.T) {
	c := newCrowd(t)
	queue := c.slot(0, policy.Concurrency(1).WithQueue(5, time.Minute))
	c.take(queue)
	for i := range full - 2 {
		c.take(c.window(i))
	}
	require.Equal(t, full-1, c.states())
	bob := c.bob(19)
	first, last := c.call(kindTake, bob), c.call(kindTake, bob)
	c.send(first, c.call(kindTake, c.window(full), c.window(full+1), queue), last)
	require.EqualValues(t, statusAllowed, first.status)
	require.EqualValues(t, statusRefused, last.status)
	require.Equal(t, policy.Refused, c.take(bob).Verdict)
	require.Equal(t, full+1, c.states(), "the leases of the queue are a set, and have a state")
	d := c.take(queue)
	require.Equal(t, policy.Queued, d.Verdict)
	require.EqualValues(t, 2, d.Results[0].Queue)
}

// A lease that tells its instant is a record without a state beside it. Where
// hundreds fill a key there is no room for their states when tickets are renewed, or
// leave, that have lost their leases: those who hold them go on.
func TestCrowdedKeyOfLoneLeases(t *testing.T) {
	for name, lose := range map[string]func(*crowd, policy.Ticket, []policy.Charge) error{
		"renewed": func(c *crowd, lost policy.Ticket, charges []policy.Charge) error {
			renewals := make([]policy.Renewal, len(charges))
			for i := range charges {
				renewals[i] = policy.Renewal{Ticket: lost, Charge: charges[i]}
			}
			return c.store.Renew(t.Context(), renewals)
		},
		"left": func(c *crowd, lost policy.Ticket, charges []policy.Charge) error {
			settlements := make([]policy.Settlement, len(charges))
			for i := range charges {
				settlements[i] = policy.Settlement{Charge: charges[i]}
			}
			return c.store.Settle(t.Context(), lost, settlements)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t)
			var slots []policy.Charge
			ticket := policy.NewTicket()
			for i := range full {
				slots = append(slots, c.slot(i, policy.Concurrency(1).WithLease(time.Minute)))
			}
			chunk := func(do func([]policy.Charge) error) {
				for i := 0; i < full; i += full / 18 {
					require.NoError(t, do(slots[i:i+full/18]))
				}
			}
			chunk(func(some []policy.Charge) error {
				var d policy.Decision
				return c.store.Take(t.Context(), ticket, some, &d)
			})
			require.Equal(t, full, c.states())
			chunk(func(some []policy.Charge) error { return lose(c, policy.NewTicket(), some) })
			require.LessOrEqual(t, c.states(), maxStates)
			// In one group, they would have been too many to write for anybody.
			bob := c.bob(19)
			calls := []*call{c.call(kindTake, bob)}
			for i := range slots {
				if i%maxRenewals == 0 {
					calls = append(calls, c.call(kindRenew))
				}
				calls[len(calls)-1].add(c.store, "alice", &slots[i]).ticket = policy.NewTicket()
			}
			c.send(calls...)
			require.EqualValues(t, statusAllowed, calls[0].status)
			require.Equal(t, policy.Refused, c.take(bob).Verdict)
			chunk(func(some []policy.Charge) error {
				renewals := make([]policy.Renewal, len(some))
				for i := range some {
					renewals[i] = policy.Renewal{Ticket: ticket, Charge: some[i]}
				}
				if err := c.store.Renew(t.Context(), renewals); err != nil {
					return err
				}
				for i := range renewals {
					require.Equal(t, policy.Allowed, renewals[i].Result.Verdict)
				}
				return nil
			})
			for i := range 3 {
				require.Equal(t, policy.Refused, c.take(slots[i]).Verdict)
			}
		})
	}
}

const (
	maxStates = 1064            // of the script
	full      = maxStates - 128 // no request begins a state from here on
)

// A crowd is many limits of one key, alice's.
type crowd struct {
	t     *testing.T
	redis *redis.Client
	store *Store
}

func newCrowd(t *testing.T) *crowd {
	client := redistest.Start(t).Client(t)
	s := New(client)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return &crowd{t, client, s}
}

func (c *crowd) window(i int) policy.Charge { return c.slot(i, policy.PerHour(100)) }

func (c *crowd) slot(i int, l policy.Limit) policy.Charge {
	return policy.Charge{Limit: l, Scope: policy.NewScope("crowd", strconv.Itoa(i)), Key: "alice", Units: 1}
}

// bob returns a charge for one of twenty slots, of which so many are held.
func (c *crowd) bob(held int) policy.Charge {
	bob := policy.Charge{Limit: policy.Concurrency(20).WithLease(time.Minute), Scope: policy.NewScope("crowd", "bob"), Key: "bob", Units: 1}
	for range held {
		require.Equal(c.t, policy.Allowed, c.take(bob).Verdict)
	}
	return bob
}

func (c *crowd) take(charge policy.Charge) policy.Decision {
	c.t.Helper()
	var d policy.Decision
	require.NoError(c.t, c.store.Take(c.t.Context(), policy.NewTicket(), []policy.Charge{charge}, &d))
	return d
}

// states returns how many records alice's value has.
func (c *crowd) states() int {
	n, err := c.redis.StrLen(c.t.Context(), "stint{alice}").Result()
	require.NoError(c.t, err)
	return int(n-2) / 40
}

func (c *crowd) call(kind int64, charges ...policy.Charge) *call {
	call := newCall()
	call.kind, call.route, call.deadline = kind, c.store.route.Load(), time.Now().Add(time.Minute)
	call.ticket = policy.NewTicket()
	for i := range charges {
		call.add(c.store, escape(charges[i].Key), &charges[i])
	}
	return call
}

// send sends calls as one group, and requires that none fails.
func (c *crowd) send(calls ...*call) {
	c.t.Helper()
	f := flightPool.Get().(*flight)
	f.calls = append(f.calls, calls...)
	c.store.route.Load().single.carry(f)
	for _, call := range calls {
		<-call.done
		require.NoError(c.t, call.err)
	}
}
