package policy_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
)

func drawPeriod(t *rapid.T) policy.Period {
	p := rapid.SampledFrom(append(anchors(), policy.Daily, policy.Daily, policy.Weekly, policy.Monthly)).Draw(t, "period")
	loc, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
	require.NoError(t, err)
	return p.In(loc)
}

func drawQuota(t *rapid.T, p policy.Period) policy.Limit {
	l := policy.Quota(rapid.OneOf(rapid.Int64Range(1, 12), rapid.Int64Range(1, policy.MaxUnits), rapid.Just(policy.Unlimited)).Draw(t, "n"), p)
	if rapid.IntRange(0, 3).Draw(t, "refusals") == 0 {
		l = l.CountRefused()
	}
	return l
}

// quotaOracle remembers what was charged and when, and counts by the calendar.
type quotaOracle struct {
	period  policy.Period
	history []policy.Entry
}

// used counts what was charged in the period that holds an instant.
func (o *quotaOracle) used(at int64) (n int64) {
	start, end := o.period.Bounds(time.UnixMicro(at))
	for _, e := range o.history {
		if t := time.UnixMicro(e.At); !t.Before(start) && t.Before(end) {
			n += e.Units
		}
	}
	return n
}

func (o *quotaOracle) usage(at int64) policy.Usage {
	start, end := o.period.Bounds(time.UnixMicro(at))
	before, _ := o.period.Bounds(start.Add(-time.Microsecond))
	return policy.Usage{
		Start: start, End: end, Used: o.used(at),
		PreviousStart: before, Previous: o.used(start.UnixMicro() - 1),
	}
}

func drawQuotaStep(t *rapid.T, p policy.Period, now int64) int64 {
	start, end := p.Bounds(time.UnixMicro(now))
	left, all := end.UnixMicro()-now, end.Sub(start).Microseconds()
	return rapid.OneOf(
		rapid.SampledFrom([]int64{0, 1, left - 1, left, left + 1}), rapid.Int64Range(0, left), rapid.Int64Range(0, 3*all),
	).Draw(t, "step")
}

// Every answer equals what the history says, in the period and in the one
// before, corrections included, and every wait ends with the period.
func TestQuotaEqualsOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPeriod(t)
		o := &quotaOracle{period: p}
		var s policy.State
		now := rapid.Int64Range(0, time.Date(2085, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()).Draw(t, "start")
		type taken struct {
			entry   int
			receipt policy.Receipt
		}
		var takes []taken
		for range rapid.IntRange(1, 25).Draw(t, "operations") {
			l := drawQuota(t, p) // the number may change at any time, the period not
			now += drawQuotaStep(t, p, now)
			n := rapid.OneOf(rapid.Int64Range(0, 3), rapid.Int64Range(0, min(l.Capacity(), 1<<40)+1)).Draw(t, "units")
			if len(takes) > 0 && rapid.IntRange(0, 2).Draw(t, "settle") == 0 {
				i := rapid.IntRange(0, len(takes)-1).Draw(t, "which")
				e := &o.history[takes[i].entry]
				total := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, 2*e.Units+1)).Draw(t, "total")
				start, _ := p.Bounds(time.UnixMicro(now))
				start, _ = p.Bounds(start.Add(-time.Microsecond))
				var r policy.Result
				s, r = l.Settle(s, now, takes[i].receipt, e.Units, total)
				if !time.UnixMicro(e.At).Before(start) { // in this period or the one before
					e.Units = total
				}
				takes = append(takes[:i:i], takes[i+1:]...)
				require.Equal(t, o.used(now), r.Used, "after a settle")
				require.Equal(t, o.usage(now), l.Usage(s, now))
				continue
			}
			before := o.used(now)
			want := policy.Allowed
			switch {
			case l.N() == policy.Unlimited:
			case n > l.N():
				want = policy.Never
			case n > 0 && before+n > l.N():
				want = policy.Refused
			}
			peeked := l.Peek(s, now, n)
			require.Equal(t, want, peeked.Verdict)
			require.Equal(t, before, peeked.Used)
			next, r := l.Take(s, now, n)
			require.Equal(t, want, r.Verdict)
			cost := int64(0)
			if want == policy.Allowed {
				cost = n
				takes = append(takes, taken{len(o.history), r.Receipt})
			} else if want == policy.Refused && l.CountsRefused() {
				cost = max(0, min(n, 2*l.N()-before))
			}
			if cost == 0 {
				require.Equal(t, s, next)
			}
			s = next
			o.history = append(o.history, policy.Entry{At: now, Units: cost})
			require.Equal(t, before+cost, r.Used)
			require.Equal(t, max(0, l.N()-r.Used), r.Remaining)
			require.Equal(t, o.usage(now), l.Usage(s, now))
			if cost > 0 {
				require.Equal(t, r, l.Report(policy.State{At: s.At, Until: l.DrainedAt(s), A: s.A, B: s.B}, now, n, r.Verdict, r.Verdict == policy.Allowed))
			}

			usage := l.Usage(s, now)
			left := usage.End.UnixMicro() - now
			if r.Used > 0 {
				require.Equal(t, left, micros(r.NextAfter))
				require.Equal(t, left, micros(r.ResetAfter))
				_, following := p.Bounds(usage.End)
				require.Equal(t, following.UnixMicro(), s.Until, "until the next period is over")
			}
			if want == policy.Refused {
				require.Equal(t, left, micros(r.RetryAfter))
				require.Equal(t, policy.Allowed, l.Peek(s, now+left, n).Verdict)
				require.Equal(t, policy.Refused, l.Peek(s, now+left-1, n).Verdict)
			}
		}
	})
}

func TestQuotaUntil(t *testing.T) {
	t.Parallel()
	l := policy.Quota(10, policy.Monthly)
	on := func(month time.Month, day int) int64 {
		return time.Date(2026, month, day, 0, 0, 0, 0, time.UTC).UnixMicro()
	}
	s, r := l.Take(policy.State{}, on(1, 20), 4)
	require.Equal(t, on(3, 1), s.Until, "February can still read and correct January")
	s, february := l.Take(s, on(2, 5), 3)
	require.Equal(t, on(4, 1), s.Until)
	require.Equal(t, int64(4), s.C)
	s, _ = l.Settle(s, on(2, 6), r.Receipt, 4, 1)
	require.Equal(t, int64(1), l.Usage(s, on(2, 6)).Previous)
	s, _ = l.Settle(s, on(2, 6), february.Receipt, 3, 0)
	require.Equal(t, on(3, 1), s.Until, "only January is left")
	s, _ = l.Settle(s, on(2, 6), r.Receipt, 1, 0)
	require.Equal(t, on(2, 6), s.Until, "nothing is")
	s, _ = l.Settle(s, on(3, 1), r.Receipt, 0, 9)
	require.Zero(t, l.Usage(s, on(3, 1)).Previous, "January is over for good")
	s, _ = l.Settle(s, on(3, 1), february.Receipt, 0, 25)
	require.Equal(t, int64(25), l.Usage(s, on(3, 1)).Previous, "may be over the limit")
	require.Equal(t, on(4, 1), s.Until)
}

func TestQuotaSetUsage(t *testing.T) {
	t.Parallel()
	l := policy.Quota(10, policy.Daily)
	s, _ := l.Take(policy.State{}, epoch, 4)
	const day = 86_400_000_000
	s = l.SetUsage(s, epoch+day, 12)
	require.Equal(t, int64(12), l.Usage(s, epoch+day).Used)
	require.Equal(t, int64(4), l.Usage(s, epoch+day).Previous)
	require.Equal(t, policy.Refused, l.Peek(s, epoch+day, 1).Verdict)
	s = l.SetUsage(s, epoch+day, 0)
	require.Equal(t, int64(4), l.Usage(s, epoch+day).Previous)
	s = l.SetUsage(policy.State{}, epoch, math.MaxInt64)
	require.Equal(t, int64(1<<50), l.Usage(s, epoch).Used)
	require.Equal(t, l.Usage(policy.State{}, epoch).End, l.Usage(s, epoch).End)
}

// Unlimited quotas count what does not fit into a number, as far as that goes.
func TestQuotaUnlimited(t *testing.T) {
	t.Parallel()
	l := policy.Quota(policy.Unlimited, policy.Monthly)
	require.NoError(t, l.Validate())
	require.Equal(t, policy.Unlimited, l.N())
	var s policy.State
	var r policy.Result
	for _, n := range []int64{5, policy.MaxUnits, 1 << 53, math.MaxInt64, math.MaxInt64, 1} {
		s, r = l.Take(s, epoch, n)
		require.Equal(t, policy.Allowed, r.Verdict)
		require.Equal(t, policy.Unlimited, r.Limit)
		require.Equal(t, s.A, r.Used)
		require.Positive(t, r.Remaining)
	}
	require.Equal(t, int64(1<<50), s.A)
	s, r = l.Settle(s, epoch, r.Receipt, 1, math.MaxInt64)
	require.Equal(t, int64(1<<50), r.Used)
	require.Equal(t, int64(1<<50), s.A)

	_, full := policy.Quota(policy.Unlimited, policy.Daily).Take(policy.State{}, epoch, 7)
	_, unused := policy.PerMinute(60).Take(policy.State{}, epoch, 0)
	require.False(t, full.Tighter(unused), "it binds nobody")
	require.True(t, unused.Tighter(full))
	require.False(t, full.Tighter(full))
	require.False(t, full.Tighter(policy.Result{Verdict: policy.Refused}))
}

func TestQuotaDescribed(t *testing.T) {
	t.Parallel()
	berlin := zone(t, "Europe/Berlin")
	for _, tc := range []struct {
		limit      policy.Limit
		name, says string
	}{
		{policy.Quota(25_000, policy.Monthly), "quota-month", "25000 per month"},
		{policy.Quota(25_000, policy.Monthly.From(15).In(berlin)), "quota-month-15", "25000 per month from the 15th, Europe/Berlin"},
		{policy.Quota(policy.Unlimited, policy.Monthly), "quota-month", "unlimited per month"},
		{policy.Quota(5, policy.Daily).CountRefused(), "quota-day", "5 per calendar day, refusals counted"},
		{policy.Quota(5, policy.Weekly), "quota-week", "5 per week"},
		{policy.Quota(5, policy.Weekly.FromWeekday(time.Sunday)), "quota-week-sun", "5 per week from Sunday"},
		{policy.Quota(5, policy.Yearly), "quota-year", "5 per year"},
		{policy.Quota(5, policy.Yearly.FromDate(time.April, 1)), "quota-year-04-01", "5 per year from 1 April"},
	} {
		require.NoError(t, tc.limit.Validate())
		require.Equal(t, tc.name, tc.limit.Name())
		require.Equal(t, tc.says, tc.limit.String())
		require.Equal(t, policy.AlgorithmQuota, tc.limit.Algorithm())
		require.Zero(t, tc.limit.Window())
	}
	require.Equal(t, "quota", policy.AlgorithmQuota.String())
	require.Equal(t, policy.Period{}, policy.PerMinute(1).Period())
	require.Equal(t, policy.Monthly.In(berlin), policy.Quota(1, policy.Monthly.In(berlin)).Period())
}

func TestQuotaValidate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		n      int64
		period policy.Period
		want   string
	}{
		{"none", 0, policy.Monthly, `policy: quota limit "quota-month": number 0: write one from 1 to 1000000000000, or Unlimited`},
		{"too many", policy.MaxUnits + 1, policy.Monthly, "or Unlimited"},
		{"beyond unlimited", policy.Unlimited + 1, policy.Monthly, "or Unlimited"},
		{"no period", 1, policy.Period{}, "zero Period: write Daily, Weekly, Monthly or Yearly"},
		{"local", 1, policy.Monthly.In(time.Local), "time zone Local: processes may differ"},
		{"no zone", 1, policy.Monthly.In(nil), "look at the error of time.LoadLocation"},
		{"a zone that is none", 1, policy.Monthly.In(time.FixedZone("far", 27*3600)), `time zone "far": it is over 26 hours from UTC`},
		{"day 0", 1, policy.Monthly.From(0), "from day 0 of the month: write one from 1 to 31"},
		{"day 32", 1, policy.Monthly.From(32), "from day 32"},
		{"a week's day", 1, policy.Weekly.From(3), "a week has no From: write Monthly.From(day)"},
		{"a day's day", 1, policy.Daily.FromWeekday(time.Friday), "a day has no FromWeekday"},
		{"no weekday", 1, policy.Weekly.FromWeekday(7), "from %!Weekday(7): write a day"},
		{"30 February", 1, policy.Yearly.FromDate(time.February, 30), "from day 30 of February: write one from 1 to 29"},
		{"month 13", 1, policy.Yearly.FromDate(13, 1), "from month 13"},
		{"a month's date", 1, policy.Monthly.FromDate(time.May, 1), "a month has no FromDate: write Yearly.FromDate"},
		{"the first fault", 1, policy.Monthly.From(0).In(nil), "from day 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, policy.Quota(tc.n, tc.period).Validate(), tc.want)
		})
	}
	require.ErrorContains(t, policy.Quota(5, policy.Monthly).WithBurst(9).Validate(), "no burst")
}

// A plan change keeps the usage, another period starts afresh.
func TestQuotaID(t *testing.T) {
	t.Parallel()
	base := policy.Quota(10, policy.Monthly).Named("q")
	same := []policy.Limit{
		policy.Quota(20, policy.Monthly).Named("q"), policy.Quota(policy.Unlimited, policy.Monthly.From(1).In(time.UTC)).Named("q"), base.CountRefused(),
	}
	for _, l := range same {
		require.Equal(t, base.ID(), l.ID())
	}
	ids := map[uint64]policy.Period{base.ID(): policy.Monthly}
	periods := anchors()
	for _, p := range anchors() {
		for _, loc := range []*time.Location{zone(t, "Europe/Berlin"), zone(t, "Europe/Vienna"), time.FixedZone("X", 3600), time.FixedZone("X", 7200), time.FixedZone("", 60)} {
			periods = append(periods, p.In(loc))
		}
	}
	for _, p := range periods {
		l := policy.Quota(10, p).Named("q")
		if other, ok := ids[l.ID()]; ok && other != p {
			t.Errorf("%v and %v have one state", p, other)
		}
		ids[l.ID()] = p
	}
	require.NotEqual(t, base.ID(), base.Named("other").ID())
	require.Equal(t, policy.Quota(1, policy.Daily.In(zone(t, "Asia/Tokyo"))).ID(), policy.Quota(1, policy.Daily.In(zone(t, "Asia/Tokyo"))).ID())
}

func TestCheckUsage(t *testing.T) {
	t.Parallel()
	month := policy.Charge{Limit: policy.Quota(10, policy.Monthly), Key: "k"}
	minute := policy.Charge{Limit: policy.PerMinute(10), Key: "k"}
	require.NoError(t, policy.CheckUsage([]policy.Charge{month, month}, 0))
	require.ErrorContains(t, policy.CheckUsage([]policy.Charge{month, minute}, 0), `charge 1 (): usage of "window-1m", which is a sliding window: write a charge of a Quota`)
	require.ErrorContains(t, policy.CheckUsage(make([]policy.Charge, policy.MaxCharges+1), 0), "65 charges at once: write at most 64")
	require.ErrorContains(t, policy.CheckUsage([]policy.Charge{month}, -1), "negative usage of -1")
	require.ErrorContains(t, policy.CheckUsage([]policy.Charge{{}}, 0), "zero Limit")
}
