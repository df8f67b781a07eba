package faults

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Added latency is what requests take longer than controls: requests of the same
// clients through the same router in the same milliseconds, to routes without stint.
// The machine does to both what it does; what is left is stint's, and its 99th
// percentile is held to what is promised, in each mode apart.
//
//   - While the breaker is closed, controls wait for the budget and do nothing. A
//     request is compared with the slowest control that ended when it did: if the
//     machine stalls, all whose time is up meanwhile are late together.
//   - Once it is open, a request is compared with a control right before or after it.
//     Those of them are set aside during which the kernel gave the core to another
//     process, as it counts itself, since they last but microseconds: where a
//     process waits for each core, one in fifty may wait for milliseconds.
//
// Neither hides a delay of stint's own, be it a lock's, a queue's or a sleep's: that
// delays no control, and no process takes the core for it.
type added struct {
	mu       sync.Mutex
	requests []measured // while the breaker is closed
	open     []time.Duration
	openMore []time.Duration // than controls
	aside    int
}

// A measured request took so long, and ended then.
type measured struct {
	took time.Duration
	end  time.Time
}

func (a *added) request(m measured) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = append(a.requests, m)
}

// controls are requests that wait for the budget, and no more.
type controls struct {
	mu    sync.Mutex
	ended map[int64]time.Duration // by milliseconds, the slowest
	began time.Time
}

func (c *controls) control(m measured) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended, c.began = map[int64]time.Duration{}, m.end
	}
	at := m.end.Sub(c.began).Milliseconds()
	c.ended[at] = max(c.ended[at], m.took)
}

// slowest returns what the slowest took that ended at the time or so, at least the
// budget.
func (c *controls) slowest(when time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	const together = 5
	slowest := matrixBudget
	at := when.Sub(c.began).Milliseconds()
	for i := at - together; i <= at+together; i++ {
		slowest = max(slowest, c.ended[i])
	}
	return slowest
}

func (a *added) pair(took, control time.Duration, disturbed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if disturbed {
		a.aside++
		return
	}
	a.open, a.openMore = append(a.open, took), append(a.openMore, took-control)
}

// closed returns what requests took while the breaker was closed, and how much more
// than controls.
func (a *added) closed(machine *controls) (took, more []time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.requests {
		took, more = append(took, m.took), append(more, m.took-machine.slowest(m.end))
	}
	return took, more
}

// p99 returns what one in a hundred took, or more.
func p99(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)*99/100]
}

// A stalled machine adds nothing, and a stint that is slow once in fifty shows.
func TestAdded(t *testing.T) {
	t.Parallel()
	var a added
	var machine controls
	begin := time.Now()
	for i := range 500 {
		took := matrixBudget + time.Millisecond
		end := begin.Add(time.Duration(i) * 10 * time.Millisecond)
		if i%10 == 0 {
			took += time.Second // it stalls
		}
		machine.control(measured{took, end})
		if i%50 == 0 {
			took += 15 * time.Millisecond
		}
		a.request(measured{took, end.Add(time.Millisecond)})
		a.pair(10*time.Microsecond, time.Microsecond, false)
		a.pair(time.Second, time.Microsecond, true)
	}
	took, more := a.closed(&machine)
	require.Equal(t, 15*time.Millisecond, p99(more))
	require.Greater(t, p99(took), time.Second)
	require.Equal(t, 9*time.Microsecond, p99(a.openMore))
	require.Zero(t, p99(nil))
}
