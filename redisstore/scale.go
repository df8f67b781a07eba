package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stint-go/stint/policy"
)

var _ policy.Scaler = (*Store)(nil)

// A factor lives in a key of its own, as long as it holds: "1 500000" is one half,
// in the first version of this format.
const scaleFormat = "1 "

// watchEvery is how often a factor is looked at: so that every process has seen a
// change within a second, with time for one look to fail.
const watchEvery = 400 * time.Millisecond

// readScale reads a factor and how long it holds, at one instant.
const readScale = "return {redis.call('GET',KEYS[1]),redis.call('PTTL',KEYS[1])}"

// SetScale implements [policy.Scaler]. It goes on trying while the context lasts,
// ten seconds at most, since to set a factor again does no harm.
func (s *Store) SetScale(ctx context.Context, name string, f policy.Factor) error {
	if err := policy.CheckFactor(name, f); err != nil {
		return err
	}
	if !s.begin() {
		return policy.ErrClosed
	}
	defer s.flights.Done()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer s.scaleTurn.Add(1)
	end := time.Now().Add(f.Left)
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, watchEvery) {
		args := []any{"del", s.scaleKey(name)}
		if f.Millionths < policy.Whole {
			left := max(time.Until(end).Milliseconds(), 1)
			args = []any{"set", s.scaleKey(name), scaleFormat + strconv.FormatInt(f.Millionths, 10), "px", left}
		}
		_, err := s.onScale(ctx, name, args...)
		switch {
		case err == nil:
			return nil
		case s.life.Err() != nil:
			return policy.ErrClosed
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		case <-s.life.Done():
			return policy.ErrClosed
		}
	}
}

// WatchScale implements [policy.Scaler]. It looks at the factor a few times a
// second, with one small call, and tells what it sees. A look that fails tells
// nothing.
func (s *Store) WatchScale(name string, tell func(policy.Factor)) (stop func(), err error) {
	if err := policy.CheckFactor(name, policy.Factor{Millionths: policy.Whole}); err != nil {
		return nil, err
	}
	if !s.begin() {
		return nil, policy.ErrClosed
	}
	ctx, cancel := context.WithCancel(s.life)
	var watch sync.WaitGroup
	watch.Go(func() {
		defer s.flights.Done()
		for {
			turn := s.scaleTurn.Load()
			f, err := s.scale(ctx, name)
			if err == nil && turn == s.scaleTurn.Load() && ctx.Err() == nil {
				tell(f)
			}
			select {
			case <-time.After(watchEvery - rand.N(watchEvery/4)):
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		watch.Wait()
	}, nil
}

// scale reads a factor.
func (s *Store) scale(ctx context.Context, name string) (policy.Factor, error) {
	reply, err := s.onScale(ctx, name, "eval", readScale, 1, s.scaleKey(name))
	if err != nil {
		return policy.Factor{}, err
	}
	fields, ok := reply.([]any)
	if !ok || len(fields) != 2 {
		return policy.Factor{}, errReply
	}
	if fields[0] == nil {
		return policy.Factor{Millionths: policy.Whole}, nil
	}
	text, _ := fields[0].(string)
	left, _ := fields[1].(int64)
	millionths, err := strconv.ParseUint(strings.TrimPrefix(text, scaleFormat), 10, 63)
	f := policy.Factor{Millionths: int64(millionths), Left: time.Duration(max(left, 1)) * time.Millisecond}
	if err != nil || !strings.HasPrefix(text, scaleFormat) || left < 0 || policy.CheckFactor(name, f) != nil {
		return policy.Factor{}, fmt.Errorf("redisstore: %s holds something that is not stint's, or of another version", s.scaleKey(name))
	}
	return f, nil
}

// onScale sends a command to where the factor of a name lives.
func (s *Store) onScale(ctx context.Context, name string, args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	r, key := s.route.Load(), s.scaleKey(name)
	l := r.single
	switch {
	case r.cluster != nil:
		client, err := r.cluster.MasterForKey(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("redisstore: %w", err)
		}
		l = r.lane(client)
	case r.ring != nil:
		client, err := r.ring.GetShardClientForKey(key)
		if err != nil {
			return nil, fmt.Errorf("redisstore: %w", err)
		}
		l = r.lane(client)
	}
	cmd := &command{Cmd: redis.NewCmd(ctx, args...), args: args}
	_ = l.client.Process(ctx, cmd)
	reply, err := cmd.Result()
	if err == nil {
		return reply, nil
	}
	_, replied := errors.AsType[redis.Error](err)
	switch moved := redis.HasErrorPrefix(err, "MOVED"); {
	case moved && r.cluster != nil:
		r.cluster.ReloadState(context.Background())
	case moved && r.single != nil && l.origin != nil:
		s.becomeCluster(r, l.origin)
	case !replied || nothingRan(err) && !redis.HasErrorPrefix(err, "ASK"):
		r.forget(l) // another server may have it now
	}
	return nil, fmt.Errorf("redisstore: %w", err)
}

func (s *Store) scaleKey(name string) string {
	return s.namespace + "{" + escape(name) + "}|scale"
}
