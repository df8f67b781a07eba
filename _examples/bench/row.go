package main

import (
	"fmt"
	"time"
)

// A row is what one line of the table measures.
type row struct {
	layer      string // "store": the decision alone; "middleware": a whole request
	backend    string // "memory" or "redis"
	limits     int    // limits that each decision is under
	keys       int    // keys that decisions are spread over
	goroutines int
	refused    bool // every decision is refused; otherwise every one is allowed
}

// rows returns a base row for each layer and backend, and each with one thing
// changed. If full is set, it returns every combination instead.
func rows(full bool) []row {
	limits, keys, goroutines := []int{1, 3, 6}, []int{1, 1_000, 100_000}, []int{1, 64, 512}
	var all []row
	for _, layer := range []string{"store", "middleware"} {
		for _, backend := range []string{"memory", "redis"} {
			base := row{layer: layer, backend: backend, limits: 3, keys: 1_000, goroutines: 64}
			for _, refused := range []bool{false, true} {
				for _, l := range limits {
					for _, k := range keys {
						for _, g := range goroutines {
							r := row{layer, backend, l, k, g, refused}
							if full || base.differences(r) <= 1 {
								all = append(all, r)
							}
						}
					}
				}
			}
		}
	}
	return all
}

func (r row) differences(s row) int {
	n := 0
	for _, same := range []bool{r.limits == s.limits, r.keys == s.keys, r.goroutines == s.goroutines, r.refused == s.refused} {
		if !same {
			n++
		}
	}
	return n
}

func (r row) String() string {
	return fmt.Sprintf("%s/%s/limits=%d/keys=%d/goroutines=%d/%s", r.layer, r.backend, r.limits, r.keys, r.goroutines, r.answer())
}

func (r row) answer() string {
	if r.refused {
		return "refused"
	}
	return "allowed"
}

// A quota is how much the row's i-th limit allows: so much that no run uses it
// up, or one for days, which is used before the measurement begins.
type quota struct {
	n      int64
	window time.Duration
	burst  int64 // for buckets; the refill is slow, so that they are never full again
}

func (r row) quotas() []quota {
	quotas := make([]quota, r.limits)
	for i := range quotas {
		switch {
		case r.refused:
			quotas[i] = quota{n: 1, window: time.Duration(i+2) * 24 * time.Hour, burst: 1}
		case r.backend == "redis":
			quotas[i] = quota{n: 1_000, window: time.Duration(i+1) * time.Minute, burst: 10_000_000}
		default:
			quotas[i] = quota{n: 1_000_000_000, window: time.Duration(i+1) * time.Minute}
		}
	}
	return quotas
}

// names returns the row's keys.
func (r row) names() []string {
	names := make([]string, r.keys)
	for i := range names {
		names[i] = fmt.Sprintf("key-%06d", i)
	}
	return names
}
