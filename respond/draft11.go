package respond

import (
	"net/http"
	"strconv"
	"time"

	"github.com/stint-go/stint/policy"
)

// RateLimit writes the IETF's fields as of the newest draft that stint knows:
// it follows the drafts until there is a standard. To stay with one draft,
// write its type.
var RateLimit FieldWriter = RateLimitDraft11{}

// RateLimitDraft11 writes the structured fields of
// draft-ietf-httpapi-ratelimit-headers-11, one item per standing:
//
//	RateLimit-Policy: "per_key/window-1m";q=60;w=60, "per_key/window-1h";q=600;w=3600
//	RateLimit: "per_key/window-1m";r=48;t=12, "per_key/window-1h";r=431;t=7
//
// The item's name is the rule's, with a slash and the limit's name if the rule
// has several limits, and with the limiter's name before it if stacked limiters
// have rules of one name. q is the documented number and w the window, if that
// is whole seconds. r is what could be taken now and t the seconds, rounded up,
// until there is more, absent if there is no more to come. A refusal's t is not
// beyond its Retry-After. A billing period has no w, since its length varies.
// Unlimited quotas are left out, and a report without other standings writes
// nothing.
type RateLimitDraft11 struct{}

// WriteFields sets RateLimit-Policy and RateLimit in h.
func (RateLimitDraft11) WriteFields(h http.Header, r *Report) {
	if h == nil || r == nil || len(r.Standings) == 0 {
		return
	}
	var (
		s         sheet
		textArray [512]byte
		nameArray [8]string
	)
	names := appendPolicyNames(nameArray[:0], r.Standings)

	told := 0
	text := s.begin(textArray[:0], "Ratelimit-Policy", "")
	for i := range r.Standings {
		st := &r.Standings[i]
		if st.unlimited() {
			continue
		}
		text = appendItem(text, told, names[i])
		told++
		text = appendParameter(text, ";q=", st.Result.Limit)
		if w := st.Limit.Window(); w >= time.Second && w%time.Second == 0 {
			text = appendParameter(text, ";w=", int64(w/time.Second))
		}
	}
	if told == 0 {
		return
	}
	told = 0
	text = s.begin(text, "Ratelimit", "")
	for i := range r.Standings {
		st := &r.Standings[i]
		if st.unlimited() {
			continue
		}
		text = appendItem(text, told, names[i])
		told++
		text = appendParameter(text, ";r=", st.Result.Remaining)
		if t := r.effectiveWindow(st); t > 0 {
			text = appendParameter(text, ";t=", t)
		}
	}
	s.setIn(h, text)
}

// effectiveWindow returns the seconds for which no more than what remains can
// be used.
func (r *Report) effectiveWindow(st *Standing) int64 {
	t := ceilSeconds(st.Result.NextAfter)
	if r.Denial == nil || st.Result.Verdict != policy.Refused {
		return t
	}
	if seconds := r.Denial.Seconds(); seconds > 0 {
		t = min(t, seconds)
	}
	return t
}

// appendItem begins the i-th member of a List: a String of RFC 9651, section
// 3.3.3. The name is printable.
func appendItem(b []byte, i int, name string) []byte {
	if i > 0 {
		b = append(b, ", "...)
	}
	b = append(b, '"')
	for j := range len(name) {
		if c := name[j]; c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, name[j])
	}
	return append(b, '"')
}

// appendParameter appends an Integer of RFC 9651, section 3.3.1, which has at
// most 15 digits. The draft's are never negative.
func appendParameter(b []byte, key string, v int64) []byte {
	const maxInteger = 999_999_999_999_999
	return strconv.AppendInt(append(b, key...), min(max(v, 0), maxInteger), 10)
}
