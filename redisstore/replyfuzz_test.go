package redisstore

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
)

// FuzzReply has a group of callers told anything in place of the script's reply.
// Each gets what the reply says of its own request, by a second reading of the
// script's description, or an error: from where that makes no sense on, all do.
func FuzzReply(f *testing.F) {
	now := []byte{210, 1}
	for _, seed := range []struct{ callers, text []byte }{
		{[]byte{0, 0, 0}, []byte{1, 0, 1, 0, 1, 0, 2, 0, 1, 0, 3, 0}},
		{[]byte{0, 8, 16}, []byte{3, 3, 0, 5, 0, 60, 1, 0, 4, 0, 5, 1, 0, 0, 0, 0}},
		{[]byte{1, 1}, []byte{1, 1, 0, 1, 0, 9, 3, 3, 0, 1, 0, 9}},
		{[]byte{2, 3, 4}, []byte{1, 5, 1, 1, 0, 1, 0, 60}},
		{[]byte{4 + 32, 4}, []byte{1, 5, 0, 0, 0, 0, 2, 0, 1, 1, 9, 1, 3, 0, 0, 0, 0}},
		{[]byte{5}, []byte{1, 48, 201, 48, 48}}, {[]byte{5}, []byte{1, 48, 1, 48, 201}},
		{[]byte{5, 6, 5}, []byte{1, 0, 7, 210, 3, 0, 5, 1, 0, 0, 0, 0}},
		{[]byte{72, 72, 72}, []byte{0, 1, 0, 1, 0, 2, 3, 0, 3, 4, 3, 3, 0, 5, 1, 60}},
		{[]byte{72, 72}, []byte{0, 201, 0, 1, 0, 1, 0, 0, 1, 0}}, {[]byte{72, 72}, []byte{203, 1, 0, 1, 0, 1, 0, 0, 1, 0}}, {[]byte{72, 72}, []byte{0, 1, 206, 1, 0, 1, 0, 0, 1, 0}},
		{[]byte{40, 0}, []byte{6, 0, 1, 0, 1, 0}},
		{[]byte{32, 32}, []byte{1, 0, 1, 0, 2, 0, 1, 201, 0}},
		{[]byte{0, 0}, []byte{0, 0, 1, 0, 1, 0, 1, 0}},
		{[]byte{0, 0}, []byte{7, 0, 1, 0, 1, 0, 1, 0}},
		{[]byte{1}, []byte{1, 9, 0, 1, 0, 1}},
		{[]byte{0, 0}, []byte{1, 0, 200, 0, 1, 0, 1, 0}},
		{[]byte{0, 0}, []byte{1, 0, 202, 0}}, {[]byte{0, 0}, []byte{1, 0, 203, 0}}, {[]byte{0, 0}, []byte{1, 0, 204, 0}}, {[]byte{0}, []byte{1, 0, 205, 0}}, {[]byte{0, 0}, []byte{1}}, {[]byte{0}, nil},
	} {
		f.Add(seed.callers, uint8(0), append(now[:2:2], seed.text...), uint8(0))
		f.Add(seed.callers, uint8(0), append(now[:2:2], seed.text...), uint8(3))
		for kind := range uint8(9) {
			f.Add(seed.callers, kind, seed.text, uint8(0))
		}
	}
	f.Add([]byte("X "), uint8(0), []byte("0\x0200\xc90"), uint8(3))                                        // a count before the window's of less than none
	f.Add([]byte{64, 64, 65}, uint8(0), []byte{210, 7, 1, 0, 1, 0, 60, 1, 4, 2, 1, 0, 1, 60, 3}, uint8(0)) // keys asked for
	f.Add([]byte{64 + 32, 64, 2}, uint8(0), []byte{210, 7, 7}, uint8(0))                                   // and by who has no slots, or a queue
	store := offline(f, nil)
	require.NoError(f, store.Close()) // so that nothing is sent again
	l := store.route.Load().single
	f.Fuzz(func(t *testing.T, callers []byte, kind uint8, text []byte, cut uint8) {
		if len(callers) > 40 || len(text) > 4000 {
			t.Skip()
		}
		value, said := arbitrary(kind, text, int(cut))
		cmd := &command{Cmd: redis.NewCmd(context.Background(), "evalsha")}
		cmd.SetVal(value)
		if err, ok := value.(error); ok {
			cmd.SetVal(nil)
			cmd.SetErr(err)
		}
		var calls []*call
		for i, of := range callers {
			calls = append(calls, callOf(store, of, i))
		}
		l.answer(calls, cmd, nil)

		if _, ok := value.(string); !ok {
			said = nil
		}
		at, ok := said.next()
		for _, c := range calls {
			select {
			case <-c.done:
			default:
				t.Fatal("a caller was not told")
			}
			var want []answer
			status := int64(0)
			if ok {
				status, want, ok = said.of(c, at)
			}
			switch {
			case !ok:
				require.ErrorIs(t, c.err, errReply)
			case status == statusForeign:
				require.ErrorIs(t, c.err, policy.ErrKey)
			case status == statusPeriods, status == statusLeases:
				require.ErrorIs(t, c.err, policy.ErrClosed, "it is sent again, and would be")
			default:
				require.NoError(t, c.err)
				require.Equal(t, status, c.status)
				require.Equal(t, at, c.now)
				if want != nil {
					require.Equal(t, want, c.answers)
				}
				requireSane(t, store, c)
			}
		}
	})
}

// offline is a store whose client's commands are answered by a function, without a
// server; without a function they all fail.
func offline(tb testing.TB, answer func(cmd redis.Cmder) (any, error)) *Store {
	tb.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			conn, other := net.Pipe()
			return conn, other.Close()
		},
	})
	if answer != nil {
		client.AddHook(answerer(answer))
	}
	tb.Cleanup(func() { _ = client.Close() })
	s := Options{Timeout: 10 * time.Millisecond}.New(client)
	s.route.Load().single.client = client // with its hooks, of which go-redis gives WithTimeout none
	return s
}

// An answerer stands for a server.
type answerer func(cmd redis.Cmder) (any, error)

func (a answerer) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a answerer) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error { return a.tell(cmd) }
}

func (a answerer) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) (err error) {
		for _, cmd := range cmds {
			err = errors.Join(err, a.tell(cmd))
		}
		return err
	}
}

func (a answerer) tell(cmd redis.Cmder) error {
	value, err := a(cmd)
	if err != nil {
		cmd.SetErr(err)
		return err
	}
	cmd.(interface{ SetVal(any) }).SetVal(value)
	return nil
}

// A saidError is one of the server's.
type saidError string

func (e saidError) Error() string { return string(e) }
func (saidError) RedisError()     {}

// arbitrary is a reply of any kind, and the numbers in it if there are some.
func arbitrary(kind uint8, text []byte, cut int) (value any, said saying) {
	packed := []byte{}
	for i := 0; i < len(text); i++ {
		v, b := 0.0, text[i]
		switch b {
		case 200:
			v = math.NaN()
		case 201:
			v = -1
		case 202:
			v = math.Inf(1)
		case 203:
			v = 1e300
		case 204:
			v = 1 << 53
		case 205:
			v = 0.5
		case 206:
			v = -(1<<53 + 2)
		case 207: // any bits
			var bits [8]byte
			i += copy(bits[:], text[i+1:])
			v = math.Float64frombits(binary.LittleEndian.Uint64(bits[:]))
		case 208:
			v = math.Copysign(0, -1)
		case 209:
			v = 1 << 50
		case 210:
			v = 1768213860_000000
		default:
			v = float64(b)
		}
		packed = binary.LittleEndian.AppendUint64(packed, math.Float64bits(v))
	}
	if kind%9 == 1 {
		packed = text
	}
	packed = packed[:max(0, len(packed)-cut)]
	for b := packed; len(b) >= 8; b = b[8:] {
		said = append(said, math.Float64frombits(binary.LittleEndian.Uint64(b)))
	}
	switch kind % 9 {
	case 2:
		return nil, nil
	case 3:
		return int64(len(text)) << 55, nil
	case 4:
		return []any{string(packed), nil, []any{[]any{}, int64(1)}}, nil
	case 5:
		return redis.Nil, nil
	case 6:
		return saidError(text), nil
	case 7:
		return map[any]any{string(text): true}, nil
	case 8:
		return math.Inf(-1), nil
	}
	return string(packed), said
}

// A saying is what is left of the numbers of a reply.
type saying []float64

// next is the next number, if it is one that the script can say.
func (s *saying) next() (int64, bool) {
	if len(*s) == 0 {
		return 0, false
	}
	v := (*s)[0]
	*s = (*s)[1:]
	return int64(v), v == math.Floor(v) && math.Abs(v) <= 1<<53
}

// of reads what is said of a call, as the script's text describes it.
func (s *saying) of(c *call, now int64) (status int64, answers []answer, ok bool) {
	if status, ok = s.next(); !ok {
		return 0, nil, false
	}
	wide, some := 0, true
	switch c.kind {
	case kindTake:
		ok = status >= 1 && status <= 6 && status != 4
		wide = 5
	case kindPeek:
		ok = status >= 1 && status <= 5 && status != 4
		wide = 5
	case kindSettle, kindSetUsage:
		ok = status == 1 || status == 5 || status == 6
		some = false
	case kindReset, kindUsage:
		ok = status == 1 || status == 5
		some, wide = c.kind == kindUsage, 4
	case kindRenew:
		ok = status == 1
		wide = 5
	}
	if status == 7 { // it asks for keys that did not come
		few := func(it item) bool { return it.slots() && it.limit.n <= 16 && it.limit.capacity == 0 }
		ok = (c.kind == kindTake || c.kind == kindPeek) && slices.ContainsFunc(c.items, few)
	}
	if !ok || status == 5 || status == 7 {
		return status, nil, ok
	}
	for i := range c.items {
		it := &c.items[i]
		n := wide
		taken := c.kind == kindTake && status <= 2 && (it.units > 0 || it.slots() || it.log())
		if taken {
			n = 3
		}
		if status == 6 {
			n = 1
		}
		if n == wide && !some {
			continue
		}
		var v [5]int64
		for j := range n {
			if v[j], ok = s.next(); !ok {
				return status, nil, false
			}
		}
		a := answer{at: now + v[0], a: v[1], b: v[2], left: v[3]}
		switch {
		case status == 6:
			continue
		case c.kind == kindUsage:
		case taken:
			a.verdict = 1
			if it.slots() && a.b < 0 {
				a.verdict, a.b = 2, -a.b
			}
		default:
			a = answer{v[0], now + v[1], v[2], v[3], v[4]}
			if a.verdict < 1 || a.verdict > 5 || a.verdict == 5 && c.kind != kindRenew {
				return status, nil, false
			}
		}
		if a.a < 0 || a.b < 0 && c.kind != kindUsage && !it.slots() && !it.log() || a.left < 0 && c.kind == kindUsage {
			return status, nil, false
		}
		answers = append(answers, a)
	}
	return status, answers, true
}

var callLimits = []policy.Limit{
	policy.FixedWindow(5, time.Hour), policy.TokenBucket(10, time.Second), policy.SlidingLog(3, time.Minute), policy.SlidingWindow(7, time.Minute),
	policy.Concurrency(2).WithQueue(3, time.Minute), policy.Quota(9, policy.Monthly), policy.Lockout(3, time.Minute, time.Hour), policy.FixedWindow(5, time.Minute).CountRefused(),
	policy.Concurrency(4), // its takes come without the key of its leases
}

// callOf makes a call of a byte: of which kind, with which limits, for how many.
func callOf(s *Store, of byte, i int) *call {
	c := newCall()
	c.route = s.route.Load()
	c.kind = int64(of%8) + 1
	if c.kind > kindSetUsage {
		c.kind = kindTake
	}
	first := int(of / 8)
	for n := range 1 + i%2 {
		l := callLimits[(first+n)%len(callLimits)]
		switch c.kind {
		case kindRenew:
			l = callLimits[4]
		case kindUsage, kindSetUsage:
			l = callLimits[5]
		}
		charge := policy.Charge{Scope: policy.NewScope("test", strconv.Itoa(n)), Limit: l, Key: strconv.Itoa(i), Units: int64(of / 64)}
		c.add(s, escape(charge.Key), &charge)
		if c.kind == kindSetUsage {
			break
		}
	}
	return c
}

// requireSane has an answered call tell its caller, who is told nothing that cannot
// be.
func requireSane(t *testing.T, s *Store, c *call) {
	t.Helper()
	if c.kind > kindPeek {
		return
	}
	charges := make([]policy.Charge, len(c.items))
	p := &plan{calls: []*call{c}, route: c.route}
	for i := range c.items {
		it := &c.items[i]
		it.first = i
		for _, l := range callLimits {
			if int64(l.Algorithm()) == it.limit.algorithm && l.N() == it.limit.n && (it.limit.periods != nil || it.slots() || l.Window().Microseconds() == it.limit.window) {
				charges[i] = policy.Charge{Limit: l, Units: it.units}
			}
		}
		require.NotZero(t, charges[i].Limit)
		p.where = append(p.where, place{0, i})
	}
	var d policy.Decision
	d.Reset(len(charges))
	s.conclude(context.Background(), p, c.kind, charges, &d)
	requireDecision(t, charges, &d)
}

// requireDecision requires of a decision what holds of all.
func requireDecision(t *testing.T, charges []policy.Charge, d *policy.Decision) {
	t.Helper()
	require.Contains(t, []policy.Verdict{policy.Allowed, policy.Queued, policy.Refused}, d.Verdict)
	for i, r := range d.Results {
		require.Contains(t, []policy.Verdict{policy.Allowed, policy.Queued, policy.Refused, policy.Never}, r.Verdict)
		require.GreaterOrEqual(t, r.Used, int64(0))
		require.GreaterOrEqual(t, r.Remaining, int64(0))
		require.LessOrEqual(t, r.Remaining, r.Capacity)
		require.GreaterOrEqual(t, r.RetryAfter, time.Duration(0))
		require.GreaterOrEqual(t, r.ResetAfter, time.Duration(0))
		require.GreaterOrEqual(t, r.NextAfter, time.Duration(0))
		require.Equal(t, charges[i].Limit.N(), r.Limit)
	}
}
