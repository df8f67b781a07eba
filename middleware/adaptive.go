package middleware

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/felixge/httpsnoop"

	"github.com/stint-go/stint/policy"
)

// An AdaptiveConfig says when an [Adaptive] reduces limits. The zero value is a
// good start.
type AdaptiveConfig struct {
	// Floor is the least factor, above 0. Zero means 0.1.
	Floor float64

	// Every is how often the factor may move. Zero means a second.
	Every time.Duration

	// Slower is how many times its long-term level the latency may be before limits
	// are reduced. They are raised again once it is less than halfway there: with
	// 2, which zero means, below 1.5. It is above 1.
	Slower float64

	// Failures is the share of requests that may fail before limits are reduced.
	// They are raised again once it is at most half of that. Zero means 0.1.
	Failures float64

	// Memory is how long it takes the long-term level to follow most of a lasting
	// change. Zero means ten minutes. It is at least ten times Every.
	Memory time.Duration

	// Now is the clock, for tests. It has to be safe for concurrent use. Nil means
	// time.Now.
	Now func() time.Time
}

// An Adaptive moves a [Scale] by how the service itself does: when requests take
// much longer than they use to, or fail, limits are reduced, until they do not;
// then limits are raised again, step by step. It needs no number for what the
// service can bear.
//
//	adaptive, err := ratelimit.NewAdaptive(ratelimit.AdaptiveConfig{})
//	...
//	limits, err := ratelimit.New(ratelimit.Config{Scale: adaptive.Scale(), Rules: rules})
//	...
//	r.Use(limits.Handler, adaptive.Handler)
//
// Every second the latency of nine tenths of the requests that ended in it, and of
// those that hang, is held to its own long-term level. If it is more than twice
// that, the factor is multiplied by what would bring it back to that, if latency
// were proportional, but by no less than a half; if it is at most one and a half
// times that, 0.05 are added; in between nothing moves. Before the next step,
// requests that were let in before get time to end. Too many failures reduce by a
// fifth.
//
// Rules that are Critical are reduced last, when all others are at the floor, and
// raised first.
//
// The level learns from what is better at once, and from what is worse slowly, and
// only while limits are whole, or at the floor where reducing them has not helped:
// so no overload is ever taken for the usual. What is worse than usual because
// requests became dearer, and not because there are more of them, is thus reduced
// until it has been learnt: as long as Memory, about.
//
// Its factor is this process's own, since its health is. An Adaptive has no
// goroutine: requests move it, those too that are refused. It is safe for
// concurrent use, takes a kilobyte, and a lock once a step.
type Adaptive struct {
	config AdaptiveConfig
	scale  Scale
	window latencies
	failed atomic.Int64
	begun  [64]atomic.Int64 // requests under way, by the step that they began in
	slow   atomic.Int64     // latency that is too much; 0 if that is not known yet
	next   atomic.Int64     // when to move again, in nanoseconds since start
	start  time.Time

	criticals atomic.Bool // there are Critical rules

	mu       sync.Mutex
	since    time.Duration // when the window began
	hold     time.Duration // until when what is measured may be of before the last step
	level    float64       // the long-term latency, in nanoseconds
	learnt   int           // how often
	factor   float64
	critical float64
}

const (
	quantile = 0.9  // of the latencies
	increase = 0.05 // that the factor is raised by
	least    = 0.5  // that it is multiplied by
	onErrors = 0.8  // that it is multiplied by for failures
	fewest   = 10   // requests that say something
	patient  = 10   // steps to wait for as many
	sooner   = 10   // times faster is learnt what is better
)

// NewAdaptive returns an Adaptive whose factor is 1, or an error that says what to
// write instead.
func NewAdaptive(c AdaptiveConfig) (*Adaptive, error) {
	c.Floor, c.Every = cmp.Or(c.Floor, 0.1), cmp.Or(c.Every, time.Second)
	c.Slower, c.Failures = cmp.Or(c.Slower, 2), cmp.Or(c.Failures, 0.1)
	c.Memory = cmp.Or(c.Memory, max(10*time.Minute, 10*c.Every))
	if c.Now == nil {
		c.Now = time.Now
	}
	switch {
	case !(c.Floor > 0 && c.Floor <= 1):
		return nil, fmt.Errorf("ratelimit: Adaptive: Floor %v: write the least factor, above 0 and up to 1", c.Floor)
	case c.Every < time.Millisecond:
		return nil, fmt.Errorf("ratelimit: Adaptive: Every %v: write a millisecond or more", c.Every)
	case !(c.Slower > 1):
		return nil, fmt.Errorf("ratelimit: Adaptive: Slower %v: write how many times the usual latency is too much, above 1", c.Slower)
	case !(c.Failures > 0 && c.Failures <= 1):
		return nil, fmt.Errorf("ratelimit: Adaptive: Failures %v: write the share that is too much, above 0 and up to 1", c.Failures)
	case c.Memory < 10*c.Every:
		return nil, errors.New("ratelimit: Adaptive: Memory is short: write at least ten times Every")
	}
	a := &Adaptive{config: c, start: c.Now(), factor: 1, critical: 1}
	a.scale.adapt = a
	a.next.Store(int64(c.Every))
	return a, nil
}

// Scale returns the Scale that the Adaptive moves, and nobody else.
func (a *Adaptive) Scale() *Scale { return &a.scale }

// Level returns the long-term latency that requests are held to: that of nine
// tenths of them. It is 0 until there were some.
func (a *Adaptive) Level() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Duration(a.level)
}

// Handler returns next, and observes how long it takes and how often it fails:
// with a status of 500 and above, or a panic. It belongs inside of the Limiters,
// so that what they refuse or queue is no part of it, and around handlers that are
// much alike. What runs long by its nature is passed over: event streams, and
// connections that are hijacked, as WebSockets are. So are requests whose clients
// left before it took too long.
func (a *Adaptive) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := observation{adaptive: a, w: w, began: a.now(), panicked: true}
		o.slot = int(o.began/a.config.Every) % len(a.begun)
		a.begun[o.slot].Add(1)
		defer o.end(r)
		next.ServeHTTP(httpsnoop.Wrap(w, o.hooks()), r)
		o.panicked = false
	})
}

// An observation is one request's.
type observation struct {
	adaptive *Adaptive
	w        http.ResponseWriter
	began    time.Duration
	slot     int // of begun; negative if it is passed over
	status   int
	panicked bool
}

func (o *observation) hooks() httpsnoop.Hooks {
	return httpsnoop.Hooks{
		WriteHeader: func(next httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
			return func(code int) {
				if code >= 200 || code == http.StatusSwitchingProtocols {
					o.answers(code)
				}
				next(code)
			}
		},
		Write: func(next httpsnoop.WriteFunc) httpsnoop.WriteFunc {
			return func(b []byte) (int, error) {
				o.answers(http.StatusOK)
				return next(b)
			}
		},
		Flush: func(next httpsnoop.FlushFunc) httpsnoop.FlushFunc {
			return func() {
				o.answers(http.StatusOK)
				next()
			}
		},
		Hijack: func(next httpsnoop.HijackFunc) httpsnoop.HijackFunc {
			return func() (net.Conn, *bufio.ReadWriter, error) {
				o.passOver()
				return next()
			}
		},
	}
}

// answers notes the response's status, the first time that it is told.
func (o *observation) answers(status int) {
	if o.status != 0 {
		return
	}
	o.status = status
	if status == http.StatusSwitchingProtocols || strings.HasPrefix(o.w.Header().Get("Content-Type"), "text/event-stream") {
		o.passOver()
	}
}

func (o *observation) passOver() {
	if o.slot >= 0 {
		o.adaptive.begun[o.slot].Add(-1)
		o.slot = -1
	}
}

func (o *observation) end(r *http.Request) {
	a := o.adaptive
	if !o.panicked {
		o.answers(http.StatusOK)
	}
	if o.slot < 0 {
		return
	}
	o.passOver()
	elapsed, slow := a.now()-o.began, a.slow.Load()
	if r.Context().Err() != nil && (slow == 0 || int64(elapsed) <= slow) {
		return
	}
	a.Record(elapsed, o.panicked || o.status >= http.StatusInternalServerError)
}

// Record observes one piece of work that Handler does not see: how long it took,
// and whether it failed for a reason of the service's own.
func (a *Adaptive) Record(elapsed time.Duration, failed bool) {
	a.window.add(elapsed)
	if failed {
		a.failed.Add(1)
	}
	a.look()
}

func (a *Adaptive) now() time.Duration { return a.config.Now().Sub(a.start) }

// look moves the factor if it is time to, and nobody else is about it.
func (a *Adaptive) look() {
	now := a.now()
	if int64(now) < a.next.Load() || !a.mu.TryLock() {
		return
	}
	defer a.mu.Unlock()
	if int64(now) < a.next.Load() {
		return
	}
	a.next.Store(int64(now + a.config.Every))
	passed := now - a.since
	n := a.window.count() + a.hanging(now, func(time.Duration, int64) {})
	if n < fewest && passed < patient*a.config.Every {
		return // there may be more
	}
	a.hanging(now, a.window.addMany)
	latency := a.window.empty(quantile)
	failures := float64(a.failed.Swap(0)) / float64(max(n, 1))
	a.since = now
	if n == 0 {
		a.raise(increase * float64(passed/a.config.Every))
		return
	}
	a.judge(now, latency, failures)
}

// hanging tells of the requests under way that take too long already, and how many
// they are. Those that began longer ago than it remembers look younger than they
// are.
func (a *Adaptive) hanging(now time.Duration, tell func(age time.Duration, n int64)) (total int64) {
	slow, step := time.Duration(a.slow.Load()), int(now/a.config.Every)
	if slow == 0 {
		return 0
	}
	for began := max(0, step-len(a.begun)+1); began < step; began++ {
		age := now - time.Duration(began+1)*a.config.Every // at least
		if n := a.begun[began%len(a.begun)].Load(); age > slow && n > 0 {
			tell(age, n)
			total += n
		}
	}
	return total
}

// judge moves the factor by what was measured.
func (a *Adaptive) judge(now time.Duration, latency, failures float64) {
	c := &a.config
	if a.level == 0 {
		a.level = latency
	}
	most := c.Slower * a.level
	bad := latency > most || failures > c.Failures
	good := latency < (1+c.Slower)/2*a.level && failures <= c.Failures/2
	a.learn(latency, !bad)
	switch {
	case now < a.hold:
	case bad:
		by := 1.0
		if latency > most {
			by = max(least, most/latency)
		}
		if failures > c.Failures {
			by = min(by, onErrors)
		}
		a.reduce(by)
		a.hold = now + min(time.Duration(latency), patient*c.Every)
	case good:
		a.raise(increase)
	}
}

// learn brings the long-term level nearer to a latency.
func (a *Adaptive) learn(latency float64, usual bool) {
	whole, atFloor := a.factor == 1, a.atFloor()
	if latency > a.level && !(whole && usual) && !atFloor {
		return
	}
	a.learnt++
	weight := float64(a.config.Every) / float64(a.config.Memory)
	if latency < a.level {
		weight *= sooner
	}
	weight = min(1, max(weight, 1/float64(a.learnt))) // of the first few it is the mean
	a.level += weight * (latency - a.level)
	a.slow.Store(int64(a.config.Slower * a.level))
}

func (a *Adaptive) reduce(by float64) {
	switch floor := a.config.Floor; {
	case a.factor > floor:
		a.factor = max(floor, a.factor*by)
	case a.criticals.Load():
		a.critical = max(floor, a.critical*by)
	}
	a.publish()
}

// atFloor tells whether there is nothing left to reduce.
func (a *Adaptive) atFloor() bool {
	return a.factor <= a.config.Floor && (a.critical <= a.config.Floor || !a.criticals.Load())
}

func (a *Adaptive) raise(by float64) {
	if a.critical < 1 {
		was := a.critical
		a.critical = min(1, a.critical+by)
		by -= a.critical - was
	}
	a.factor = min(1, a.factor+by)
	a.publish()
}

// publish sets the scale to the factors.
func (a *Adaptive) publish() {
	if a.factor == 1 {
		a.scale.at.Store(nil)
		return
	}
	at := &scaling{millionths: millionths(a.factor), critical: millionths(a.critical)}
	if before := a.scale.at.Load(); before == nil || *before != *at {
		a.scale.at.Store(at)
	}
}

func millionths(factor float64) int64 { return max(1, int64(factor*float64(policy.Whole)+0.5)) }
