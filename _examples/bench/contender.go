package main

import (
	"errors"
	"fmt"
	"sync"
)

// A contender is a limiter to measure, made ready for a row.
type contender struct {
	name string

	// decider returns what one goroutine calls: it decides one request of the
	// key with that index, and tells whether it was allowed.
	decider func() func(key int) (bool, error)

	close func() error
}

// contenders returns stint and its peer for a row, each with a state of its
// own, in which every key has been seen once.
//
// Stint counts as its peer does, that like is compared with like: by fixed
// windows beside go-limiter, by sliding windows beside httprate, by token
// buckets beside redis_rate, which is GCRA. A peer takes several limits one
// after the other, and stops at the first that refuses.
func contenders(server *redisServer, r row) (stint, peer *contender, err error) {
	openStint, openPeer := stintStore, goLimiterStore
	switch r.layer + "/" + r.backend {
	case "store/redis":
		openPeer = redisRateStore
	case "middleware/memory":
		openStint, openPeer = stintHandler, httprateHandler
	case "middleware/redis":
		openStint, openPeer = stintHandler, redisRateHandler
	}
	if err := server.clear(); err != nil {
		return nil, nil, err
	}
	if stint, err = openStint(server, r); err != nil {
		return nil, nil, err
	}
	if peer, err = openPeer(server, r); err != nil {
		return nil, nil, errors.Join(err, stint.close())
	}
	for _, c := range []*contender{stint, peer} {
		if err := c.warm(r); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("%s: %w", c.name, err), stint.close(), peer.close())
		}
	}
	return stint, peer, nil
}

// warm decides once for each key, which must be allowed.
func (c *contender) warm(r row) error {
	const workers = 64
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			decide := c.decider()
			for key := w; key < r.keys && errs[w] == nil; key += workers {
				switch allowed, err := decide(key); {
				case err != nil:
					errs[w] = err
				case !allowed:
					errs[w] = errors.New("refused the first request of a key")
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// asExpected returns an error unless a decision was what the row is about.
func (r row) asExpected(allowed bool, err error) error {
	switch {
	case err != nil:
		return err
	case allowed == r.refused:
		return fmt.Errorf("a decision that should have been %s was not", r.answer())
	}
	return nil
}
