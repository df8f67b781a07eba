package redisstore

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore/redistest"
)

// Slots in Redis do what the pure transitions do, operation by operation, alone
// and in groups, whatever the numbers of each request.
func TestSlotsEqualTheTransitions(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	space := 0
	rapid.Check(t, func(t *rapid.T) {
		space++
		m := &slotsModel{T: t, now: time.UnixMicro(1_800_000_000_000_000)}
		m.tickets = rapid.SampledFrom([]int{9, 9, 30}).Draw(t, "tickets") // 30 do not fit into the value
		m.wide = m.tickets > 9 && rapid.Bool().Draw(t, "wide")
		m.store = Options{Namespace: fmt.Sprint("space", space), Now: func() time.Time { return m.now }}.New(rdb)
		defer m.store.Close()
		for range rapid.IntRange(1, 40).Draw(t, "groups") {
			if rapid.IntRange(0, 3).Draw(t, "step") == 0 {
				m.step()
			}
			var checks []func()
			f := flightPool.Get().(*flight)
			operations := rapid.SampledFrom([]int{1, 1, 1, 2, 5, 12}).Draw(t, "operations")
			for range operations {
				call, check := m.operation()
				// One that is sent again comes after the others.
				call.keyed = operations > 1 || rapid.Bool().Draw(t, "keyed")
				call.deadline = time.Now().Add(time.Minute)
				f.calls, checks = append(f.calls, call), append(checks, check)
			}
			m.store.route.Load().single.carry(f)
			for i, check := range checks {
				<-f.calls[i].done
				check()
			}
		}
	})
}

type slotsModel struct {
	*rapid.T
	store *Store
	now   time.Time
	state policy.State

	tickets int
	wide    bool // there are many slots
}

// step moves the clock, often to the very end of a lease or just before, and
// sometimes back.
func (m *slotsModel) step() {
	at := m.now.UnixMicro()
	if rapid.IntRange(0, 3).Draw(m.T, "back") == 0 { // but not to before the state had drained
		back := rapid.Int64Range(1, 999_999).Draw(m.T, "back by")
		if m.state.Until <= at {
			back = min(back, max(0, at-max(m.state.Until, m.state.At)))
		}
		m.now = time.UnixMicro(at - back)
		return
	}
	step := rapid.SampledFrom([]int64{1, 1000, 100_000, 299_999, 300_000, 999_999, 1_000_000, 9_000_000}).Draw(m.T, "by")
	var ends []int64
	for _, l := range m.state.Leases {
		if l.Until > at {
			ends = append(ends, l.Until-at)
		}
	}
	if len(ends) > 0 && rapid.Bool().Draw(m.T, "to the end of a lease") {
		step = rapid.SampledFrom(ends).Draw(m.T, "which") - rapid.Int64Range(0, 1).Draw(m.T, "less")
	}
	m.now = m.now.Add(time.Duration(step) * time.Microsecond)
}

// operation returns a call, and the check that it was told what the transition
// said.
func (m *slotsModel) operation() (*call, func()) {
	n := rapid.SampledFrom([]int64{2, 2, 2, 2, 1, 3}).Draw(m.T, "n")
	if m.wide {
		n += 13
	}
	l := policy.Concurrency(n).
		WithLease(rapid.SampledFrom([]time.Duration{time.Second, time.Second, 300 * time.Millisecond, 299_999 * time.Microsecond}).Draw(m.T, "lease"))
	if q := rapid.SampledFrom([]int64{3, 3, 5, 40, 1, 0}).Draw(m.T, "queue"); q > 0 {
		l = l.WithQueue(q, time.Minute)
	}
	var ticket policy.Ticket
	for i := range ticket {
		ticket[i] = 255 // all bits matter
	}
	ticket[rapid.SampledFrom([]int{0, 0, 0, 0, 7, 15}).Draw(m.T, "byte")] = byte(rapid.IntRange(1, m.tickets).Draw(m.T, "ticket"))
	charge := policy.Charge{Limit: l, Key: "alice", Units: 1}
	at := m.now.UnixMicro()
	p := getPlan(m.store.route.Load())
	before := m.state
	before.Leases = slices.Clone(m.state.Leases)
	after := before
	after.Leases = slices.Clone(m.state.Leases)
	compare := func(what string, kind int64, want policy.Result, i int) func() {
		return func() {
			c := p.calls[0]
			require.NoError(m.T, c.err, what)
			verdict := policy.Verdict(c.status)
			require.Equal(m.T, want, c.result(i, &charge, verdict, kind == kindTake), what)
			if len(c.items) == 1 {
				require.Equal(m.T, want.Verdict, verdict, what)
			}
		}
	}
	var check func()
	switch op := rapid.IntRange(0, 12).Draw(m.T, "operation"); op {
	case 0, 1, 2, 3, 4:
		var want policy.Result
		m.state, want = l.Enter(after, at, ticket)
		p.add(m.store, kindTake, ticket, &charge)
		check = compare("enter", kindTake, want, 0)
	case 5: // another limit refuses
		ticket[0] = 100
		p.add(m.store, kindTake, ticket, &charge)
		p.add(m.store, kindTake, ticket, &policy.Charge{Limit: policy.PerMinute(1), Key: "alice", Units: 2})
		check = compare("enter in vain", kindTake, l.Peek(before, at, 1), 0)
	case 6:
		charge.Units = rapid.Int64Range(0, 2).Draw(m.T, "units")
		p.add(m.store, kindPeek, ticket, &charge)
		check = compare("peek", kindPeek, l.Peek(before, at, charge.Units), 0)
	case 7, 8, 9:
		tickets := []policy.Ticket{ticket}
		if op == 9 {
			tickets = make([]policy.Ticket, m.tickets+1)
			for i := range tickets {
				tickets[i] = ticket
				tickets[i][0] = byte(i)
			}
		}
		m.state = after
		rs := []*renewing{{call: newCall()}}
		rs[0].call.kind, rs[0].call.route = kindRenew, p.route
		renewals, wants := make([]policy.Renewal, len(tickets)), make([]policy.Result, len(tickets))
		for i, ticket := range tickets {
			m.state, wants[i] = l.Renew(m.state, at, ticket)
			renewals[i] = policy.Renewal{Ticket: ticket, Charge: charge}
			rs[0].call.add(m.store, "alice", &charge).ticket = ticket
			rs[0].of = append(rs[0].of, i)
		}
		p.calls = append(p.calls, rs[0].call)
		check = func() {
			require.NoError(m.T, m.store.tell(rs[0], renewals, nil))
			for i := range wants {
				require.Equal(m.T, wants[i], renewals[i].Result, "renew")
			}
		}
	case 10, 11:
		m.state, _ = l.Leave(after, at, ticket)
		p.add(m.store, kindSettle, ticket, &charge)
		check = func() { require.NoError(m.T, p.calls[0].err) }
	case 12:
		if rapid.IntRange(0, 9).Draw(m.T, "reset") == 0 {
			m.state = policy.State{}
			p.add(m.store, kindReset, ticket, &charge)
		} else {
			p.add(m.store, kindPeek, ticket, &charge)
		}
		check = func() { require.NoError(m.T, p.calls[0].err) }
	}
	return p.calls[0], check
}

// A take without the key of its leases is decided as any other where a request of its
// group has opened them, or where the limit was larger.
func TestTakesWithoutTheKeyOfLeases(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	ticket := func(i int) policy.Ticket { return policy.Ticket{byte(i)} }
	for name, more := range map[string]int64{"few": 0, "many": 1} {
		t.Run(name, func(t *testing.T) {
			s := Options{Namespace: name}.New(rdb)
			defer s.Close()
			small := policy.Charge{Limit: policy.Concurrency(fewLeases), Key: "alice", Units: 1}
			large := policy.Charge{Limit: policy.Concurrency(fewLeases + more), Key: "alice", Units: 1}
			var d policy.Decision
			for i := range fewLeases {
				require.NoError(t, s.Take(t.Context(), ticket(i), []policy.Charge{small}, &d))
				require.Equal(t, policy.Allowed, d.Verdict, i)
			}
			f := flightPool.Get().(*flight)
			add := func(kind int64, i int, c policy.Charge) *call {
				p := getPlan(s.route.Load())
				p.add(s, kind, ticket(i), &c).ticket = ticket(i)
				call := p.calls[0]
				call.deadline = time.Now().Add(time.Minute)
				f.calls = append(f.calls, call)
				return call
			}
			add(kindRenew, 0, large)
			if more == 0 {
				for i := range fewLeases {
					add(kindSettle, i, large)
				}
			} else {
				add(kindTake, fewLeases, large)
			}
			last := add(kindTake, fewLeases+1, small)
			calls := slices.Clone(f.calls)
			s.route.Load().single.carry(f)
			for _, c := range calls {
				<-c.done
				require.NoError(t, c.err)
			}
			require.Equal(t, more == 0, last.status == statusAllowed)
			require.True(t, last.keyed)

			one := small
			one.Limit = policy.Concurrency(1)
			require.NoError(t, s.Take(t.Context(), ticket(100), []policy.Charge{one}, &d))
			require.Equal(t, policy.Refused, d.Verdict)
			held := int64(1)
			if more > 0 {
				held = fewLeases + more
			}
			require.Equal(t, held, d.Results[0].Used)
		})
	}
}
