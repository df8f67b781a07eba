package respond

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/stint-go/stint/policy"
)

// A FieldWriter tells of limits in header fields, on allowed and on refused
// responses alike. [Fields], [RateLimitDraft11] and [Points] are such.
//
// WriteFields is called again by an inner limiter, with a report that holds
// more: it sets fields and never adds to them. It must be safe for concurrent
// use, and keep neither argument. A writer that has a method Validate() error
// is asked by [Style.Validate].
type FieldWriter interface {
	WriteFields(h http.Header, r *Report)
}

// Ready-made fields. They are values: copy one to change it.
var (
	// XRateLimit writes the three fields that most services do:
	//
	//	X-RateLimit-Limit: 60
	//	X-RateLimit-Remaining: 48
	//	X-RateLimit-Reset: 1768213860
	XRateLimit = Fields{
		Limit:     "X-Ratelimit-Limit",
		Remaining: "X-Ratelimit-Remaining",
		Reset:     "X-Ratelimit-Reset",
	}

	// XRateLimitPerWindow writes them once for each window:
	//
	//	X-RateLimit-Limit-Minute: 60
	//	X-RateLimit-Remaining-Minute: 48
	//	X-RateLimit-Reset-Minute: 2026-01-12T10:31:00Z
	//	X-RateLimit-Limit-Day: 5000
	//	...
	XRateLimitPerWindow = Fields{
		Limit:     "X-Ratelimit-Limit",
		Remaining: "X-Ratelimit-Remaining",
		Reset:     "X-Ratelimit-Reset",
		ResetAs:   ISO8601,
		PerWindow: true,
	}
)

// Fields names header fields with one value each. A field without a name is not
// written. The values are those of the binding standing (see
// [Report.Binding]); a report without standings writes nothing, and neither does
// one of nothing but unlimited quotas.
//
// Names are brought into canonical form, as [http.Header.Set] does, at each
// request: [Style.Validate] does it once for all.
type Fields struct {
	Limit      string // the documented number: 60
	Remaining  string // what could be taken now: 48
	Used       string // what counts against the capacity: 12
	Reset      string // the end of the window or, if refused, when to come back
	ResetAfter string // the same in whole seconds from now, rounded up: 12
	Scope      string // whose count it is, by the standing's Scope or the rule's name: per_key

	// ResetAs is how Reset is written: as seconds since 1970, by default.
	ResetAs ResetFormat

	// PerWindow writes the fields for each window of the report, with the window
	// at the end of the names: -Second, -Minute, -Hour, -Day, and others in
	// short, as in -12m. Quotas are told as -Day, -Week, -Month or -Year. Of
	// standings with one ending the tightest is told, and none of a limit that
	// knows no window, such as of slots.
	PerWindow bool

	// SkipQuotas leaves quotas out, where the fields are to tell of rates: unless
	// it is a quota that refuses.
	SkipQuotas bool
}

// WriteFields sets the fields in h.
func (f Fields) WriteFields(h http.Header, r *Report) {
	(&canonicalFields{f.canonical()}).WriteFields(h, r)
}

// canonicalFields are those that a style keeps: with canonical names, and not copied
// at each request.
type canonicalFields struct{ Fields }

// WriteFields sets the fields in h.
func (f *canonicalFields) WriteFields(h http.Header, r *Report) {
	if h == nil || r == nil || len(r.Standings) == 0 {
		return
	}
	var (
		s     sheet
		array [256]byte
	)
	s.memo = r.memo
	text := array[:0]
	if !f.PerWindow {
		if st := f.binding(r); st != nil && !st.unlimited() {
			text = f.fill(&s, text, r, st, "")
		}
		s.setIn(h, text)
		return
	}
	for i := range r.Standings {
		if st := tightestOfWindow(r.Standings, i); st != nil {
			text = f.fill(&s, text, r, st, windowOf(st).suffix())
		}
	}
	s.setIn(h, text)
}

// binding returns the standing to tell of: the report's, but for quotas that are
// to be skipped.
func (f *Fields) binding(r *Report) *Standing {
	binding := r.Binding()
	if !f.SkipQuotas || binding.Limit.Algorithm() != policy.AlgorithmQuota || binding.Result.Verdict > policy.Queued {
		return binding
	}
	binding = nil
	for i := range r.Standings {
		st := &r.Standings[i]
		if st.Limit.Algorithm() != policy.AlgorithmQuota && (binding == nil || st.Result.Tighter(binding.Result)) {
			binding = st
		}
	}
	return binding
}

// Validate returns an error that tells which name cannot be one, or why the
// names do not go together.
func (f Fields) Validate() error {
	var seen []string
	for _, name := range f.names() {
		if *name == "" {
			continue
		}
		if err := checkFieldName(*name); err != nil {
			return err
		}
		canonical := http.CanonicalHeaderKey(*name)
		if slices.Contains(seen, canonical) {
			return fmt.Errorf("respond: two fields named %q: give each a name of its own", *name)
		}
		seen = append(seen, canonical)
	}
	if len(seen) == 0 {
		return errors.New("respond: Fields without a name: name one, or leave it out")
	}
	if f.ResetAs > HTTPDate {
		return fmt.Errorf("respond: ResetFormat(%d): write EpochSeconds, DeltaSeconds, ISO8601 or HTTPDate", f.ResetAs)
	}
	return nil
}

// canonical returns the fields with canonical names.
func (f Fields) canonical() Fields {
	for _, name := range f.names() {
		*name = http.CanonicalHeaderKey(*name)
	}
	return f
}

func (f *Fields) names() [6]*string {
	return [...]*string{&f.Limit, &f.Remaining, &f.Used, &f.Reset, &f.ResetAfter, &f.Scope}
}

// fill adds the fields of one standing.
func (f *Fields) fill(s *sheet, text []byte, r *Report, st *Standing, suffix string) []byte {
	after := r.resetAfter(st)
	text = s.integer(text, f.Limit, suffix, st.Result.Limit)
	text = s.integer(text, f.Remaining, suffix, st.Result.Remaining)
	text = s.integer(text, f.Used, suffix, st.Result.Used)
	text = s.instant(text, f.Reset, suffix, r.Now, after, f.ResetAs)
	text = s.integer(text, f.ResetAfter, suffix, ceilSeconds(after))
	if f.Scope != "" {
		text = appendPrintable(s.begin(text, f.Scope, suffix), cmp.Or(st.Scope, st.Rule))
	}
	return text
}

// resetAfter is the standing's reset as the client is told: the binding one's is
// not before the denial's wait, which may be a suggestion or have jitter in it.
func (r *Report) resetAfter(st *Standing) time.Duration {
	after := max(st.Result.ResetAfter, st.Result.RetryAfter, 0)
	if r.Denial != nil && st.Result == r.Denial.Standing.Result {
		return max(after, r.Denial.RetryAfter)
	}
	return after
}

// tightestOfWindow returns the standing that binds most of those with the i-th
// one's window, or nil if the i-th is not the first of them or has none.
func tightestOfWindow(standings []Standing, i int) *Standing {
	w := windowOf(&standings[i])
	if w == (window{}) {
		return nil
	}
	for j := range i {
		if windowOf(&standings[j]) == w {
			return nil
		}
	}
	tightest := &standings[i]
	for j := i + 1; j < len(standings); j++ {
		if st := &standings[j]; windowOf(st) == w && st.Result.Tighter(tightest.Result) {
			tightest = st
		}
	}
	return tightest
}

// A window is how clients know in which time a limit counts: a length, or the
// unit of a billing period. A day is a day.
type window struct {
	length time.Duration
	unit   string
}

// windowOf returns the zero window for a standing that is not told by one.
func windowOf(s *Standing) window {
	unit := s.Limit.Period().Unit()
	switch {
	case s.unlimited(), s.Limit.Algorithm() == policy.AlgorithmLockout: // blocks are no windows
		return window{}
	case unit == "day":
		return window{length: 24 * time.Hour}
	}
	return window{length: s.Limit.Window(), unit: unit}
}

func (w window) suffix() string {
	switch w.unit {
	case "week":
		return "-Week"
	case "month":
		return "-Month"
	case "year":
		return "-Year"
	}
	switch w.length {
	case time.Second:
		return "-Second"
	case time.Minute:
		return "-Minute"
	case time.Hour:
		return "-Hour"
	case 24 * time.Hour:
		return "-Day"
	}
	for _, u := range suffixUnits {
		if w.length%u.d == 0 {
			return "-" + strconv.FormatInt(int64(w.length/u.d), 10) + u.short
		}
	}
	return "-" + strconv.FormatInt(int64(w.length), 10) + "ns"
}

var suffixUnits = [...]struct {
	d     time.Duration
	short string
}{
	{24 * time.Hour, "d"},
	{time.Hour, "h"},
	{time.Minute, "m"},
	{time.Second, "s"},
	{time.Millisecond, "ms"},
	{time.Microsecond, "us"},
}
