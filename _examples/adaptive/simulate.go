package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// The service does ten requests at once at full speed, in 50 ms each, and divides
// its speed among more: it bears 200 a second. Forty clients each may send 20 a
// second. They send 100 together, and four times that in the overload. One in ten
// requests is a payment, which is critical.
const (
	work      = 0.05 // seconds of a request by itself
	atOnce    = 10.0
	clients   = 40
	perClient = 20
	usual     = 100.0
	overload  = 400.0

	begins = 120 // the overload, in seconds
	ends   = 360
	total  = 600
)

// A second is what was seen in one.
type second struct {
	arrived, refused, served int
	payments, unpaid         int       // payments that arrived, and were refused
	latencies                []float64 // of those served, in seconds
	factor                   float64
}

// latency is that of nine tenths.
func (s *second) latency() float64 {
	if len(s.latencies) == 0 {
		return math.NaN()
	}
	slices.Sort(s.latencies)
	return s.latencies[len(s.latencies)*9/10]
}

// simulate plays all seconds, with an Adaptive or without.
func simulate(adapt bool) ([]second, error) {
	now := time.Unix(1_790_000_000, 0)
	clock := func() time.Time { return now }
	adaptive, err := ratelimit.NewAdaptive(ratelimit.AdaptiveConfig{Now: clock})
	if err != nil {
		return nil, err
	}
	store := memstore.New(memstore.Options{Now: clock})
	defer store.Close()
	limits := []policy.Limit{policy.TokenBucket(perClient, time.Second)}
	client := ratelimit.Header("X-API-Key")
	payment := func(r *http.Request) bool { return r.Method == http.MethodPost }
	config := ratelimit.Config{Store: store, Rules: []ratelimit.Rule{
		{Name: "browse", Key: client, Limits: limits, Skip: payment},
		{Name: "pay", Key: client, Limits: limits, Critical: true, Skip: func(r *http.Request) bool { return !payment(r) }},
	}}
	if adapt {
		config.Scale = adaptive.Scale()
	}
	limiter, err := ratelimit.New(config)
	if err != nil {
		return nil, err
	}
	defer limiter.Close()

	// Work under way is kept as the share of work that each has done when it ends:
	// all proceed at one speed, so who came first ends first.
	type job struct{ began, ends float64 }
	var (
		random  = rand.New(rand.NewPCG(5, 2026))
		jobs    []job
		done    float64 // work that each would have by now
		at      float64 // seconds
		arrival = random.ExpFloat64() / usual
		seconds = make([]second, total)
	)
	for int(at) < total {
		speed := min(1, atOnce/float64(max(1, len(jobs))))
		end := math.Inf(1)
		if len(jobs) > 0 {
			end = at + (jobs[0].ends-done)/speed
		}
		next := min(arrival, end)
		done += (next - at) * speed
		now = now.Add(time.Duration(next*1e9) - time.Duration(at*1e9))
		if at = next; int(at) >= total {
			break
		}
		s := &seconds[int(at)]
		if end <= arrival {
			s.served++
			s.latencies = append(s.latencies, at-jobs[0].began)
			adaptive.Record(time.Duration((at-jobs[0].began)*1e9), false)
			jobs = jobs[1:]
		} else {
			rate := usual
			if at >= begins && at < ends {
				rate = overload
			}
			arrival = at + random.ExpFloat64()/rate
			r := &http.Request{Method: http.MethodGet, Header: http.Header{}}
			r.Header.Set("X-Api-Key", fmt.Sprint(random.IntN(clients)))
			if random.IntN(10) == 0 {
				r.Method = http.MethodPost
				s.payments++
			}
			report, err := limiter.Check(r)
			if err != nil {
				return nil, err
			}
			s.arrived++
			if report.Denial == nil {
				jobs = append(jobs, job{at, done + work})
			} else {
				s.refused++
				if payment(r) {
					s.unpaid++
				}
			}
		}
		s.factor, _ = adaptive.Scale().Get()
		if !adapt {
			s.factor = 1
		}
	}
	return seconds, nil
}

// phases tells in words what happened.
func phases(with, without []second) []string {
	var told []string
	for _, phase := range []struct {
		name     string
		from, to int
	}{{"before", 60, begins}, {"overload", begins + 60, ends}, {"after", ends + 120, total}} {
		a, b := with[phase.from:phase.to], without[phase.from:phase.to]
		told = append(told, fmt.Sprintf("%-8s with: %s; without: %s", phase.name, summary(a), summary(b)))
	}
	return told
}

func summary(seconds []second) string {
	var served, payments, unpaid int
	var latencies []float64
	for i := range seconds {
		s := &seconds[i]
		served += s.served
		payments += s.payments
		unpaid += s.unpaid
		latencies = append(latencies, s.latencies...)
	}
	all := second{latencies: latencies}
	return fmt.Sprintf("%3d served a second, 9 of 10 within %.2f s, %2.0f %% of payments refused",
		served/len(seconds), all.latency(), 100*float64(unpaid)/float64(max(1, payments)))
}
