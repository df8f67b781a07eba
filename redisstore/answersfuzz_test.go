package redisstore

import (
	"context"
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
)

// FuzzAnswers asks a store for all that it does, of a server that answers anything:
// values of any kind, numbers that make no sense, and errors that want to be
// followed. Whoever asks is back in time, with an error or with what can be.
func FuzzAnswers(f *testing.F) {
	for op := range uint8(12) {
		f.Add([]byte{op}, []byte{0, 3, 210, 1, 0, 1, 0})
		f.Add([]byte{op, op + 12, op}, []byte{0, 14, 210, 1, 0, 1, 0, 2, 0, 1, 0, 9, 0, 3, 7, 7, 7})
		f.Add([]byte{op, op}, []byte{0, 9, 210, 6, 0, 0, 0, 0, 0, 0, 0, 3, 1, 1, 3, 0, 60})
		for kind := range uint8(9) {
			f.Add([]byte{op, 0}, []byte{kind, 2, 210, 4, 9, 1, 1, 9, 2, 2})
		}
	}
	for i := range faults {
		op := []byte{0, 3, 5, 9}[i%4]
		f.Add([]byte{op, op}, []byte{uint8(9 + i), 0, 0, 3, 210, 1, 0})
	}
	f.Fuzz(func(t *testing.T, ops, answers []byte) {
		if len(ops) > 4 || len(answers) > 2000 {
			t.Skip()
		}
		var asked atomic.Int64
		var mu sync.Mutex
		s := offline(t, func(cmd redis.Cmder) (any, error) {
			if asked.Add(1) > 500 {
				t.Errorf("asked %d times", asked.Load())
			}
			mu.Lock()
			defer mu.Unlock()
			return scripted(&answers)
		})
		began := time.Now()
		const patient, most = 10 * time.Millisecond, 15 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), patient)
		defer cancel()
		for _, op := range ops {
			requireAnswered(ctx, t, s, op)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > most {
			t.Fatalf("after %v", took)
		}
	})
}

// faults are errors of the server that the store acts on.
var faults = []string{
	"MOVED 1 127.0.0.1:1", "MOVED", "MOVED 1 :1", "ASK 1 127.0.0.1:1", "ASK", "ASK 1 ", "TRYAGAIN Multiple keys", "CLUSTERDOWN Hash slot not served", "CROSSSLOT Keys", "LOADING",
	"READONLY You can't write", "BUSY Redis is busy", "NOSCRIPT No matching script", "OOM command not allowed", "ERR user_script:1: attempt", "WRONGTYPE", "NOAUTH", "MASTERDOWN", "", "ERR MOVED 1 127.0.0.1:1",
}

// scripted takes the next answer from the bytes of all: its kind, its length, and so
// many bytes. After the last one all is well that is not understood.
func scripted(answers *[]byte) (any, error) {
	if len(*answers) < 2 {
		*answers = nil
		return "", nil
	}
	kind, n := (*answers)[0], min(int((*answers)[1]), len(*answers)-2)
	text := (*answers)[2 : 2+n]
	*answers = (*answers)[2+n:]
	if kind >= 9 && int(kind) < 9+len(faults) {
		return nil, saidError(faults[kind-9] + string(text))
	}
	value, _ := arbitrary(kind, text, int(kind)/32)
	if err, ok := value.(error); ok {
		return nil, err
	}
	return value, nil
}

// requireAnswered asks for something, and requires an answer that can be.
func requireAnswered(ctx context.Context, t *testing.T, s *Store, op uint8) {
	t.Helper()
	var charges []policy.Charge
	for i := range 1 + int(op/12)%3 {
		l := callLimits[(int(op)/36+i)%len(callLimits)]
		charges = append(charges, policy.Charge{Scope: policy.NewScope("test", "rule"), Limit: l, Key: "alice", Units: 1})
	}
	slot := policy.Charge{Scope: policy.NewScope("test", "rule"), Limit: callLimits[4], Key: "alice", Units: 1}
	quota := policy.Charge{Scope: policy.NewScope("test", "rule"), Limit: callLimits[5], Key: "alice"}
	var d policy.Decision
	switch op % 12 {
	case 0, 1:
		if s.Take(ctx, policy.NewTicket(), charges, &d) == nil {
			requireDecision(t, charges, &d)
		}
	case 2:
		if s.Peek(ctx, charges, &d) == nil {
			requireDecision(t, charges, &d)
		}
	case 3:
		_ = s.Settle(ctx, policy.NewTicket(), []policy.Settlement{{Charge: charges[0], Total: 3}, {Charge: slot}})
	case 4:
		_ = s.Reset(ctx, charges)
	case 5:
		renewals := []policy.Renewal{{Ticket: policy.NewTicket(), Charge: slot}, {Ticket: policy.NewTicket(), Charge: slot}}
		err := s.Renew(ctx, renewals)
		for _, r := range renewals {
			require.LessOrEqual(t, r.Result.Verdict, policy.Refused)
			require.True(t, err != nil || r.Result.Verdict != policy.Unknown)
			require.GreaterOrEqual(t, r.Result.Used, int64(0))
		}
	case 6:
		usage, err := s.Usage(ctx, []policy.Charge{quota, quota})
		if err != nil {
			return
		}
		for _, u := range usage {
			require.GreaterOrEqual(t, u.Used, int64(0))
			require.GreaterOrEqual(t, u.Previous, int64(0))
			require.True(t, u.Start.Before(u.End))
		}
	case 7:
		_ = s.SetUsage(ctx, quota, 7)
	case 8:
		c := &Counter{Store: s, Name: "test", Budget: 20 * time.Millisecond}
		c.Config(10, time.Minute)
		now, before, err := c.Get("alice", time.Unix(60, 0), time.Unix(0, 0))
		if err == nil {
			require.GreaterOrEqual(t, now, 0)
			require.GreaterOrEqual(t, before, 0)
		}
		_ = c.IncrementBy("alice", time.Unix(60, 0), 3)
	case 9:
		f, err := s.scale(ctx, "load")
		if err == nil {
			require.NoError(t, policy.CheckFactor("load", f))
		}
	case 10:
		n, err := s.beat(ctx, "stint{%instances-api}", policy.NewTicket(), silence)
		if err == nil {
			h := heart{}
			h.count(n)
			require.GreaterOrEqual(t, h.instances(), 0)
		}
	case 11:
		known := s.TakeKnown(ctx, policy.NewTicket(), charges, &d)
		if known == nil {
			requireDecision(t, charges, &d)
		}
	}
}

// FuzzScaleValue reads any reply for that of a shared factor: it is one that a store
// wrote, whole if there is none, or an error. So is a value of another version.
func FuzzScaleValue(f *testing.F) {
	for _, text := range []string{"1 500000", "1 1000000", "1 1", "1 0", "1 -5", "2 500000", "0.5", "", "1 ", "1 5e5", "1 +5", "1 0005", "1 500000\n", "1  5", "1 99999999999999999999", "nil"} {
		for kind := range uint8(8) {
			f.Add(kind, text, int64(90_000))
		}
		f.Add(uint8(0), text, int64(-1))
		f.Add(uint8(0), text, int64(0))
		f.Add(uint8(0), text, int64(math.MaxInt64))
	}
	var reply any
	var fault error
	s := offline(f, func(redis.Cmder) (any, error) { return reply, fault })
	defer s.Close()
	f.Fuzz(func(t *testing.T, kind uint8, text string, left int64) {
		fault = nil
		reply = []any{text, left}
		switch kind % 8 {
		case 1:
			reply = []any{nil, left}
		case 2:
			reply = []any{text}
		case 3:
			reply = []any{left, text}
		case 4:
			reply = text
		case 5:
			fault = saidError(text)
		case 6:
			reply = []any{[]any{text}, []any{left}}
		case 7:
			reply = []any{text, left, nil}
		}
		got, err := s.scale(t.Context(), "load")
		switch {
		case kind%8 == 1:
			require.NoError(t, err)
			require.Equal(t, policy.Factor{Millionths: policy.Whole}, got)
		case kind%8 > 1, left < 0:
			require.Error(t, err)
		case err != nil:
			var n int64
			var rest string
			if text[:min(2, len(text))] == "1 " {
				n, rest = naiveNumber(text[2:])
			}
			require.False(t, rest == "" && n >= 1 && n <= policy.Whole && left < policy.MaxScale.Milliseconds(), "%v", err)
		default:
			require.Equal(t, "1 ", text[:2])
			n, rest := naiveNumber(text[2:])
			require.Empty(t, rest, "%q", text)
			require.Equal(t, n, got.Millionths)
			require.NoError(t, policy.CheckFactor("load", got))
			require.Equal(t, time.Duration(max(left, 1))*time.Millisecond, got.Left)
		}
	})
}

// naiveNumber reads decimal digits, up to ten million, and returns what is behind.
func naiveNumber(s string) (n int64, rest string) {
	for s != "" && s[0] >= '0' && s[0] <= '9' && n < 10_000_000 {
		n, s = 10*n+int64(s[0]-'0'), s[1:]
	}
	return n, s
}

// FuzzWake publishes anything to those who wait: a ticket wakes its own waiters on
// its channel, and nobody else; what is no ticket, or the begin of a subscription,
// wakes all of the channel.
func FuzzWake(f *testing.F) {
	tickets := [3]policy.Ticket{}
	for i := range tickets {
		binary.BigEndian.PutUint64(tickets[i][8:], uint64(i))
		f.Add(uint8(0), "stint{a}|slots=1", tickets[i][:])
		f.Add(uint8(1), "stint{b}|slots=1", tickets[i][:])
		f.Add(uint8(2), "stint{a}|slots=1", tickets[i][:15])
	}
	f.Add(uint8(0), "stint{a}|slots=1", []byte{})
	f.Add(uint8(0), "", []byte("x"))
	f.Add(uint8(3), "stint{a}|slots=1", []byte("subscribe"))
	f.Add(uint8(4), "stint{a}|slots=1", []byte("unsubscribe"))
	f.Fuzz(func(t *testing.T, kind uint8, channel string, payload []byte) {
		s := &Store{}
		s.closed.Store(true) // so that nothing listens
		l := &listener{store: s, changed: make(chan struct{}, 1), topics: map[string]*topic{}}
		var waiters []*waiter
		for _, c := range []string{"stint{a}|slots=1", "stint{b}|slots=1"} {
			for _, ticket := range tickets {
				waiters = append(waiters, l.join(c, ticket))
			}
			waiters = append(waiters, l.join(c, tickets[0])) // the same from elsewhere
		}
		gone := l.join("stint{a}|slots=1", tickets[2])
		l.leave(gone)
		subscribed := false
		switch kind % 6 {
		case 0, 1, 2:
			l.hear(&redis.Message{Channel: channel, Payload: string(payload)})
		case 3:
			subscribed = string(payload) == "subscribe"
			l.hear(&redis.Subscription{Kind: string(payload), Channel: channel})
		case 4:
			l.hear(&redis.Pong{Payload: string(payload)})
		case 5:
			l.hear(string(payload))
		}
		for _, w := range waiters {
			want := subscribed && w.channel == channel
			if kind%6 <= 2 && w.channel == channel {
				want = len(payload) != len(w.ticket) || string(payload) == string(w.ticket[:])
			}
			require.Equal(t, want, len(w.rung) == 1, "%q %x", w.channel, w.ticket)
			l.leave(w)
		}
		require.Empty(t, gone.rung)
		require.Empty(t, l.topics)
	})
}
