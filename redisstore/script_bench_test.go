package redisstore

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore/redistest"
)

// BenchmarkScript measures the script alone, by the server's own count of the
// time that it spends in it, for groups of 1 and of 64 requests on as many keys.
// The cases take turns, in short rounds. It reports of each the median over the
// rounds in microseconds a request, and the median of its ratio to a rate alone:
//
//	rate      one window
//	bucket    one bucket
//	3buckets  three of one key
//	slot      a slot alone
//	both      a rate and a slot
//	both4     the same where three others hold a slot of the key
//	leave     a slot's end
//	settle    a rate's settle, which gives it back
func BenchmarkScript(b *testing.B) {
	for _, group := range []int{1, 64} {
		b.Run(fmt.Sprint("group=", group), func(b *testing.B) { benchmarkScript(b, group) })
	}
}

func benchmarkScript(b *testing.B, group int) {
	srv := redistest.Start(b)
	rdb := srv.Client(b)
	const keys = 512
	scope := policy.NewScope("bench", "rule")
	rate := policy.SlidingWindow(1_000_000_000, time.Hour)
	slot := policy.Concurrency(10).WithLease(time.Hour)
	buckets := make([]policy.Limit, 3)
	for i := range buckets {
		buckets[i] = policy.TokenBucket(1000, time.Duration(i+1)*time.Minute).WithBurst(10_000_000)
	}
	cases := []struct {
		name   string
		limits []policy.Limit
		settle int  // so many of the last limits, which is measured instead
		after  bool // unless it is to be left only
		held   int
	}{
		{name: "rate", limits: []policy.Limit{rate}},
		{name: "bucket", limits: buckets[:1]},
		{name: "3buckets", limits: buckets},
		{name: "slot", limits: []policy.Limit{slot}, settle: 1, after: true},
		{name: "both", limits: []policy.Limit{rate, slot}, settle: 1, after: true},
		{name: "both4", limits: []policy.Limit{rate, slot}, settle: 1, after: true, held: 3},
		{name: "leave", limits: []policy.Limit{rate, slot}, settle: 1},
		{name: "settle", limits: []policy.Limit{rate}, settle: 1},
	}
	ctx := context.Background()
	spent := regexp.MustCompile(`cmdstat_evalsha:calls=\d+,usec=(\d+)`)
	usec := func() float64 {
		m := spent.FindStringSubmatch(rdb.Info(ctx, "commandstats").Val())
		if m == nil {
			return 0
		}
		n, _ := strconv.ParseFloat(m[1], 64)
		return n
	}
	carry := func(s *Store, calls []*call) {
		f := flightPool.Get().(*flight)
		for len(calls) > 0 {
			n := min(group, len(calls))
			f.calls = append(f.calls[:0], calls[:n]...)
			s.route.Load().single.carry(f)
			calls = calls[n:]
		}
		flightPool.Put(f)
	}
	stores := make([]*Store, len(cases))
	charges := make([][]policy.Charge, len(cases))
	takes := func(i int) []*call {
		calls := make([]*call, keys)
		for k := range calls {
			c := newCall()
			c.kind, c.ticket, c.route = kindTake, policy.NewTicket(), stores[i].route.Load()
			c.deadline = time.Now().Add(time.Hour)
			for j := range cases[i].limits {
				charge := charges[i][k*len(cases[i].limits)+j]
				c.add(stores[i], charge.Key, &charge).first = j
			}
			calls[k] = c
		}
		return calls
	}
	done := func(calls []*call) {
		for _, c := range calls {
			<-c.done
			if c.err != nil || c.status != statusAllowed {
				b.Fatal(c.status, c.err)
			}
		}
	}
	for i, bc := range cases {
		stores[i] = Options{Namespace: bc.name, Timeout: 5 * time.Second}.New(rdb)
		defer stores[i].Close()
		for k := range keys {
			for _, l := range bc.limits {
				charges[i] = append(charges[i], policy.Charge{Limit: l, Scope: scope, Key: fmt.Sprint("key", k), Units: 1})
			}
		}
		for range bc.held {
			calls := takes(i)
			carry(stores[i], calls)
			done(calls)
		}
	}
	spentOn := make([][]float64, len(cases))
	ratios := make([][]float64, len(cases))
	for b.Loop() {
		for i, bc := range cases {
			calls := takes(i)
			start := usec()
			carry(stores[i], calls)
			total := usec() - start
			done(calls)
			if bc.settle > 0 {
				settles := make([]*call, keys)
				for k, c := range calls {
					r := c.refund()
					r.deadline = time.Now().Add(time.Hour)
					r.items = r.items[len(r.items)-bc.settle:]
					settles[k] = r
				}
				start := usec()
				carry(stores[i], settles)
				if !bc.after {
					total = usec() - start
				}
				done(settles)
			}
			spentOn[i] = append(spentOn[i], total/keys)
			ratios[i] = append(ratios[i], total/keys/spentOn[0][len(spentOn[0])-1])
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, bc := range cases {
		slices.Sort(spentOn[i])
		slices.Sort(ratios[i])
		b.ReportMetric(spentOn[i][len(spentOn[i])/2], bc.name+"-µs")
		if i > 0 {
			b.ReportMetric(ratios[i][len(ratios[i])/2], bc.name+":rate")
		}
	}
}
