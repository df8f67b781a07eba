package faults

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A witness tells when the servers are well again after a fault: when they say so to
// plain clients of its own, which write to the subject's slot beside stint and by the
// same network. A fault goes on as long as such a write fails or takes more than the
// budget.
type witness struct {
	bench   *bench
	clients []*redis.Client
	names   *redis.SentinelClient // who is master; nil without Sentinel
	stop    chan struct{}
	watch   sync.WaitGroup

	mu  sync.Mutex
	ill []time.Time // when writes ended that were not good
}

// witness watches the servers until it is closed.
func (b *bench) witness() *witness {
	w := &witness{bench: b, stop: make(chan struct{})}
	for addr := range b.proxies {
		w.clients = append(w.clients, redis.NewClient(&redis.Options{
			Addr: addr, Dialer: b.dial, MaxRetries: -1, DialerRetries: 1,
			DialTimeout: matrixBudget, ReadTimeout: matrixBudget, WriteTimeout: matrixBudget,
		}))
	}
	if b.sentinel != nil {
		w.names = redis.NewSentinelClient(&redis.Options{Addr: b.sentinel.Watcher.Addr(), MaxRetries: -1})
	}
	w.watch.Go(func() {
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-tick.C:
			case <-w.stop:
				tick.Stop()
				return
			}
			start := time.Now()
			err := w.write()
			if end := time.Now(); err != nil || end.Sub(start) > matrixBudget {
				w.mu.Lock()
				w.ill = append(w.ill, end)
				w.mu.Unlock()
			}
		}
	})
	return w
}

// write writes to the server that has the subject.
func (w *witness) write() error {
	ctx, cancel := context.WithTimeout(context.Background(), matrixBudget)
	defer cancel()
	master := ""
	if w.names != nil {
		host, err := w.names.GetMasterAddrByName(ctx, masterName).Result()
		if err != nil {
			return err
		}
		master = host[0] + ":" + host[1]
	}
	errs := []error{errors.New("no server")}
	for _, c := range w.clients {
		if master != "" && c.Options().Addr != master {
			continue
		}
		err := c.Set(ctx, "witness{"+subject+"}", 1, time.Minute).Err()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// since returns how long before an instant the servers were well, at the earliest
// since an earlier one.
func (w *witness) since(earliest, until time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ill := range w.ill {
		if ill.After(earliest) && ill.Before(until) {
			earliest = ill
		}
	}
	return max(until.Sub(earliest), 0)
}

func (w *witness) close() error {
	close(w.stop)
	w.watch.Wait()
	var errs []error
	for _, c := range w.clients {
		errs = append(errs, c.Close())
	}
	if w.names != nil {
		errs = append(errs, w.names.Close())
	}
	return errors.Join(errs...)
}
