package policy

import (
	"fmt"
	"strconv"
	"time"
)

// A Period is a billing period: the days, weeks, months or years of a calendar,
// each of which begins at midnight of its first day, in UTC unless [Period.In]
// says otherwise.
//
//	policy.Monthly                              // from the 1st
//	policy.Monthly.From(15)                     // from the 15th
//	policy.Weekly.FromWeekday(time.Sunday)
//	policy.Yearly.FromDate(time.April, 1).In(berlin)
//
// Periods follow each other without a gap and without an overlap, whatever the
// clocks of their time zone do. A Period is an immutable, comparable value, safe
// for concurrent use. The zero Period is invalid, and [Limit.Validate] of a
// [Quota] says so.
type Period struct {
	zone    zoneHandle // of UTC, the zero one
	problem *string    // why the period is invalid; nil if it is not
	unit    unit
	month   uint8 // of a yearly period
	day     uint8 // of the month, or of the week, which begins on Sunday
}

// A unit is how long a period is.
type unit uint8

const (
	daily unit = iota + 1
	weekly
	monthly
	yearly
)

// The periods, in UTC, each from its calendar's first day. That of a week is
// Monday.
var (
	Daily   = Period{unit: daily}
	Weekly  = Period{unit: weekly, day: uint8(time.Monday)}
	Monthly = Period{unit: monthly, day: 1}
	Yearly  = Period{unit: yearly, month: uint8(time.January), day: 1}
)

// From returns the monthly period that begins on a day of the month, from 1 to
// 31: on the last day of a month that has no such day.
func (p Period) From(day int) Period {
	switch {
	case p.unit != monthly:
		p.fail("a %s has no From: write Monthly.From(day)", p.Unit())
	case day < 1 || day > 31:
		p.fail("from day %d of the month: write one from 1 to 31", day)
	default:
		p.day = uint8(day)
	}
	return p
}

// FromWeekday returns the weekly period that begins on a day of the week.
func (p Period) FromWeekday(day time.Weekday) Period {
	switch {
	case p.unit != weekly:
		p.fail("a %s has no FromWeekday: write Weekly.FromWeekday(day)", p.Unit())
	case day < time.Sunday || day > time.Saturday:
		p.fail("from %s: write a day from Sunday to Saturday", day)
	default:
		p.day = uint8(day)
	}
	return p
}

// FromDate returns the yearly period that begins on a day of the year. From 29
// February it begins on the 28th of years that have no such day.
func (p Period) FromDate(month time.Month, day int) Period {
	const leapYear = 2000
	switch {
	case p.unit != yearly:
		p.fail("a %s has no FromDate: write Yearly.FromDate(month, day)", p.Unit())
	case month < time.January || month > time.December:
		p.fail("from month %d: write one from January to December", int(month))
	case day < 1 || day > monthLength(leapYear, month):
		p.fail("from day %d of %s: write one from 1 to %d", day, month, monthLength(leapYear, month))
	default:
		p.month, p.day = uint8(month), uint8(day)
	}
	return p
}

// In returns the period in the calendar of a time zone, which is known by its
// name from then on. A period begins at midnight there: at the first of two,
// where clocks are set back over it, and where they are set forward over it, as
// soon as they are.
//
// time.Local is invalid, since processes may differ in it. The zone's rules are
// those of 1970 to 2200, and are read at once, which takes about a millisecond:
// write periods where a program starts.
func (p Period) In(loc *time.Location) Period {
	p.zone = zoneHandle{}
	switch {
	case loc == nil:
		p.fail("nil time zone: look at the error of time.LoadLocation")
	case loc == time.Local, loc.String() == "Local":
		p.fail(`time zone Local: processes may differ in it: write time.LoadLocation("Europe/Berlin")`)
	case loc == time.UTC:
	default:
		zone, ok := newZone(loc)
		if !ok {
			p.fail("time zone %q: it is over %d hours from UTC", loc, maxOffset/3600)
			break
		}
		p.zone = zone
	}
	return p
}

// Bounds returns the period that holds an instant: start <= t < end, in UTC.
func (p Period) Bounds(t time.Time) (start, end time.Time) {
	from, to := p.bounds(t.Unix())
	return time.Unix(from, 0).UTC(), time.Unix(to, 0).UTC()
}

// Unit returns "day", "week", "month" or "year", and "" for the zero Period.
func (p Period) Unit() string {
	switch p.unit {
	case daily:
		return "day"
	case weekly:
		return "week"
	case monthly:
		return "month"
	case yearly:
		return "year"
	}
	return ""
}

// String returns the period as a person writes it: "month", "month from the
// 15th, Europe/Berlin", "week from Sunday", "year from 1 April".
func (p Period) String() string {
	s := p.Unit()
	switch first := p.first(); {
	case p.unit == 0:
		return "no period"
	case p.unit == daily:
		s = "calendar day" // and not any 24 hours
	case p.day == first.day && p.month == first.month:
	case p.unit == weekly:
		s += " from " + time.Weekday(p.day).String()
	case p.unit == monthly:
		s += " from the " + ordinal(int(p.day))
	case p.unit == yearly:
		s += " from " + strconv.Itoa(int(p.day)) + " " + time.Month(p.month).String()
	}
	if p.zone != (zoneHandle{}) {
		s += ", " + p.zone.Value().name
	}
	return s
}

// name returns the period as part of a limit's name: "month", "month-15".
func (p *Period) name() string {
	s := p.Unit()
	switch first := p.first(); {
	case p.day == first.day && p.month == first.month:
	case p.unit == weekly:
		s += "-" + [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}[p.day]
	case p.unit == monthly:
		s += "-" + strconv.Itoa(int(p.day))
	case p.unit == yearly:
		s += fmt.Sprintf("-%02d-%02d", p.month, p.day)
	}
	return s
}

// first returns the period of the same unit that begins on the first day.
func (p *Period) first() Period {
	return [...]Period{0: {}, daily: Daily, weekly: Weekly, monthly: Monthly, yearly: Yearly}[p.unit]
}

// appendIdentity appends what tells the period from others: of the zone its name
// and, for the sake of zones that were given one, its offset in 1970. What laws
// say of the zone may change.
func (p *Period) appendIdentity(b []byte) []byte {
	b = append(b, byte(p.unit), p.month, p.day)
	if p.zone != (zoneHandle{}) {
		z := p.zone.Value()
		b = strconv.AppendInt(b, z.offset(0), 10)
		b = append(append(b, ' '), z.name...)
	}
	return append(b, 0)
}

func (p *Period) fail(format string, args ...any) {
	if p.problem == nil {
		problem := fmt.Sprintf(format, args...)
		p.problem = &problem
	}
}

// after returns the first instant after another at which a period begins, both
// in microseconds.
func (p *Period) after(at int64) int64 {
	const micro = 1_000_000
	_, end := p.bounds(floorDiv(at, micro))
	return end * micro
}

// bounds is Bounds in seconds.
func (p *Period) bounds(at int64) (start, end int64) {
	if p.unit == 0 {
		return at, at + 1
	}
	if p.zone == (zoneHandle{}) {
		first, next := p.days(floorDiv(at, secondsPerDay))
		return first * secondsPerDay, next * secondsPerDay
	}
	z := p.zone.Value()
	i := z.find(at)
	first, next := p.days(floorDiv(at+z.offset(i), secondsPerDay))
	end = z.reaches(next, i)
	for end <= at { // clocks were set back over the end
		first = next
		_, next = p.days(first)
		end = z.reaches(next, i)
	}
	return z.reaches(first, i), end
}

// days returns the first day of the period that holds a day, and that of the
// next one, in days since 1970.
func (p *Period) days(day int64) (first, next int64) {
	switch p.unit {
	case weekly:
		const thursday = int64(time.Thursday) // was 1 January 1970
		since := floorMod(day+thursday-int64(p.day), 7)
		return day - since, day - since + 7
	case monthly:
		year, month, _ := time.Unix(day*secondsPerDay, 0).UTC().Date()
		if first = p.date(year, month); first > day {
			return p.date(year, month-1), first
		}
		return first, p.date(year, month+1)
	case yearly:
		year := time.Unix(day*secondsPerDay, 0).UTC().Year()
		if first = p.date(year, time.Month(p.month)); first > day {
			return p.date(year-1, time.Month(p.month)), first
		}
		return first, p.date(year+1, time.Month(p.month))
	}
	return day, day + 1
}

// date returns the day on which the period of a month begins. The month may be
// one beside those of the year.
func (p *Period) date(year int, month time.Month) int64 {
	switch {
	case month < time.January:
		year, month = year-1, time.December
	case month > time.December:
		year, month = year+1, time.January
	}
	day := min(int(p.day), monthLength(year, month))
	return floorDiv(time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix(), secondsPerDay)
}

func monthLength(year int, month time.Month) int {
	switch month {
	case time.April, time.June, time.September, time.November:
		return 30
	case time.February:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// ordinal writes 1 as "1st".
func ordinal(n int) string {
	suffix := "th"
	switch {
	case n/10 == 1:
	case n%10 == 1:
		suffix = "st"
	case n%10 == 2:
		suffix = "nd"
	case n%10 == 3:
		suffix = "rd"
	}
	return strconv.Itoa(n) + suffix
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func floorMod(a, b int64) int64 { return a - floorDiv(a, b)*b }
