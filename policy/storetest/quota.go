package storetest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/stint-go/stint/policy"
)

// Quotas, under the sentences that they share with other limits, and meters.
var quotaCases = []Case{
	{Number: 5, Name: "a quota's period ends to the microsecond", check: quotaEnds},
	{Number: 8, Name: "an unlimited quota counts and never refuses", check: quotaUnlimited},
	{Number: 10, Name: "it goes into the billing period that was charged, the one before too", check: quotaSettles},
	{Number: 11, Name: "a meter tells of this billing period and the one before", check: quotaUsage},
	{Number: 17, Name: "a plan change in mid-period keeps the usage", check: quotaChanges},
	{Number: 17, Name: "a meter sets the usage", check: quotaSet},
}

// quotas returns a quota for each of some periods, in the zone too where
// midnights are skipped.
func quotas(n int64) (limits []policy.Limit) {
	for _, p := range zoned() {
		limits = append(limits, policy.Quota(n, p))
	}
	return limits
}

// zoned are the periods in all locations. They are made once: Period.In looks
// through a zone's rules.
var zoned = sync.OnceValue(func() (all []policy.Period) {
	for _, p := range periods {
		for _, loc := range locations {
			all = append(all, p.In(loc))
		}
	}
	return all
})

var periods = []policy.Period{
	policy.Daily, policy.Weekly, policy.Monthly, policy.Yearly, policy.Monthly.From(31), policy.Monthly.From(15),
	policy.Weekly.FromWeekday(time.Saturday), policy.Yearly.FromDate(time.February, 29),
}

// locations are zones whose clocks change, as far as the machine knows them.
var locations = func() []*time.Location {
	all := []*time.Location{time.UTC, time.FixedZone("half", 19800)}
	for _, name := range []string{"America/Santiago", "Europe/Berlin", "Asia/Gaza"} {
		if loc, err := time.LoadLocation(name); err == nil {
			all = append(all, loc)
		}
	}
	return all
}()

// span returns how long a limit's window, lease or period at an instant is, and
// its end.
func span(l policy.Limit, now int64) (length, end int64) {
	if w := max(l.Window(), l.Lease()).Microseconds(); w > 0 { // of the two it has one
		return w, now - now%w + w
	}
	from, to := l.Period().Bounds(time.UnixMicro(now))
	return to.Sub(from).Microseconds(), to.UnixMicro()
}

// period picks one of those that there are.
func (w *world) period() policy.Period {
	i := w.pick("period", int64(len(periods)))
	return zoned()[i*int64(len(locations))+w.pick("zone", int64(len(locations)))]
}

// quota picks a number for a period.
func (w *world) quota(p policy.Period) policy.Limit {
	l := policy.Quota(w.number(policy.MaxUnits), p)
	if w.pick("unlimited", 6) == 5 {
		l = policy.Quota(policy.Unlimited, p)
	}
	if w.pick("count refused", 3) == 2 {
		l = l.CountRefused()
	}
	return l
}

// someUnits picks units of an unlimited quota. What is beyond the largest count
// is lost, so that a Take that goes there cannot be undone.
func (w *world) someUnits() int64 {
	switch w.pick("units of unlimited", 8) {
	default:
		return w.pick("few", 4)
	case 5, 6:
		return w.pick("many", policy.MaxUnits/1000)
	case 7:
		if w.steady {
			return policy.MaxUnits / 1000
		}
		return []int64{policy.MaxUnits + 1, policy.Unlimited, 1 << 53, math.MaxInt64}[w.pick("too many", 4)]
	}
}

// toEnd moves the clock to the end of the charge's period, and on.
func (p *probe) toEnd(c policy.Charge, beyond time.Duration) {
	_, end := span(c.Limit, p.clock.micro())
	p.clock.set(end + beyond.Microseconds())
}

func quotaEnds(p *probe) {
	for _, l := range quotas(10) {
		for range 3 {
			c := charge(l, "k", 10)
			p.admit(c)
			r := p.refuse(with(1, c)...)
			_, end := span(l, p.clock.micro())
			if wait := r.RetryAfter().Microseconds(); wait != end-p.clock.micro() {
				p.failf("%s: a wait of %v, but the period ends in %v", l, r.RetryAfter(), time.Duration(end-p.clock.micro())*time.Microsecond)
			}
			p.advance(r.RetryAfter() - time.Microsecond)
			p.refuse(with(1, c)...)
			p.advance(time.Microsecond)
			p.used(0, c)
		}
		p.advance(50 * time.Hour)
	}
}

func quotaUnlimited(p *probe) {
	for _, counts := range []bool{false, true} {
		l := policy.Quota(policy.Unlimited, policy.Daily)
		if counts {
			l = l.CountRefused()
		}
		c := charge(l, "k", 5)
		p.admit(c)
		for _, units := range []int64{policy.MaxUnits, policy.MaxUnits + 1, 1 << 53, math.MaxInt64, math.MaxInt64, 1} {
			r := p.admit(with(units, c)...).Results[0]
			if r.Limit != policy.Unlimited || r.Remaining <= 0 || r.Used < min(units, 1<<50) {
				p.failf("%d units of %s: %+v", units, l, r)
			}
		}
		p.settle(p.admit(c), math.MaxInt64)
		p.admit(c, charge(policy.PerHour(10), "k", 10))
		p.refuse(c, charge(policy.PerHour(10), "k", 1))
		p.reset(c, charge(policy.PerHour(10), "k", 1))
	}
}

func quotaSettles(p *probe) {
	for _, l := range quotas(100) {
		c := charge(l, "k", 10)
		p.toEnd(c, time.Hour)
		first, again := p.admit(c), p.admit(c)
		p.settle(first, 250) // beyond the limit
		p.used(260, c)
		p.refuse(c)
		p.toEnd(c, time.Second)
		second := p.admit(c)
		p.settle(again, 0) // into the period before: this one's stays
		p.used(10, c)
		p.settle(second, 4)
		p.used(4, c)
		p.toEnd(c, time.Second)
		p.used(0, c)
		third := p.admit(c)
		p.settle(p.admit(with(0, c)...), 3)
		p.used(13, c)
		p.toEnd(c, 0)
		p.toEnd(c, 0) // over for good
		p.settle(third, 90)
		p.used(0, c)
		p.reset(c)
	}
}

func quotaChanges(p *probe) {
	for i, basic := range quotas(100) {
		c := charge(basic, "k", 90)
		p.toEnd(c, time.Hour)
		p.admit(c)
		c.Limit = quotas(1000)[i]
		p.refuse(with(911, c)...)
		if r := p.admit(with(10, c)...).Results[0]; r.Used != 100 || r.Remaining != 900 || r.Limit != 1000 {
			p.failf("%s after 90 and 10: %+v", c.Limit, r)
		}
		c.Limit = quotas(50)[i]
		if r := p.refuse(with(1, c)...).Results[0]; r.Used != 100 || r.Remaining != 0 || r.Limit != 50 {
			p.failf("%s after 100: %+v", c.Limit, r)
		}
		c.Limit = quotas(policy.Unlimited)[i]
		p.admit(c)
		p.used(190, c)
		for j, other := range quotas(100) {
			if j != i {
				p.used(0, charge(other.Named(basic.Name()), "k", 1))
			}
		}
		p.reset(c)
	}
}

// usage wants a meter to tell the counts, of the calendar's periods.
func (p *probe) usage(c policy.Charge, used, previous int64) {
	if p.err != nil {
		return
	}
	start, end := c.Limit.Period().Bounds(time.UnixMicro(p.clock.micro()))
	before, _ := c.Limit.Period().Bounds(start.Add(-time.Microsecond))
	want := policy.Usage{Start: start, End: end, Used: used, PreviousStart: before, Previous: previous}
	other := c
	other.Key += "'s neighbour"
	got, err := p.store().(policy.Meter).Usage(context.Background(), []policy.Charge{other, c})
	switch {
	case err != nil:
		p.failf("Usage of %s: error %w", c.Limit, err)
	case len(got) != 2 || got[1] != want:
		p.failf("Usage of %s:\n    %+v, want\n    %+v", c.Limit, got, want)
	}
}

// usage wants the benches that are meters to tell of quotas as the oracle does.
func (r *run) usage(charges []policy.Charge) error {
	var want []policy.Usage
	var asked []policy.Charge
	for i := range charges {
		if c := &charges[i]; c.Limit.Algorithm() == policy.AlgorithmQuota {
			asked, want = append(asked, *c), append(want, c.Limit.Usage(r.oracle.state(c), r.micro()))
		}
	}
	for _, b := range r.benches {
		meter, ok := b.Stores[0].(policy.Meter)
		if !ok {
			continue
		}
		got, err := meter.Usage(context.Background(), asked)
		switch {
		case err != nil:
			return fmt.Errorf("usage of %s: %T: error %w", describe(asked), meter, err)
		case !slices.Equal(got, want):
			return fmt.Errorf("usage of %s: %T:\n    %+v, want\n    %+v", describe(asked), meter, got, want)
		}
	}
	return nil
}

// metered reports whether the stores are meters.
func (p *probe) metered() bool {
	for _, s := range p.Stores {
		if _, ok := s.(policy.Meter); !ok {
			p.err = ErrNotApplicable
			return false
		}
	}
	return true
}

func quotaUsage(p *probe) {
	if !p.metered() {
		return
	}
	for _, l := range quotas(100) {
		c := charge(l, "k", 10)
		p.toEnd(c, time.Hour)
		p.usage(c, 0, 0)
		first := p.admit(c)
		p.usage(c, 10, 0)
		p.settle(first, 30)
		p.toEnd(c, -time.Microsecond)
		p.usage(c, 30, 0)
		p.toEnd(c, 0)
		p.usage(c, 0, 30) // before anything is taken
		second := p.admit(with(7, c)...)
		p.usage(c, 7, 30)
		p.settle(second, 0)
		p.usage(c, 0, 30)
		third := p.admit(c)
		p.toEnd(c, -time.Microsecond)
		p.usage(c, 10, 30)
		p.toEnd(c, 0)
		p.settle(third, 4)
		p.usage(c, 0, 4)
		p.reset(c) // both counts
		old := p.admit(c)
		p.usage(c, 10, 0)
		p.toEnd(c, 0)
		p.admit(with(8, c)...)
		p.toEnd(c, 0)
		p.usage(c, 0, 8)
		p.settle(old, 90) // over for good
		p.usage(c, 0, 8)
		p.toEnd(c, 0)
		p.usage(c, 0, 0)
	}
	c := charge(policy.Quota(10, policy.Daily), "k", 1)
	p.admit(c)
	p.reset(c)
	p.usage(c, 0, 0)
	_, err := p.store().(policy.Meter).Usage(context.Background(), []policy.Charge{c, charge(policy.PerHour(1), "k", 1)})
	p.wantError("Usage of a window", err, nil)
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = p.store().(policy.Meter).Usage(canceled, []policy.Charge{c})
	p.wantError("Usage, context done", err, context.Canceled)
}

func quotaSet(p *probe) {
	if !p.metered() {
		return
	}
	set := func(c policy.Charge, used int64) {
		if p.err != nil {
			return
		}
		if err := p.store().(policy.Meter).SetUsage(context.Background(), c, used); err != nil {
			p.failf("SetUsage of %s to %d: error %w", c.Limit, used, err)
		}
	}
	for _, l := range quotas(100) {
		c := charge(l, "k", 10)
		p.toEnd(c, time.Hour)
		set(c, 80) // of a key never seen
		p.usage(c, 80, 0)
		t := p.admit(c)
		p.refuse(with(11, c)...)
		p.toEnd(c, 0)
		set(c, 140)
		p.usage(c, 140, 90)
		p.refuse(with(1, c)...)
		p.settle(t, 0) // what it was taken from
		p.usage(c, 140, 80)
		set(c, 0)
		p.usage(c, 0, 80)
		p.admit(with(100, c)...)
		set(c, math.MaxInt64)
		p.usage(c, 1<<50, 80)
		p.reset(c)
	}
	meter := p.store().(policy.Meter)
	p.wantError("SetUsage below zero", meter.SetUsage(context.Background(), charge(policy.Quota(1, policy.Daily), "k", 1), -1), nil)
	p.wantError("SetUsage of a window", meter.SetUsage(context.Background(), charge(policy.PerHour(1), "k", 1), 1), nil)
}
