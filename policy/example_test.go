package policy_test

import (
	"fmt"
	"time"

	"github.com/stint-go/stint/policy"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).UnixMicro()

func Example() {
	limit := policy.PerMinute(60)
	var state policy.State
	state, result := limit.Take(state, noon, 45)
	fmt.Println(result.Verdict, result.Remaining)
	_, result = limit.Take(state, noon, 20)
	fmt.Println(result.Verdict, result.RetryAfter)
	// Output:
	// allowed 15
	// refused 1m6.666667s
}

func ExampleTokenBucket() {
	limit := policy.TokenBucket(1, time.Second).WithBurst(3)
	var state policy.State
	for _, second := range []int64{0, 0, 0, 0, 1, 1} {
		var r policy.Result
		state, r = limit.Take(state, noon+second*1_000_000, 1)
		fmt.Println(second, r.Verdict, r.Remaining, r.RetryAfter)
	}
	// Output:
	// 0 allowed 2 0s
	// 0 allowed 1 0s
	// 0 allowed 0 0s
	// 0 refused 0 1s
	// 1 allowed 0 0s
	// 1 refused 0 1s
}

func ExampleSlidingWindow() {
	limit := policy.SlidingWindow(10, time.Minute)
	state, _ := limit.Take(policy.State{}, noon, 10)
	for _, seconds := range []int64{59, 60, 66, 90, 120} {
		fmt.Println(seconds, limit.Peek(state, noon+seconds*1_000_000, 0).Remaining)
	}
	// Output:
	// 59 0
	// 60 0
	// 66 1
	// 90 5
	// 120 10
}

func ExampleSlidingLog() {
	limit := policy.SlidingLog(2, time.Minute)
	state, _ := limit.Take(policy.State{}, noon, 1)
	state, _ = limit.Take(state, noon+20_000_000, 1)
	_, r := limit.Take(state, noon+30_000_000, 1)
	fmt.Println(r.Verdict, r.RetryAfter)
	// Output: refused 30s
}

func ExampleFixedWindow() {
	limit := policy.FixedWindow(2, time.Hour)
	state, _ := limit.Take(policy.State{}, noon+50*60_000_000, 2)
	_, r := limit.Take(state, noon+51*60_000_000, 1)
	fmt.Println(r.Verdict, r.RetryAfter)
	// Output: refused 9m0s
}

func ExamplePerSecond() {
	fmt.Println(policy.PerSecond(5))
	// Output: 5 per second
}

func ExamplePerMinute() {
	fmt.Println(policy.PerMinute(60))
	// Output: 60 per minute
}

func ExamplePerHour() {
	fmt.Println(policy.PerHour(600))
	// Output: 600 per hour
}

func ExamplePerDay() {
	fmt.Println(policy.PerDay(5000))
	// Output: 5000 per day
}

func ExampleLimit_WithBurst() {
	fmt.Println(policy.TokenBucket(60, time.Minute).WithBurst(120))
	fmt.Println(policy.PerMinute(60).WithBurst(120).Validate())
	// Output:
	// 60 per minute, burst 120
	// policy: sliding window limit "window-1m": it has no burst: write TokenBucket(n, per).WithBurst(b)
}

func ExampleLimit_Named() {
	soft, hard := policy.PerMinute(60).Named("soft"), policy.PerMinute(600)
	fmt.Println(soft.Name(), hard.Name())
	// Output: soft window-1m
}

func ExampleLimit_CountRefused() {
	limit := policy.FixedWindow(2, time.Minute).CountRefused()
	state, _ := limit.Take(policy.State{}, noon, 2)
	_, r := limit.Take(state, noon, 1)
	fmt.Println(r.Verdict, r.Used)
	// Output: refused 3
}

func ExampleLimit_Settle() {
	limit := policy.PerMinute(100)
	state, taken := limit.Take(policy.State{}, noon, 10)
	// The request turned out to cost 3.
	_, r := limit.Settle(state, noon+1_000_000, taken.Receipt, 10, 3)
	fmt.Println(r.Used)
	// Output: 3
}

func ExampleLimit_Peek() {
	limit := policy.PerMinute(100)
	state, _ := limit.Take(policy.State{}, noon, 90)
	r := limit.Peek(state, noon, 20)
	fmt.Println(r.Verdict, r.Remaining)
	// Output: refused 10
}

func ExampleLimit_Validate() {
	fmt.Println(policy.PerMinute(0).Validate())
	fmt.Println(policy.SlidingLog(50_000, time.Hour).Validate())
	// Output:
	// policy: sliding window limit "window-1m": number 0: write one from 1 to 1000000000000
	// policy: sliding log limit "log-1h": number 50000: a sliding log holds at most 10000; write SlidingWindow, whose state is two counts
}

func ExampleTiers() {
	tiers := policy.Tiers{
		"basic":   {policy.PerMinute(60), policy.PerHour(600)},
		"premium": {policy.PerMinute(300), policy.PerHour(3000)},
	}
	fmt.Println(tiers.Validate(), tiers["basic"])
	// Output: <nil> [60 per minute 600 per hour]
}

func ExampleValidateLimits() {
	fmt.Println(policy.ValidateLimits([]policy.Limit{policy.PerMinute(60), policy.PerMinute(600)}))
	// Output: policy: two limits named "window-1m" (60 per minute and 600 per minute): tell them apart with Named
}

func ExampleNewScope() {
	fmt.Println(policy.NewScope("api", "per_key"))
	// Output: api/per_key
}

func ExampleDecision_Binding() {
	d := policy.Decision{Results: []policy.Result{
		{Verdict: policy.Allowed, Remaining: 50, Capacity: 60},
		{Verdict: policy.Refused, RetryAfter: 4 * time.Second},
	}}
	fmt.Println(d.Binding(), d.RetryAfter())
	// Output: 1 4s
}

func ExampleQuota() {
	limit := policy.Quota(25_000, policy.Monthly)
	state, _ := limit.Take(policy.State{}, noon, 24_990)
	_, r := limit.Take(state, noon, 20)
	fmt.Println(limit, r.Verdict, r.Remaining, time.UnixMicro(noon).Add(r.RetryAfter).UTC())

	// The customer changes to a larger plan: what was used stays.
	plan := policy.Quota(100_000, policy.Monthly)
	_, r = plan.Take(state, noon, 20)
	fmt.Println(plan, r.Verdict, r.Remaining)

	fmt.Println(policy.Quota(policy.Unlimited, policy.Daily))
	// Output:
	// 25000 per month refused 10 2026-12-01 00:00:00 +0000 UTC
	// 100000 per month allowed 74990
	// unlimited per calendar day
}

func ExamplePeriod() {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		fmt.Println(err)
		return
	}
	period := policy.Monthly.From(31).In(berlin)
	start, end := period.Bounds(time.Date(2026, time.March, 1, 0, 0, 0, 0, berlin))
	fmt.Println(period)
	fmt.Println(start.In(berlin))
	fmt.Println(end.In(berlin))
	// Output:
	// month from the 31st, Europe/Berlin
	// 2026-02-28 00:00:00 +0100 CET
	// 2026-03-31 00:00:00 +0200 CEST
}

func ExamplePeriod_FromWeekday() {
	start, end := policy.Weekly.FromWeekday(time.Sunday).Bounds(time.UnixMicro(noon))
	fmt.Println(start.Format(time.RFC1123), "to", end.Format(time.RFC1123))
	// Output: Sun, 15 Nov 2026 00:00:00 UTC to Sun, 22 Nov 2026 00:00:00 UTC
}

func ExamplePeriod_FromDate() {
	start, end := policy.Yearly.FromDate(time.April, 1).Bounds(time.UnixMicro(noon))
	fmt.Println(start.Format(time.DateOnly), "to", end.Format(time.DateOnly))
	// Output: 2026-04-01 to 2027-04-01
}

func ExampleLimit_Usage() {
	limit := policy.Quota(1000, policy.Daily)
	state, _ := limit.Take(policy.State{}, noon, 700)
	tomorrow := noon + 24*time.Hour.Microseconds()
	state, _ = limit.Take(state, tomorrow, 30)
	usage := limit.Usage(state, tomorrow)
	fmt.Println(usage.Start.Format(time.DateOnly), usage.Used)
	fmt.Println(usage.PreviousStart.Format(time.DateOnly), usage.Previous)
	// Output:
	// 2026-11-21 30
	// 2026-11-20 700
}

func ExampleLimit_Scaled() {
	limit := policy.TokenBucket(60, time.Minute).WithBurst(90)
	half := limit.Scaled(policy.Whole / 2)
	fmt.Println(half, half.Largest(), half.Whole() == limit)

	state, result := half.Take(policy.State{}, 0, 30)
	fmt.Println(result.Verdict, result.Remaining)
	_, result = limit.Take(state, 0, 30) // whole again: what was used stays used
	fmt.Println(result.Verdict, result.Remaining)
	// Output:
	// 30 per minute, burst 45, reduced from 60 90 true
	// allowed 15
	// allowed 30
}

func ExampleLockout() {
	l := policy.Lockout(3, 15*time.Minute, time.Hour, 24*time.Hour)
	fmt.Println(l)
	now := time.Date(2026, 3, 14, 9, 0, 0, 0, time.UTC).UnixMicro()
	var s policy.State
	for range 4 {
		var r policy.Result
		s, r = l.Take(s, now, 1) // a try
		fmt.Println(r.Verdict, r.Remaining, r.Blocked, r.RetryAfter.Round(5*time.Minute))
		if r.Verdict == policy.Allowed {
			s, _ = l.Settle(s, now, r.Receipt, 1, 1) // a failure
		}
	}
	// Output:
	// 3 failures per 15 minutes, then blocked for 1h, 1d
	// allowed 2 false 0s
	// allowed 1 false 0s
	// allowed 0 false 0s
	// refused 0 true 1h0m0s
}
