package redisstore

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stint-go/stint/policy"
)

var _ policy.Instances = (*Store)(nil)

const (
	// heartbeat is how often an instance is heard of, and silence how long one that
	// is not counts on. The server's clock measures it.
	heartbeat = time.Second
	silence   = 5 * time.Second

	// remembered is how long a larger number is remembered at least: a server that
	// came back empty hears of all instances only after a while.
	remembered = 10 * time.Second
)

// attendance has the hearts of a store, by the key that they beat on.
type attendance struct {
	mu     sync.Mutex
	hearts map[string]*heart
}

// A heart makes this process count, while somebody attends.
type heart struct {
	instance policy.Ticket
	attend   int // how many do
	stop     context.CancelFunc
	stopped  chan struct{}

	mu           sync.Mutex
	last, before int // the largest numbers counted, lately and before that
	turned       time.Time
}

// Attend implements [policy.Instances]. Whoever attends under one name in a process is
// one instance. Each heartbeat, one a second, is a small script call; the instances are
// the members of a sorted set, stint{%instances-api}, by when they cease to count. One
// that leaves does so at once, and one that has died after five seconds.
func (s *Store) Attend(name string) (instances func() int, leave func()) {
	key := s.namespace + "{%instances-" + escape(name) + "}"
	a := &s.attendance
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.hearts[key]
	if h == nil {
		if !s.begin() {
			return func() int { return 0 }, func() {}
		}
		h = &heart{instance: policy.NewTicket(), stopped: make(chan struct{})}
		ctx, stop := context.WithCancel(s.life)
		h.stop = stop
		if a.hearts == nil {
			a.hearts = map[string]*heart{}
		}
		a.hearts[key] = h
		go func() {
			defer s.flights.Done()
			defer close(h.stopped)
			s.beatOn(ctx, key, h)
		}()
	}
	h.attend++
	return h.instances, sync.OnceFunc(func() { s.leave(key, h) })
}

// leave ends an attendance, and the heart with the last.
func (s *Store) leave(key string, h *heart) {
	a := &s.attendance
	a.mu.Lock()
	h.attend--
	last := h.attend == 0
	if last {
		delete(a.hearts, key)
	}
	a.mu.Unlock()
	if last {
		h.stop()
		<-h.stopped
	}
}

// beatOn beats until the context ends.
func (s *Store) beatOn(ctx context.Context, key string, h *heart) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			if s.life.Err() == nil { // after Close the client may be gone
				_, _ = s.beat(context.WithoutCancel(ctx), key, h.instance, 0)
			}
			return
		case <-timer.C:
		}
		if n, err := s.beat(ctx, key, h.instance, silence); err == nil {
			h.count(n)
		}
		timer.Reset(jittered(heartbeat))
	}
}

// The script beating tells that an instance counts for so many milliseconds more, or by
// 0 that it has left, and answers how many there are.
const beating = `local now = tonumber(ARGV[3])
if now == 0 then
	local t = redis.call('TIME')
	now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local silence = tonumber(ARGV[2])
if silence > 0 then
	redis.call('ZADD', KEYS[1], now + silence, ARGV[1])
	redis.call('PEXPIRE', KEYS[1], 2 * silence)
else
	redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
return redis.call('ZCARD', KEYS[1])`

// beat sends a heartbeat, and returns how many instances there are.
func (s *Store) beat(ctx context.Context, key string, instance policy.Ticket, silence time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var now int64
	if s.now != nil {
		now = s.now().UnixMilli()
	}
	r := s.route.Load()
	client, err := r.doer(ctx, key)
	if err != nil {
		return 0, err
	}
	cmd := &command{Cmd: redis.NewCmd(ctx, "eval", beating, 1, key, instance.String(), silence.Milliseconds(), now)}
	if err := client.Process(ctx, cmd); err != nil {
		if r.cluster != nil {
			r.cluster.ReloadState(context.Background())
		}
		return 0, err
	}
	return cmd.Int()
}

// doer returns the client of the server that a key is on.
func (r *route) doer(ctx context.Context, key string) (doer, error) {
	if r.single != nil {
		return r.single.client, nil
	}
	locate := func() (*redis.Client, error) { return r.cluster.MasterForKey(ctx, key) }
	if r.ring != nil {
		locate = func() (*redis.Client, error) { return r.ring.GetShardClientForKey(key) }
	}
	client, err := locate()
	if err != nil {
		return nil, err
	}
	return r.lane(client).client, nil
}

// count remembers a number, and the largest of the last ten to twenty seconds.
func (h *heart) count(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); now.Sub(h.turned) > remembered {
		h.before, h.last, h.turned = h.last, 0, now
	}
	h.last = max(h.last, n)
}

func (h *heart) instances() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(h.last, h.before)
}
