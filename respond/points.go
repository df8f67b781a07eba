package respond

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/stint-go/stint/policy"
)

// Points tells of a budget of points: what the request costs, and how the budget
// stands, as JSON in one field, on allowed and on refused responses:
//
//	X-Ratelimit-Status: {"requestCost":71,"maximumAvailable":10000,"currentlyAvailable":9929,"restoreRate":10000}
//
// and the parts of the cost in another, for a client that asks by what
// [Style.DetailsOn] names:
//
//	X-Ratelimit-Cost-Details: session=10,normal=50,products=7,segments=4
//
// requestCost is in units: what was asked, also if it was refused, or what was
// settled. maximumAvailable is the most that can be taken at once, and
// currentlyAvailable what can be taken now. restoreRate is units per second, with
// up to six digits behind the point, rounded down: that of a bucket, for a window
// its number over its length, and 0 for a quota.
//
// Of several limits it tells of the one that binds most among those of rules
// whose costs have parts, or else among all, and never of slots or of an unlimited
// quota. Rule names another.
//
// The parts add up to requestCost; a rule without parts is one, under its own
// name. Their names are told in letters, digits and "-_./:", cut to 64 bytes. The
// field has 1,024 bytes at most: the parts that do not fit are summed as the last,
// other.
type Points struct {
	Status  string // the field of the state; empty means that there is none
	Details string // the field of the parts; empty means that there is none

	// Rule is the name of the rule to tell of. Empty means the one that binds.
	Rule string

	// The names of the numbers. Empty means requestCost, maximumAvailable,
	// currentlyAvailable and restoreRate.
	Cost, Maximum, Available, Rate string
}

// WriteFields sets the fields in h.
func (p Points) WriteFields(h http.Header, r *Report) {
	if h == nil || r == nil {
		return
	}
	st := p.standing(r)
	if st == nil {
		return
	}
	if p.Status != "" {
		h[http.CanonicalHeaderKey(p.Status)] = []string{string(p.status(st))}
	}
	if p.Details != "" && r.Details {
		name := http.CanonicalHeaderKey(p.Details)
		if text := st.parts().append(nil); len(text) > 0 {
			h[name] = []string{string(text)}
		} else {
			delete(h, name)
		}
	}
}

// Validate returns an error that tells which name cannot be one.
func (p Points) Validate() error {
	if p.Status == "" && p.Details == "" {
		return errors.New("respond: Points without a name: write Status, Details or both, or leave it out")
	}
	for _, name := range []string{p.Status, p.Details} {
		if name == "" {
			continue
		}
		if err := checkFieldName(name); err != nil {
			return err
		}
	}
	if http.CanonicalHeaderKey(p.Status) == http.CanonicalHeaderKey(p.Details) {
		return fmt.Errorf("respond: two fields named %q: give each a name of its own", p.Status)
	}
	members := p.members()
	for i, name := range members {
		if slices.Contains(members[:i], name) {
			return fmt.Errorf("respond: Points says %q twice: give each number a name of its own", name)
		}
		for j := range len(name) {
			if !isNameChar(name[j]) {
				return fmt.Errorf("respond: Points: name %.80q: write letters, digits, or any of :-_./", name)
			}
		}
	}
	return nil
}

func (p *Points) members() [4]string {
	return [...]string{
		cmp.Or(p.Cost, "requestCost"), cmp.Or(p.Maximum, "maximumAvailable"),
		cmp.Or(p.Available, "currentlyAvailable"), cmp.Or(p.Rate, "restoreRate"),
	}
}

// standing returns the standing to tell of, or nil.
func (p *Points) standing(r *Report) *Standing {
	var told *Standing
	for i := range r.Standings {
		st := &r.Standings[i]
		switch {
		case st.unlimited(), st.Limit.Algorithm() == policy.AlgorithmConcurrency:
		case p.Rule != "" && st.Rule != p.Rule:
		case told == nil:
			told = st
		case p.Rule == "" && (st.Parts == nil) != (told.Parts == nil):
			if told.Parts == nil {
				told = st
			}
		case st.Result.Tighter(told.Result):
			told = st
		}
	}
	return told
}

func (p *Points) status(st *Standing) []byte {
	b := make([]byte, 0, 128)
	for i, name := range p.members() {
		b = append(b, "{,,,"[i], '"')
		b = append(appendPrintable(b, name), '"', ':')
		switch i {
		case 0:
			b = strconv.AppendInt(b, st.Cost, 10)
		case 1:
			b = strconv.AppendInt(b, st.Result.Capacity, 10)
		case 2:
			b = strconv.AppendInt(b, st.Result.Remaining, 10)
		case 3:
			b = appendPerSecond(b, st.Result.Limit, st.Limit.Window())
		}
	}
	return append(b, '}')
}

// parts returns the parts of the standing's cost.
func (s *Standing) parts() Costs {
	if s.Parts == nil && s.Cost != 0 {
		return Costs{{Name: s.Rule, Points: s.Cost}}
	}
	return s.Parts
}

// appendPerSecond appends n in a window as a number a second.
func appendPerSecond(b []byte, n int64, window time.Duration) []byte {
	micros := uint64(window / time.Microsecond)
	if micros == 0 || n <= 0 {
		return append(b, '0')
	}
	hi, lo := bits.Mul64(uint64(n), 1e6)
	whole, rest := bits.Div64(hi%micros, lo, micros)
	b = strconv.AppendUint(b, whole, 10)
	hi, lo = bits.Mul64(rest, 1e6)
	fraction, _ := bits.Div64(hi, lo, micros)
	if fraction == 0 {
		return b
	}
	b = strconv.AppendUint(append(b, '.'), 1e6+fraction, 10)
	b = slices.Delete(b, len(b)-7, len(b)-6) // the 1, which kept the zeros
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	return b
}
