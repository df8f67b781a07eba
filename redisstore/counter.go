package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/stint-go/stint/policy"
)

// A Counter counts for the middleware of go-chi/httprate, in place of the counter
// in memory that it has: it is an httprate.LimitCounter.
//
//	httprate.WithLimitCounter(&redisstore.Counter{Store: store, Name: "api"})
//
// It is for programs on httprate that are to count in Redis now, and to move to
// rules later. What httprate asks of a counter is less than what a Store gives:
//
//   - A request reads the counts, decides, and then adds to them. That is two
//     round trips, and not atomic: p processes may admit p-1 requests more than
//     the limit, each with its increment, and two middlewares in one process are
//     as two processes. What a middleware that refuses comes after stays charged.
//   - A middleware of httprate asks for one request at a time, whatever its key:
//     it admits no more requests a second than one every two round trips. While
//     Redis is silent, requests wait for the Budget of each before them.
//   - Windows are by the clocks of the processes, not by that of Redis: where they
//     differ, so do the counts. The estimate over two windows is httprate's.
//   - An error refuses: httprate answers 428, with the error's text, unless it is
//     given a handler WithErrorHandler, and writes its refusal behind what that
//     does. It cannot serve instead. The text says nothing of Redis; what went
//     wrong is to be had by errors.Unwrap. An error of an increment means unknown:
//     it may have been counted, once at most.
//
// Keys are counted as httprate has them: in Redis they can be read. A key has two
// values there, for this window and the one before, under the Store's namespace,
// in one slot of a cluster. They expire four windows after their own begin, at
// the latest.
//
// The fields must not be changed once the Counter is in use. It is then safe for
// concurrent use. It is for one middleware: Counters of one Name, on one Redis,
// for windows of one length count together.
type Counter struct {
	// Store counts. It stays the caller's to close.
	Store *Store

	// Name is what the counts are stored under, such as "api": letters, digits
	// and what else policy.CheckName allows.
	Name string

	// Budget bounds each of the two calls that a request makes. Zero means 50 ms.
	Budget time.Duration

	config atomic.Pointer[counterConfig]
}

// A counterConfig is what a window's count is kept as: a state of a limit that
// never refuses, and that forgets only what no window asks for any more. In a
// sliding window of two windows, what came within one lies in the current or in
// the previous one until the next window is over.
type counterConfig struct {
	limit policy.Limit
	scope policy.Scope
}

const (
	counterBudget = 50 * time.Millisecond
	counterMost   = 1_000_000_000_000
)

// Config is called by httprate as it makes the middleware. It panics if the
// Counter has no Store or no valid Name, and on a window of more than 183 days.
func (c *Counter) Config(_ int, window time.Duration) {
	if c.Store == nil {
		panic("redisstore: Counter without a Store: write one that New made")
	}
	if err := policy.CheckName(c.Name); err != nil {
		panic("redisstore: Counter.Name: " + err.Error())
	}
	if window <= 0 || window > 183*24*time.Hour {
		panic(fmt.Sprintf("redisstore: Counter for windows of %v: write one of up to 183 days", window))
	}
	limit := policy.SlidingWindow(counterMost, max(2*window, time.Second))
	if err := limit.Validate(); err != nil {
		panic(fmt.Sprintf("redisstore: Counter for windows of %v: %v", window, err))
	}
	c.config.Store(&counterConfig{limit: limit, scope: policy.NewScope(c.Name, "httprate")})
}

// Get returns what was counted under a key in two windows, in one round trip.
func (c *Counter) Get(key string, current, previous time.Time) (now, before int, err error) {
	charges := make([]policy.Charge, 2)
	for i, window := range []time.Time{current, previous} {
		if charges[i], err = c.charge(key, window, 0); err != nil {
			return 0, 0, err
		}
	}
	ctx, cancel := c.bounded()
	defer cancel()
	var counts [2]int
	s := c.Store
	err = s.perform(ctx, func(p *plan) {
		for i := range charges {
			p.add(s, kindPeek, policy.Ticket{}, &charges[i])
		}
	}, func(p *plan) {
		for i := range charges {
			a := &p.calls[p.where[i].call].answers[p.where[i].item]
			counts[i] = int(min(a.a+a.b, math.MaxInt))
		}
	})
	if err != nil {
		return 0, 0, &counterError{err}
	}
	return counts[0], counts[1], nil
}

// Increment counts one under a key, in a window.
func (c *Counter) Increment(key string, current time.Time) error {
	return c.IncrementBy(key, current, 1)
}

// IncrementBy counts an amount under a key, in a window: zero or more.
func (c *Counter) IncrementBy(key string, current time.Time, amount int) error {
	if amount < 0 {
		return fmt.Errorf("redisstore: increment by %d: write zero or more", amount)
	}
	charge, err := c.charge(key, current, int64(amount))
	if err != nil || amount == 0 {
		return err
	}
	ctx, cancel := c.bounded()
	defer cancel()
	var d policy.Decision
	if err := c.Store.Take(ctx, policy.NewTicket(), []policy.Charge{charge}, &d); err != nil {
		return &counterError{err}
	}
	if d.Verdict != policy.Allowed {
		return errCounterFull
	}
	return nil
}

var (
	errCounterConfig = errors.New("redisstore: a Counter is to be given to httprate.WithLimitCounter, which configures it")
	errCounterFull   = errors.New("redisstore: a Counter counts up to a million million")
)

// charge returns what a window's count is kept under.
func (c *Counter) charge(key string, window time.Time, units int64) (policy.Charge, error) {
	config := c.config.Load()
	if config == nil {
		return policy.Charge{}, errCounterConfig
	}
	return policy.Charge{
		Limit: config.limit, Scope: config.scope, Units: units,
		Key: strconv.FormatInt(window.UnixMicro(), 10) + ":" + key, Partition: key,
	}, nil
}

func (c *Counter) bounded() (context.Context, context.CancelFunc) {
	budget := c.Budget
	if budget <= 0 {
		budget = counterBudget
	}
	return context.WithTimeout(context.Background(), budget)
}

// A counterError keeps an error's text, which may have addresses in it, from
// clients, who are told it by httprate's default.
type counterError struct{ err error }

func (e *counterError) Error() string { return "The limit cannot be checked right now." }
func (e *counterError) Unwrap() error { return e.err }
