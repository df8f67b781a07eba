package storetest

import (
	"sync/atomic"
	"time"
)

// A clock is set by hand. It is safe for concurrent use.
type clock struct {
	micros atomic.Int64
	reads  atomic.Int64 // how often a store has asked
}

// start is no round number: not the start of any window.
var start = time.Date(2026, 3, 14, 9, 26, 53, 589_793_000, time.UTC)

func newClock() *clock {
	c := &clock{}
	c.set(start.UnixMicro())
	return c
}

func (c *clock) now() time.Time {
	c.reads.Add(1)
	return time.UnixMicro(c.micro())
}

func (c *clock) micro() int64            { return c.micros.Load() }
func (c *clock) set(micro int64)         { c.micros.Store(micro) }
func (c *clock) advance(d time.Duration) { c.micros.Add(d.Microseconds()) }
