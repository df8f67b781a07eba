package middleware

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stint-go/stint/policy"
)

// A Scale reduces limits while a service is short of capacity: it has a factor,
// above 0 and up to 1, by which the rates and bursts of the rules that have it
// are multiplied, from their next request on. It is for [Config].Scale, of all of
// a Limiter's rules, and for [Rule].Scale; where a rule has both, both multiply.
//
// What was used stays used. Numbers are rounded down, but never to less than 1.
// Quotas, slots and lock-outs are not scaled. Cost that the whole limit holds, and the
// reduced one does not, is no reason for a 413: it waits until nothing else is
// used; [policy.Limit.Scaled] says how. Clients are shown the reduced numbers, and
// a refusal that the whole limit would not have made can say so:
// [respond.Denial].Reduced.
//
// [NewScale] and [NewSharedScale] make one, whose factor is 1. A Scale is safe for
// concurrent use, by any number of Limiters.
type Scale struct {
	name   string
	scaler policy.Scaler
	stop   func()
	adapt  *Adaptive // that moves it
	at     atomic.Pointer[scaling]
}

// A scaling is what a Scale is set to.
type scaling struct {
	millionths int64
	critical   int64     // of Critical rules
	until      time.Time // then it is over; never, if this is zero
}

// NewScale returns a Scale of this process alone.
func NewScale() *Scale { return new(Scale) }

// NewSharedScale returns a Scale that all processes share which make one of the
// same name on the same store: a factor that is set by one holds in all of them
// within a second. While the store is away the last known factor holds on, and
// ends when it was to end; in a process that starts meanwhile the factor is 1.
//
// It is an error if the store is no [policy.Scaler], or the name cannot be one.
// Close the Scale to end its watching the store, or close the store.
func NewSharedScale(name string, store policy.Store) (*Scale, error) {
	scaler, ok := store.(policy.Scaler)
	if !ok {
		return nil, fmt.Errorf("ratelimit: scale %q: %T shares no scales: write a store that is a policy.Scaler, or NewScale()", name, store)
	}
	s := &Scale{name: name, scaler: scaler}
	stop, err := scaler.WatchScale(name, s.told)
	if err != nil {
		return nil, fmt.Errorf("ratelimit: %w", err)
	}
	s.stop = stop
	return s, nil
}

// Set sets the factor until an instant: then it is 1 again. A factor of 1 ends the
// one before at once. A zero until means until the factor is set again, which for
// the longest is [policy.MaxScale]: nothing is kept for ever. The factor is
// rounded to millionths.
//
// In a shared scale what is left until then counts, by this machine's clock, and
// from there on the store's clock decides. An error of the store means that it is
// not known whether the factor was set.
func (s *Scale) Set(ctx context.Context, factor float64, until time.Time) error {
	if !(factor > 0 && factor <= 1) {
		return fmt.Errorf("ratelimit: scale by %v: write a factor above 0, and up to 1", factor)
	}
	if s.adapt != nil {
		return fmt.Errorf("ratelimit: scale by %v: this Scale is an Adaptive's: write one of your own beside it, for rules or the Limiter", factor)
	}
	now := time.Now()
	f := policy.Factor{Millionths: max(1, int64(math.Round(factor*float64(policy.Whole)))), Left: policy.MaxScale}
	if !until.IsZero() {
		f.Left = until.Sub(now)
	}
	name := s.name
	if s.scaler == nil {
		name = "local"
	}
	if err := policy.CheckFactor(name, f); err != nil {
		return fmt.Errorf("ratelimit: %w", err)
	}
	if s.scaler != nil {
		if err := s.scaler.SetScale(ctx, s.name, f); err != nil {
			return fmt.Errorf("ratelimit: scale %q: %w", s.name, err)
		}
	}
	s.set(f, now)
	return nil
}

// Get returns the factor that holds now, as far as this process knows, and when it
// ends. That is the zero Time if the factor is 1.
func (s *Scale) Get() (factor float64, until time.Time) {
	at := s.now()
	if at == nil || at.millionths == policy.Whole {
		return 1, time.Time{}
	}
	return float64(at.millionths) / float64(policy.Whole), at.until.Round(0)
}

// Close ends the watching of a shared scale, which stays at what it is until that
// ends. Of other scales it does nothing.
func (s *Scale) Close() error {
	if s.stop != nil {
		s.stop()
	}
	return nil
}

// told takes what the store says.
func (s *Scale) told(f policy.Factor) { s.set(f, time.Now()) }

func (s *Scale) set(f policy.Factor, now time.Time) {
	if f.Millionths == policy.Whole {
		s.at.Store(nil)
		return
	}
	s.at.Store(&scaling{millionths: f.Millionths, critical: f.Millionths, until: now.Add(f.Left)})
}

// now returns what holds, or nil if the factor is 1.
func (s *Scale) now() *scaling {
	if s.adapt != nil {
		s.adapt.look()
	}
	at := s.at.Load()
	if at == nil || !at.until.IsZero() && !time.Now().Before(at.until) {
		return nil
	}
	return at
}

// millionths returns the factor for rules of a kind.
func (s *Scale) millionths(critical bool) int64 {
	if s == nil {
		return policy.Whole
	}
	if critical && s.adapt != nil && !s.adapt.criticals.Load() {
		s.adapt.criticals.Store(true)
	}
	at := s.now()
	switch {
	case at == nil:
		return policy.Whole
	case critical:
		return at.critical
	}
	return at.millionths
}

// canScale tells whether a rule may have a limit that a Scale reduces.
func canScale(r *Rule) bool {
	return r.LimitsFor != nil || slices.ContainsFunc(r.Limits, func(l policy.Limit) bool { return l.Scaled(1).IsReduced() })
}

// scaleOf returns what the limits of a rule are scaled by, and tells of it if it
// has changed since the last request.
func (l *Limiter) scaleOf(r *rule) int64 {
	if !r.scales || l.scale == nil && r.Scale == nil {
		return policy.Whole
	}
	all, own := l.scale.millionths(r.Critical), r.Scale.millionths(r.Critical)
	m := max(1, all*own/policy.Whole)
	if before := r.scaled.Load(); before != policy.Whole-m && r.scaled.CompareAndSwap(before, policy.Whole-m) && l.observe != nil {
		l.emit(Event{Kind: Rescaled, Rule: r.Name, Factor: float64(m) / float64(policy.Whole)})
	}
	return m
}
