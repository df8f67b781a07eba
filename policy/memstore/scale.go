package memstore

import (
	"context"
	"sync"
	"time"

	"github.com/stint-go/stint/policy"
)

var _ policy.Scaler = (*Store)(nil)

// scales are the factors that were set, and who watches them.
type scales struct {
	mu       sync.Mutex
	set      map[string]scaled
	watchers map[string]map[*watcher]struct{}
}

type scaled struct {
	millionths int64
	until      int64 // by the store's clock
}

type watcher struct{ tell func(policy.Factor) }

// SetScale implements [policy.Scaler]. Whoever watches has been told when it
// returns: tell must call neither the store nor its own stop.
func (s *Store) SetScale(ctx context.Context, name string, f policy.Factor) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := policy.CheckFactor(name, f); err != nil {
		return err
	}
	if s.closed.Load() {
		return policy.ErrClosed
	}
	now := s.clock()
	s.scales.mu.Lock()
	defer s.scales.mu.Unlock()
	for other, is := range s.scales.set {
		if now >= is.until {
			delete(s.scales.set, other)
		}
	}
	if f.Millionths == policy.Whole {
		delete(s.scales.set, name)
	} else {
		if s.scales.set == nil {
			s.scales.set = map[string]scaled{}
		}
		s.scales.set[name] = scaled{f.Millionths, now + f.Left.Microseconds()}
	}
	for w := range s.scales.watchers[name] {
		w.tell(f)
	}
	return nil
}

// WatchScale implements [policy.Scaler]. It tells before it returns, and then
// whenever the factor is set: when that ends is for the watcher to notice, by the
// time that was left.
func (s *Store) WatchScale(name string, tell func(policy.Factor)) (stop func(), err error) {
	if err := policy.CheckFactor(name, policy.Factor{Millionths: policy.Whole}); err != nil {
		return nil, err
	}
	if s.closed.Load() {
		return nil, policy.ErrClosed
	}
	w := &watcher{tell}
	s.scales.mu.Lock()
	defer s.scales.mu.Unlock()
	if s.scales.watchers == nil {
		s.scales.watchers = map[string]map[*watcher]struct{}{}
	}
	if s.scales.watchers[name] == nil {
		s.scales.watchers[name] = map[*watcher]struct{}{}
	}
	s.scales.watchers[name][w] = struct{}{}
	f := policy.Factor{Millionths: policy.Whole}
	if is, now := s.scales.set[name], s.clock(); now < is.until {
		f = policy.Factor{Millionths: is.millionths, Left: time.Duration(is.until-now) * time.Microsecond}
	}
	tell(f)
	return func() { s.scales.leave(name, w) }, nil
}

func (s *scales) leave(name string, w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.watchers[name], w); len(s.watchers[name]) == 0 {
		delete(s.watchers, name)
	}
}
