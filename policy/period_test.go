package policy_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
)

// zones are those whose clocks do what periods have to get over: midnights that
// do not exist or exist twice, days that were skipped, half-hour changes, odd
// offsets, changes in the southern summer, twice a year for a month.
var zones = []string{
	"Europe/Berlin", "Europe/London", "America/New_York", "America/Sao_Paulo", "America/St_Johns", "America/Havana",
	"America/Santiago", "America/Asuncion", "America/Scoresbysund", "America/Juneau", "Asia/Beirut", "Asia/Amman", "Asia/Gaza",
	"Asia/Tehran", "Asia/Kathmandu", "Asia/Kolkata", "Asia/Pyongyang", "Asia/Manila", "Africa/Cairo", "Africa/Casablanca",
	"Africa/Monrovia", "Atlantic/Azores", "Antarctica/Troll", "Australia/Lord_Howe", "Australia/Sydney", "Pacific/Apia",
	"Pacific/Kwajalein", "Pacific/Kiritimati", "Pacific/Chatham", "Pacific/Auckland", "Etc/GMT+12", "UTC",
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	require.NoError(t, err)
	return loc
}

// anchors are periods of every unit and from every day that there is.
func anchors() (periods []policy.Period) {
	periods = append(periods, policy.Daily)
	for day := range 7 {
		periods = append(periods, policy.Weekly.FromWeekday(time.Weekday(day)))
	}
	for day := range 31 {
		periods = append(periods, policy.Monthly.From(day+1))
	}
	for month := range 12 {
		for _, day := range []int{1, 15, 28, 29, 30, 31} {
			if p := policy.Yearly.FromDate(time.Month(month+1), day); policy.Quota(1, p).Validate() == nil {
				periods = append(periods, p)
			}
		}
	}
	return periods
}

// A day of a calendar that is counted up, day by day, from a Thursday in 1970.
type day struct{ year, month, day, weekday int }

func (d day) next() day {
	lengths := [...]int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
	if leap := d.year%400 == 0 || d.year%4 == 0 && d.year%100 != 0; leap {
		lengths[1] = 29
	}
	d.weekday = (d.weekday + 1) % 7
	if d.day++; d.day > lengths[d.month-1] {
		d.day, d.month = 1, d.month+1
	}
	if d.month > 12 {
		d.month, d.year = 1, d.year+1
	}
	return d
}

// begins tells whether a period begins on the day, in the words of the
// documentation.
func begins(p policy.Period, d day, from day) bool {
	last := d.next().day == 1
	switch p.Unit() {
	case "week":
		return d.weekday == from.weekday
	case "month":
		return d.day == from.day || last && from.day > d.day
	case "year":
		return d.month == from.month && (d.day == from.day || last && from.day > d.day)
	}
	return true
}

// An anchor is a period with the numbers that it was made from.
type anchored struct {
	period policy.Period
	from   day
}

func someAnchors(r *rand.Rand, n int) (all []anchored) {
	all = append(all, anchored{period: policy.Daily})
	for range n {
		weekday, monthDay, month, date := r.IntN(7), 1+r.IntN(31), 1+r.IntN(12), 1+r.IntN(31)
		all = append(all,
			anchored{policy.Weekly.FromWeekday(time.Weekday(weekday)), day{weekday: weekday}},
			anchored{policy.Monthly.From(monthDay), day{day: monthDay}})
		if p := policy.Yearly.FromDate(time.Month(month), date); policy.Quota(1, p).Validate() == nil {
			all = append(all, anchored{p, day{month: month, day: date}})
		}
	}
	return append(all,
		anchored{policy.Monthly.From(31), day{day: 31}}, anchored{policy.Monthly.From(30), day{day: 30}},
		anchored{policy.Monthly.From(29), day{day: 29}}, anchored{policy.Yearly.FromDate(time.February, 29), day{month: 2, day: 29}})
}

// last is the year up to which a zone is looked at: most end before the middle
// of the century, where its rules have begun to repeat themselves.
func last(zone int) int {
	if zone%6 == 0 && !testing.Short() {
		return 2200
	}
	return 2045
}

// midnights returns the first instants at which a zone's clocks show each day
// since 1970 or a later one, by looking at them: every few hours, and every
// minute and second where they were changed.
func midnights(loc *time.Location, year int) (first []int64) {
	offset := func(at int64) int64 {
		_, o := time.Unix(at, 0).In(loc).Zone()
		return int64(o)
	}
	reads := func(at int64) int64 { return at + offset(at) } // as seconds since their 1970
	due := func() int64 { return int64(len(first)+1) * 86400 }
	const step, minute = 6 * 3600, 60
	end := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	before := offset(0)
	for at := int64(0); at < end; at += step {
		after := offset(at + step)
		if before == after {
			for due()-before < at+step {
				first = append(first, max(due()-before, at))
			}
			continue
		}
		before = after
		for m := at; m < at+step; m += minute {
			for reads(m+minute) >= due() || reads(m) >= due() {
				s := m
				for reads(s) < due() {
					s++
				}
				first = append(first, s)
			}
		}
	}
	return first
}

// TestPeriodBounds holds periods in many zones to a calendar that is counted day
// by day, and to midnights that are found by looking at the clock.
func TestPeriodBounds(t *testing.T) {
	t.Parallel()
	for i, name := range zones {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			loc := zone(t, name)
			midnight := midnights(loc, last(i))
			require.Greater(t, len(midnight), (last(i)-1970)*365)
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for _, a := range someAnchors(r, 3) {
				p := a.period.In(loc)
				d := day{1970, 1, 1, 4}
				var starts []int64
				for _, at := range midnight {
					d = d.next()
					if begins(p, d, a.from) && (len(starts) == 0 || starts[len(starts)-1] != at) {
						starts = append(starts, at) // a day that was skipped is none
					}
				}
				require.NotEmpty(t, starts)
				for k := range starts[1:] {
					start, end := time.Unix(starts[k], 0), time.Unix(starts[k+1], 0)
					within := start.Add(time.Duration(r.Int64N(int64(end.Sub(start)))))
					for _, at := range []time.Time{start, within, end.Add(-time.Microsecond)} {
						s, e := p.Bounds(at)
						if !s.Equal(start) || !e.Equal(end) {
							t.Fatalf("%v holds %v from %v to %v, want %v to %v", p, at.In(loc), s.In(loc), e.In(loc), start.In(loc), end.In(loc))
						}
					}
				}
			}
		})
	}
}

// Periods from every day follow each other, one beginning as the other ends.
func TestPeriodsPartitionTime(t *testing.T) {
	t.Parallel()
	for i, name := range zones {
		loc := zone(t, name)
		for _, p := range anchors() {
			if p == policy.Daily {
				continue // TestPeriodBounds has all of these
			}
			p = p.In(loc)
			at := time.Date(1971, 5, 6, 7, 8, 9, 0, time.UTC)
			for at.Year() < last(i) {
				start, end := p.Bounds(at)
				next, _ := p.Bounds(end)
				before, _ := p.Bounds(end.Add(-time.Microsecond))
				if !start.Before(end) || next != end || before != start {
					t.Fatalf("%v: %v to %v, then from %v; its end began at %v", p, start, end, next, before)
				}
				at = end
				if p.Unit() == "week" {
					at = at.AddDate(0, 3, 0)
				}
			}
		}
	}
}

func TestPeriodOddMidnights(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, zone, at, start, end string
		period                     policy.Period
	}{
		{"a midnight that is skipped", "America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z", policy.Daily},
		{"the day before it", "America/Sao_Paulo", "2018-11-04T02:59:59Z", "2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z", policy.Daily},
		{"a month that begins so", "America/Havana", "2012-04-02T00:00:00Z", "2012-04-01T05:00:00Z", "2012-05-01T04:00:00Z", policy.Monthly},
		{"Beirut", "Asia/Beirut", "2022-03-27T12:00:00Z", "2022-03-26T22:00:00Z", "2022-03-27T21:00:00Z", policy.Daily},
		{"Cairo", "Africa/Cairo", "2024-04-26T12:00:00Z", "2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z", policy.Daily},
		{"midnight is seen twice", "America/St_Johns", "2010-11-07T02:31:30Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z", policy.Daily},
		{"a month that begins so", "America/Havana", "2020-11-01T05:30:00Z", "2020-11-01T04:00:00Z", "2020-12-01T05:00:00Z", policy.Monthly},
		{"a day that is skipped", "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z", policy.Daily},
		{"the day after it", "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z", policy.Daily},
		{"months from a day that is skipped", "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2012-01-29T10:00:00Z", policy.Monthly.From(30)},
		{"Kwajalein", "Pacific/Kwajalein", "1993-08-21T12:00:00Z", "1993-08-21T12:00:00Z", "1993-08-22T12:00:00Z", policy.Daily},
		{"the end of February", "UTC", "2028-02-29T00:00:00Z", "2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z", policy.Monthly.From(31)},
		{"of no leap year", "UTC", "2100-03-01T00:00:00Z", "2100-02-28T00:00:00Z", "2100-03-29T00:00:00Z", policy.Monthly.From(29)},
		{"a year from its last February day", "UTC", "2027-06-01T00:00:00Z", "2027-02-28T00:00:00Z", "2028-02-29T00:00:00Z", policy.Yearly.FromDate(time.February, 29)},
	} {
		t.Run(tc.zone+" "+tc.name, func(t *testing.T) {
			t.Parallel()
			at, err := time.Parse(time.RFC3339, tc.at)
			require.NoError(t, err)
			start, end := tc.period.In(zone(t, tc.zone)).Bounds(at)
			require.Equal(t, []string{tc.start, tc.end}, []string{start.Format(time.RFC3339), end.Format(time.RFC3339)})
		})
	}
}

// Two of one zone are one, whoever loaded it, and go by its name.
func TestPeriodComparable(t *testing.T) {
	t.Parallel()
	one, two := zone(t, "Europe/Berlin"), zone(t, "Europe/Berlin")
	require.NotSame(t, one, two)
	require.True(t, policy.Monthly.In(one) == policy.Monthly.In(two))
	require.True(t, policy.Quota(5, policy.Monthly.In(one)) == policy.Quota(5, policy.Monthly.In(two)))
	require.True(t, policy.Monthly.In(time.UTC) == policy.Monthly)
	require.True(t, policy.Monthly.From(1) == policy.Monthly)
	require.True(t, policy.Weekly.FromWeekday(time.Monday) == policy.Weekly)
	require.True(t, policy.Yearly.FromDate(time.January, 1) == policy.Yearly)
	hour, again := time.FixedZone("X", 3600), time.FixedZone("X", 3600)
	require.True(t, policy.Monthly.In(hour) == policy.Monthly.In(again))
	require.False(t, policy.Monthly.In(time.FixedZone("X", 3600)) == policy.Monthly.In(time.FixedZone("X", 7200)))
}

func TestPeriodString(t *testing.T) {
	t.Parallel()
	berlin := zone(t, "Europe/Berlin")
	for want, p := range map[string]policy.Period{
		"no period":                          {},
		"calendar day":                       policy.Daily,
		"calendar day, Europe/Berlin":        policy.Daily.In(berlin),
		"week":                               policy.Weekly,
		"week from Sunday":                   policy.Weekly.FromWeekday(time.Sunday),
		"month":                              policy.Monthly,
		"month from the 2nd":                 policy.Monthly.From(2),
		"month from the 11th":                policy.Monthly.From(11),
		"month from the 15th, Europe/Berlin": policy.Monthly.From(15).In(berlin),
		"month from the 23rd":                policy.Monthly.From(23),
		"month from the 31st":                policy.Monthly.From(31),
		"year":                               policy.Yearly,
		"year from 1 April, Europe/Berlin":   policy.Yearly.In(berlin).FromDate(time.April, 1),
		"year from 29 February":              policy.Yearly.FromDate(time.February, 29),
		"year from 31 January":               policy.Yearly.FromDate(time.January, 31),
	} {
		require.Equal(t, want, p.String())
	}
}

func BenchmarkPeriodBounds(b *testing.B) {
	now := time.Date(2026, 8, 7, 6, 5, 4, 0, time.UTC)
	for _, name := range []string{"UTC", "Europe/Berlin", "Asia/Kolkata"} {
		for _, p := range []policy.Period{policy.Daily, policy.Weekly, policy.Monthly, policy.Yearly} {
			p = p.In(zone(b, name))
			b.Run(p.Unit()+" "+name, func(b *testing.B) {
				for b.Loop() {
					p.Bounds(now)
				}
			})
		}
	}
	b.Run("In Europe/Berlin", func(b *testing.B) {
		loc := zone(b, "Europe/Berlin")
		for b.Loop() {
			_ = policy.Monthly.In(loc)
		}
	})
}
