package policy_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
)

// slotLease is that of most limits here.
const slotLease = time.Second

func slots(n, queue int64) policy.Limit {
	l := policy.Concurrency(n).WithLease(slotLease)
	if queue > 0 {
		l = l.WithQueue(queue, time.Minute)
	}
	return l
}

// who is a ticket that a table can name.
func who(name string) policy.Ticket { return policy.Ticket{name[0]} }

// TestSlots walks through what becomes of the slots of a limit, step by step.
func TestSlots(t *testing.T) {
	t.Parallel()
	const enter, renew, leave = "enter", "renew", "leave"
	lease := micros(slotLease)
	type step struct {
		limit  policy.Limit
		at     int64
		do, by string
		want   string // verdict, held, Result.Queue
	}
	one, queued := slots(1, 0), slots(1, 2)
	for name, steps := range map[string][]step{
		"a slot is somebody's": {
			{one, 0, enter, "a", "allowed 1 0"},
			{one, 1, enter, "b", "refused 1 0"},
			{one, 2, enter, "a", "allowed 1 0"},
			{one, 3, leave, "b", "allowed 1 0"},
			{one, 4, enter, "b", "refused 1 0"},
			{one, 5, leave, "a", "allowed 0 0"},
			{one, 6, enter, "b", "allowed 1 0"},
			{one, 7, leave, "a", "allowed 1 0"},
		},
		"a lease ends to the microsecond": {
			{one, 0, enter, "a", "allowed 1 0"},
			{one, lease - 1, enter, "b", "refused 1 0"},
			{one, lease, enter, "b", "allowed 1 0"},
			{one, lease, renew, "a", "refused 1 0"},
		},
		"entering twice renews nothing": {
			{one, 0, enter, "a", "allowed 1 0"},
			{one, lease - 1, enter, "a", "allowed 1 0"},
			{one, lease, enter, "b", "allowed 1 0"},
		},
		"a renewed lease ends one lease later": {
			{one, 0, enter, "a", "allowed 1 0"},
			{one, lease - 1, renew, "a", "allowed 1 0"},
			{one, 2*lease - 2, enter, "b", "refused 1 0"},
			{one, 2*lease - 1, renew, "a", "refused 0 0"},
			{one, 2*lease - 1, enter, "b", "allowed 1 0"},
		},
		"the queue is bounded and in the order of arrival": {
			{queued, 0, enter, "a", "allowed 1 0"},
			{queued, 0, enter, "b", "queued 1 1"},
			{queued, 0, enter, "c", "queued 1 2"},
			{queued, 0, enter, "d", "refused 1 2"},
			{queued, 1, renew, "c", "queued 1 2"},
			{queued, 2, leave, "a", "allowed 1 1"},
			{queued, 3, enter, "d", "queued 1 2"},
			{queued, 3, renew, "b", "allowed 1 2"},
			{queued, 3, enter, "c", "queued 1 1"},
			{queued, 4, leave, "c", "allowed 1 1"},
			{queued, 5, leave, "b", "allowed 1 0"},
			{queued, 6, renew, "d", "allowed 1 0"},
			{queued, 6, renew, "a", "refused 1 0"},
		},
		"a dead holder's slot goes to the first who lives": {
			{queued, 0, enter, "a", "allowed 1 0"},
			{queued, 1, enter, "b", "queued 1 1"},
			{queued, 2, enter, "c", "queued 1 2"},
			{queued, lease - 1, renew, "c", "queued 1 2"},
			{queued, lease, renew, "c", "queued 1 1"}, // b has it now
			{queued, lease, renew, "a", "refused 1 1"},
			{queued, lease + 1, renew, "c", "allowed 1 0"}, // b ended, too
			{queued, lease + 1, renew, "b", "refused 1 0"},
		},
		"newcomers do not overtake when a lease has ended": {
			{queued, 0, enter, "a", "allowed 1 0"},
			{queued, 5, enter, "b", "queued 1 1"},
			{queued, lease, enter, "c", "queued 1 1"},
			{queued, lease + 1, renew, "b", "allowed 1 1"},
		},
		"a lowered number evicts nobody": {
			{slots(3, 2), 0, enter, "a", "allowed 1 0"},
			{slots(3, 2), 0, enter, "b", "allowed 2 0"},
			{slots(3, 2), 0, enter, "c", "allowed 3 0"},
			{queued, 1, renew, "c", "allowed 3 0"},
			{queued, 1, enter, "d", "queued 3 1"},
			{queued, 1, leave, "a", "allowed 2 1"},
			{queued, 1, leave, "b", "allowed 1 1"},
			{queued, 1, leave, "c", "allowed 1 0"},
			{queued, 1, renew, "d", "allowed 1 0"},
		},
		"a raised number grants at the next transition": {
			{queued, 0, enter, "a", "allowed 1 0"},
			{queued, 0, enter, "b", "queued 1 1"},
			{queued, 0, enter, "c", "queued 1 2"},
			{slots(2, 2), 1, renew, "a", "allowed 2 1"},
			{slots(2, 2), 1, renew, "b", "allowed 2 1"},
			{slots(3, 2), 1, enter, "d", "queued 3 1"},
		},
		"a shorter queue keeps those who wait": {
			{queued, 0, enter, "a", "allowed 1 0"},
			{queued, 0, enter, "b", "queued 1 1"},
			{queued, 0, enter, "c", "queued 1 2"},
			{slots(1, 1), 0, renew, "c", "queued 1 2"},
			{slots(1, 1), 0, leave, "b", "allowed 1 1"},
			{slots(1, 1), 0, enter, "d", "refused 1 1"},
			{one, 0, renew, "c", "queued 1 1"},
		},
		"another lease applies at the next renewal": {
			{one, 0, enter, "a", "allowed 1 0"},
			{one.WithLease(10 * time.Millisecond), 20_000, enter, "b", "refused 1 0"},
			{one.WithLease(10 * time.Millisecond), 20_000, renew, "a", "allowed 1 0"},
			{one, 29_999, enter, "b", "refused 1 0"},
			{one, 30_000, enter, "b", "allowed 1 0"},
			{one.WithLease(time.Minute), 30_000, renew, "b", "allowed 1 0"},
			{one, 60_029_999, enter, "c", "refused 1 0"},
			{one, 60_030_000, enter, "c", "allowed 1 0"},
		},
		"a clock set back lengthens a lease by what it was set back": {
			{one, 100, enter, "a", "allowed 1 0"},
			{one, 0, enter, "b", "refused 1 0"},
			{one, 50, renew, "a", "allowed 1 0"}, // as of 100
			{one, lease + 99, enter, "b", "refused 1 0"},
			{one, lease + 100, enter, "b", "allowed 1 0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s policy.State
			for i, step := range steps {
				var r policy.Result
				transition := map[string]func(policy.Limit, policy.State, int64, policy.Ticket) (policy.State, policy.Result){
					enter: policy.Limit.Enter, renew: policy.Limit.Renew, leave: policy.Limit.Leave,
				}[step.do]
				s, r = transition(step.limit, s, epoch+step.at, who(step.by))
				require.Equal(t, step.want, fmt.Sprint(r.Verdict, r.Used, r.Queue), "step %d: %s %s", i, step.by, step.do)
				require.Equal(t, step.limit.N(), r.Limit)
				require.Equal(t, max(0, step.limit.N()-r.Used), r.Remaining)
				require.Zero(t, r.RetryAfter+r.ResetAfter+r.NextAfter)
			}
		})
	}
}

// A crowd is what a limit's slots are by the documentation: everyone with a flag,
// in the order of arrival.
type crowd struct {
	at     int64
	guests []guest
}

type guest struct {
	ticket policy.Ticket
	until  int64
	inside bool
}

// settle sends away whose lease has ended, and lets in who may come.
func (c *crowd) settle(l policy.Limit, now int64) {
	c.at = max(c.at, now)
	c.guests = slices.DeleteFunc(c.guests, func(g guest) bool { return g.until <= c.at })
	for i := range c.guests {
		if c.inside() < l.N() {
			c.guests[i].inside = true
		}
	}
}

func (c *crowd) inside() (n int64) {
	for _, g := range c.guests {
		if g.inside {
			n++
		}
	}
	return n
}

func (c *crowd) outside() int64 { return int64(len(c.guests)) - c.inside() }

func (c *crowd) find(t policy.Ticket) int {
	return slices.IndexFunc(c.guests, func(g guest) bool { return g.ticket == t })
}

// stands tells how a ticket stands, and its place in the queue.
func (c *crowd) stands(t policy.Ticket) (policy.Verdict, int64) {
	place := int64(0)
	for _, g := range c.guests {
		if !g.inside {
			place++
		}
		switch {
		case g.ticket != t:
		case g.inside:
			return policy.Allowed, c.outside()
		default:
			return policy.Queued, place
		}
	}
	return policy.Refused, c.outside()
}

func (c crowd) clone() crowd {
	c.guests = slices.Clone(c.guests)
	return c
}

// peek tells what a newcomer would be answered.
func (c crowd) peek(l policy.Limit, now int64) (policy.Verdict, crowd) {
	c = c.clone()
	c.settle(l, now)
	length, _ := l.Queue()
	switch {
	case c.inside() < l.N():
		return policy.Allowed, c
	case c.outside() < length:
		return policy.Queued, c
	}
	return policy.Refused, c
}

// enter returns false if nothing changed.
func (c crowd) enter(l policy.Limit, now int64, t policy.Ticket) (crowd, bool) {
	v, after := c.peek(l, now)
	if after.find(t) < 0 {
		if v == policy.Refused {
			return c, false
		}
		after.guests = append(after.guests, guest{ticket: t, until: after.at + l.Lease().Microseconds()})
		after.settle(l, now)
	}
	return after, true
}

func drawSlots(t *rapid.T, fixed *policy.Limit) policy.Limit {
	if fixed != nil {
		return *fixed
	}
	l := policy.Concurrency(rapid.Int64Range(1, 4).Draw(t, "n"))
	l = l.WithLease(rapid.SampledFrom([]time.Duration{time.Second, policy.MinLease, 3 * time.Second}).Draw(t, "lease"))
	if q := rapid.Int64Range(0, 4).Draw(t, "queue"); q > 0 {
		l = l.WithQueue(q, time.Minute)
	}
	return l
}

// drawSlotStep moves the clock: within a lease, or beside the end of one.
func drawSlotStep(t *rapid.T, s policy.State, now int64) int64 {
	switch rapid.IntRange(0, 5).Draw(t, "step") {
	case 0, 1:
		return now
	case 2:
		return now + rapid.Int64Range(0, 700_000).Draw(t, "on")
	case 3:
		return now - rapid.Int64Range(0, 700_000).Draw(t, "back")
	case 4:
		return now + rapid.Int64Range(0, 3_500_000).Draw(t, "far on")
	}
	if len(s.Leases) == 0 {
		return now
	}
	return rapid.SampledFrom(s.Leases).Draw(t, "lease").Until + rapid.Int64Range(-1, 1).Draw(t, "beside")
}

// Every answer is the crowd's, whatever the numbers do meanwhile. Nobody is let in
// beyond the number, nobody overtakes, and what is decided and dropped leaves the
// state as it was.
func TestSlotsEqualCrowd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var fixed *policy.Limit
		if rapid.Bool().Draw(t, "numbers stay") {
			l := drawSlots(t, nil)
			fixed = &l
		}
		var (
			s       policy.State
			c       crowd
			arrived []policy.Ticket // all that ever came, in order
			now     = epoch
		)
		for range rapid.IntRange(1, 40).Draw(t, "transitions") {
			l := drawSlots(t, fixed)
			now = drawSlotStep(t, s, now)
			ticket := policy.Ticket{rapid.Byte().Draw(t, "new")}
			if len(arrived) > 0 && rapid.IntRange(0, 2).Draw(t, "old") > 0 {
				ticket = rapid.SampledFrom(arrived).Draw(t, "ticket")
			}
			dropped(t, l, s, now, ticket, c)

			insideBefore := c.inside()
			var r policy.Result
			switch rapid.IntRange(0, 3).Draw(t, "do") {
			case 0, 1:
				before := s
				s, r = l.Enter(s, now, ticket)
				after, changed := c.enter(l, now, ticket)
				verdict, queue := after.stands(ticket)
				if !changed {
					require.Equal(t, before, s, "a refusal changes nothing")
					_, after = c.peek(l, now)
					verdict, queue = policy.Refused, after.outside()
				} else if c = after; !slices.Contains(arrived, ticket) {
					arrived = append(arrived, ticket)
				}
				tells(t, l, &after, verdict, queue, r)
			case 2:
				s, r = l.Renew(s, now, ticket)
				c.settle(l, now)
				if i := c.find(ticket); i >= 0 {
					c.guests[i].until = c.at + l.Lease().Microseconds()
				}
				verdict, queue := c.stands(ticket)
				tells(t, l, &c, verdict, queue, r)
			case 3:
				s, r = l.Leave(s, now, ticket)
				c.settle(l, now)
				if i := c.find(ticket); i >= 0 {
					c.guests = slices.Delete(c.guests, i, i+1)
				}
				c.settle(l, now)
				arrived = slices.DeleteFunc(arrived, func(t policy.Ticket) bool { return t == ticket })
				tells(t, l, &c, policy.Allowed, c.outside(), r)
			}
			require.LessOrEqual(t, c.inside(), max(l.N(), insideBefore), "beyond the number")
			keeps(t, s, &c)
		}
	})
}

// tells wants the result to say what the crowd does.
func tells(t *rapid.T, l policy.Limit, c *crowd, verdict policy.Verdict, queue int64, r policy.Result) {
	require.Equal(t, verdict, r.Verdict)
	require.Equal(t, queue, r.Queue)
	require.Equal(t, c.inside(), r.Used)
	require.Equal(t, max(0, l.N()-c.inside()), r.Remaining)
}

// keeps wants the state to hold the crowd, those inside first, and to know until
// when.
func keeps(t *rapid.T, s policy.State, c *crowd) {
	require.Equal(t, c.inside(), s.A)
	require.Len(t, s.Leases, len(c.guests))
	waiting := s.Leases[s.A:]
	for _, g := range c.guests {
		require.Contains(t, s.Leases, policy.Lease{Ticket: g.ticket, Until: g.until})
		require.LessOrEqual(t, s.B, g.until, "B is before all ends")
		require.LessOrEqual(t, g.until, s.Until)
		if !g.inside {
			require.Equal(t, g.ticket, waiting[0].Ticket, "in the order of arrival")
			waiting = waiting[1:]
		}
	}
	if len(c.guests) == 0 && len(s.Leases) == 0 && c.at > 0 {
		require.LessOrEqual(t, s.Until, s.At, "nobody is there, nothing matters")
	}
}

// dropped asks, and drops what it is told: the state must still say what it said.
func dropped(t *rapid.T, l policy.Limit, s policy.State, now int64, ticket policy.Ticket, c crowd) {
	verdict, after := c.peek(l, now)
	copied := s
	copied.Leases = slices.Clone(s.Leases)
	r := l.Peek(s, now, 5)
	require.Equal(t, verdict, r.Verdict)
	require.Equal(t, after.inside(), r.Used)
	require.Equal(t, after.outside(), r.Queue)
	require.Zero(t, r.Receipt)
	require.Equal(t, policy.Allowed, l.Peek(s, now, 0).Verdict)

	l.Enter(s, now, ticket)
	l.Enter(s, now, policy.Ticket{1, 2, 3})
	took, _ := l.Take(s, now, 1)
	require.Equal(t, copied, took, "Take takes no slot")
	settled, _ := l.Settle(s, now, policy.Receipt{}, 1, 0)
	require.Equal(t, copied, settled, "nor does Settle free one")
	require.Equal(t, copied, s)
}

// A store that keeps the leases elsewhere reports by the numbers alone.
func TestReportSlots(t *testing.T) {
	t.Parallel()
	l := slots(2, 3)
	var s policy.State
	for i := range 6 {
		var r policy.Result
		s, r = l.Enter(s, epoch, policy.Ticket{byte(1 + i)})
		taken := r.Verdict != policy.Refused
		numbers := policy.State{At: s.At, Until: s.Until, A: s.A, B: s.B, C: r.Queue}
		require.Equal(t, r, l.Report(numbers, epoch, 1, r.Verdict, taken), "request %d", i)
		peeked := l.Peek(s, epoch, 1)
		numbers.C = int64(len(s.Leases)) - s.A
		require.Equal(t, peeked, l.Report(numbers, epoch, 1, peeked.Verdict, false), "request %d", i)
	}
	require.Equal(t, s.Until, l.DrainedAt(s))
}

// Entering, renewing and leaving again reuse the state's memory.
func TestSlotsAllocateNothing(t *testing.T) {
	l := slots(2, 1)
	var s policy.State
	now := epoch
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for i := range 3 {
			s, _ = l.Enter(s, now, policy.Ticket{byte(1 + i)})
		}
		s, _ = l.Renew(s, now, policy.Ticket{1})
		for i := range 3 {
			s, _ = l.Leave(s, now, policy.Ticket{byte(1 + i)})
		}
		now += 2_000_000
	}))
}

func TestConcurrencyNumbers(t *testing.T) {
	t.Parallel()
	l := policy.Concurrency(5)
	require.NoError(t, l.Validate())
	require.Equal(t, policy.AlgorithmConcurrency, l.Algorithm())
	require.Equal(t, "concurrency", l.Algorithm().String())
	require.Equal(t, "slots", l.Name())
	require.Equal(t, []int64{5, 5}, []int64{l.N(), l.Capacity()})
	require.Zero(t, l.Window())
	require.Equal(t, 10*time.Second, l.Lease())
	length, wait := l.Queue()
	require.Zero(t, length)
	require.Zero(t, wait)
	require.Equal(t, "5 at once", l.String())

	q := l.WithQueue(16, 30*time.Second).WithLease(time.Minute)
	length, wait = q.Queue()
	require.Equal(t, int64(16), length)
	require.Equal(t, 30*time.Second, wait)
	require.Equal(t, time.Minute, q.Lease())
	require.Equal(t, "5 at once, 16 waiting for 30s", q.String())
	require.Equal(t, "1 at once, 2 waiting for 1m", policy.Concurrency(1).WithQueue(2, time.Minute).String())

	for _, same := range []policy.Limit{q, policy.Concurrency(6), l.Named("x").Named("slots")} {
		require.Equal(t, l.ID(), same.ID(), same.String())
	}
	require.NotEqual(t, l.ID(), l.Named("x").ID())
	require.Zero(t, policy.PerMinute(1).Lease())
	require.ErrorContains(t, policy.ValidateLimits([]policy.Limit{l, policy.Concurrency(6)}), `two limits named "slots" (5 at once and 6 at once)`)
}

// Every message says what to write instead.
func TestConcurrencyValidate(t *testing.T) {
	t.Parallel()
	one := policy.Concurrency(1)
	for _, tc := range []struct {
		name  string
		limit policy.Limit
		want  string
	}{
		{"number zero", policy.Concurrency(0), `concurrency limit "slots": number 0: write one from 1 to 10000`},
		{"number above", policy.Concurrency(policy.MaxSlots + 1), "number 10001: write one from 1 to 10000"},
		{"number at the bound", policy.Concurrency(policy.MaxSlots), ""},
		{"queue zero", one.WithQueue(0, time.Second), "queue of 0: write one from 1 to 10000"},
		{"queue above", one.WithQueue(policy.MaxSlots+1, time.Second), "queue of 10001: write one"},
		{"queue at the bounds", one.WithQueue(policy.MaxSlots, policy.MaxLease), ""},
		{"wait short", one.WithQueue(1, time.Millisecond-1), "wait 999.999µs: write one from 1ms to 1h0m0s"},
		{"wait long", one.WithQueue(1, policy.MaxLease+1), "write one from 1ms to 1h0m0s"},
		{"lease short", one.WithLease(policy.MinLease - 1), "lease 9.999999ms: write one from 10ms to 1h0m0s"},
		{"lease long", one.WithLease(policy.MaxLease + 1), "write one from 10ms to 1h0m0s"},
		{"lease at the bounds", one.WithLease(policy.MinLease).WithLease(policy.MaxLease), ""},
		{"queue of a rate", policy.PerMinute(1).WithQueue(1, time.Second), "it has no queue: write Concurrency(n).WithQueue(length, wait)"},
		{"lease of a rate", policy.PerMinute(1).WithLease(time.Second), "it has no lease: write Concurrency(n).WithLease(d)"},
		{"burst", one.WithBurst(2), "it has no burst: write TokenBucket(n, per).WithBurst(b)"},
		{"refusals", one.CountRefused(), "write no CountRefused"},
		{"first fault told", policy.Concurrency(0).WithQueue(0, 0), "number 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := tc.limit.Validate()
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestOneQueueAtMost(t *testing.T) {
	t.Parallel()
	queue := policy.Charge{Limit: slots(1, 1), Scope: policy.NewScope("api", "exports"), Key: "a", Units: 1}
	plain, other, spelt := queue, queue, queue
	plain.Limit, plain.Key = slots(1, 0), "b"
	other.Key = "b"
	spelt.Partition = "a"
	require.NoError(t, policy.CheckCharges([]policy.Charge{queue, plain, queue, spelt}))
	require.ErrorContains(t, policy.CheckCharges([]policy.Charge{plain, queue, plain, other}),
		"charges 1 (api/exports) and 3 (api/exports) both have a queue")
}

func TestCheckSlot(t *testing.T) {
	t.Parallel()
	c := policy.Charge{Limit: slots(1, 0), Scope: policy.NewScope("api", "exports"), Units: 1}
	require.NoError(t, policy.CheckSlot(&c))
	c.Limit = policy.PerMinute(5)
	require.ErrorContains(t, policy.CheckSlot(&c), "charge of 5 per minute (api/exports): it has no slot")
	c.Limit = policy.Limit{}
	require.ErrorContains(t, policy.CheckSlot(&c), "zero Limit")
}

func TestQueuedBinds(t *testing.T) {
	t.Parallel()
	allowed := policy.Result{Verdict: policy.Allowed, Capacity: 9}
	queued := policy.Result{Verdict: policy.Queued, Capacity: 9, Remaining: 9}
	refused := policy.Result{Verdict: policy.Refused}
	require.True(t, queued.Tighter(allowed))
	require.False(t, allowed.Tighter(queued))
	require.True(t, refused.Tighter(queued))
	require.Equal(t, "queued", policy.Queued.String())
}

func ExampleConcurrency() {
	limit := policy.Concurrency(1).WithQueue(1, 30*time.Second)
	fmt.Println(limit)
	a, b, c := policy.NewTicket(), policy.NewTicket(), policy.NewTicket()
	state, r := limit.Enter(policy.State{}, noon, a)
	fmt.Println("a", r.Verdict)
	state, r = limit.Enter(state, noon, b)
	fmt.Println("b", r.Verdict, r.Queue)
	state, r = limit.Enter(state, noon, c)
	fmt.Println("c", r.Verdict)

	state, _ = limit.Leave(state, noon+1_000_000, a)
	_, r = limit.Renew(state, noon+1_000_000, b)
	fmt.Println("b", r.Verdict)
	// Output:
	// 1 at once, 1 waiting for 30s
	// a allowed
	// b queued 1
	// c refused
	// b allowed
}

func ExampleLimit_WithLease() {
	limit := policy.Concurrency(1).WithLease(10 * time.Second)
	a, b := policy.NewTicket(), policy.NewTicket()
	state, _ := limit.Enter(policy.State{}, noon, a) // and is not heard of again
	_, r := limit.Enter(state, noon+9_999_999, b)
	fmt.Println(r.Verdict)
	_, r = limit.Enter(state, noon+10_000_000, b)
	fmt.Println(r.Verdict)
	// Output:
	// refused
	// allowed
}
