package faults

import (
	"iter"
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
//     request that is late is compared with the slowest control that was overdue
//     while it was: if the machine stalls, all whose time is up meanwhile are late
//     together. The figure is that of the median round, since after a stall there is
//     a queue. A round has some fifty requests, so that its slowest counts. Fewer
//     than three rounds have no median that means anything.
//   - Once it is open, a request is compared with a control right before or after it.
//     Those of them are set aside during which the kernel gave the core to another
//     process, as it counts itself, since they last but microseconds: where a
//     process waits for each core, one in fifty may wait for milliseconds. Most of
//     them must be left.
//
// Neither hides a delay of stint's own, be it a lock's, a queue's or a sleep's: that
// delays no control, and no process takes the core for it.
type added struct {
	mu       sync.Mutex
	rounds   [][]measured // while the breaker is closed
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
	last := len(a.rounds) - 1
	a.rounds[last] = append(a.rounds[last], m)
}

// controls are requests that wait for the budget, and no more.
type controls struct {
	mu    sync.Mutex
	began time.Time
	late  map[int64]time.Duration // in each millisecond: what the slowest took that was overdue then
}

// control takes note of one.
func (c *controls) control(m measured) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.late == nil {
		c.began, c.late = m.end, map[int64]time.Duration{}
	}
	for at := range c.overdue(m) {
		c.late[at] = max(c.late[at], m.took)
	}
}

// beside returns what the slowest took that was overdue while a request was, and the
// budget if there is none.
func (c *controls) beside(m measured) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	slowest := matrixBudget
	for at := range c.overdue(m) {
		slowest = max(slowest, c.late[at])
	}
	return slowest
}

// overdue yields the milliseconds between the end of the budget and a request's own.
func (c *controls) overdue(m measured) iter.Seq[int64] {
	last := m.end.Sub(c.began).Milliseconds()
	first := m.end.Add(matrixBudget - m.took).Sub(c.began).Milliseconds()
	return func(yield func(int64) bool) {
		for at := first; at <= last && yield(at); at++ {
		}
	}
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

// next begins another round.
func (a *added) next() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rounds = append(a.rounds, nil)
}

// closed returns what 99 in a hundred requests took at most while the breaker was
// closed, and how much more than controls, each in the median round.
func (a *added) closed(machine *controls) (took, more time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var tooks, mores []time.Duration
	for _, round := range a.rounds {
		var t, m []time.Duration
		for _, r := range round {
			t, m = append(t, r.took), append(m, r.took-machine.beside(r))
		}
		tooks, mores = append(tooks, p99(t)), append(mores, p99(m))
	}
	return median(tooks), median(mores)
}

// p99 returns what one in a hundred took, or more.
func p99(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)*99/100]
}

// median returns the larger of two in the middle.
func median(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(times))[len(times)/2]
}

// A stalled machine adds nothing, and a stint that is slow once in fifty shows.
func TestAdded(t *testing.T) {
	t.Parallel()
	var a added
	var machine controls
	begin := time.Now()
	for i := range 300 {
		if i%50 == 0 {
			a.next()
		}
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
	require.Equal(t, 15*time.Millisecond, more)
	require.Greater(t, took, time.Second)
	require.Equal(t, 9*time.Microsecond, p99(a.openMore))
	require.Zero(t, p99(nil))
	require.Zero(t, median(nil))
}
