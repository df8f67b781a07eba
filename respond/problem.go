package respond

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/stint-go/stint/policy"
)

// Problem is a problem of RFC 9457, with the types of
// draft-ietf-httpapi-ratelimit-headers where one fits:
//
//	{
//	  "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
//	  "title": "Quota Exceeded",
//	  "status": 429,
//	  "detail": "Over the limit of 60 per minute.",
//	  "code": "rate_limit_exceeded",
//	  "retry_after": 12,
//	  "violated-policies": ["per_key"]
//	}
//
// The type is temporary-reduced-capacity, and the status still the style's, where
// a limit refuses only because it is reduced for a while. The code is the [Reason].
// retry_after is the number of the Retry-After field, and absent with it. Where the
// wait is longer than that field can say, as a quota's may be, retry_at is the
// instant: "2026-12-01T00:00:00Z". violated-policies has the names that
// [RateLimitDraft11] gives the limits that refused.
var Problem Refusal = problem{}

type problem struct{}

func (problem) Body(r *Report) (contentType string, body []byte) {
	d := r.Denial
	kind := problemTypes[d.Reason]
	if d.Reduced {
		kind = reducedCapacity
	}
	if kind.uri == "" {
		kind.uri, kind.title = "about:blank", http.StatusText(d.Status)
	}
	// Written by hand, since refusals are what an attack is made of.
	body = append(make([]byte, 0, 384), `{"type":`...)
	body = appendString(body, kind.uri)
	if kind.title != "" {
		body = appendString(append(body, `,"title":`...), kind.title)
	}
	body = strconv.AppendInt(append(body, `,"status":`...), int64(d.Status), 10)
	if d.Detail != "" {
		body = appendString(append(body, `,"detail":`...), d.Detail)
	}
	body = appendString(append(body, `,"code":`...), string(d.Reason))
	if seconds := d.Seconds(); seconds > 0 {
		body = strconv.AppendInt(append(body, `,"retry_after":`...), seconds, 10)
	}
	if d.RetryAfter > MaxRetryAfter*time.Second {
		body = append(d.RetryAt().AppendFormat(append(body, `,"retry_at":"`...), time.RFC3339), '"')
	}
	body = appendViolated(body, r.Standings)
	return "application/problem+json", append(body, '}')
}

type problemType struct{ uri, title string }

var (
	quotaExceeded   = problemType{problemTypeBase + "quota-exceeded", "Quota Exceeded"}
	reducedCapacity = problemType{problemTypeBase + "temporary-reduced-capacity", "Temporary Reduced Capacity"}
	abnormalUsage   = problemType{problemTypeBase + "abnormal-usage-detected", "Abnormal Usage Detected"}
)

const problemTypeBase = "https://iana.org/assignments/http-problem-types#"

var problemTypes = map[Reason]problemType{
	RateLimitExceeded:   quotaExceeded,
	QuotaExceeded:       quotaExceeded,
	ConcurrencyExceeded: reducedCapacity,
	QueueFull:           reducedCapacity,
	QueueTimeout:        reducedCapacity,
	StoreUnavailable:    reducedCapacity,
	Blocked:             abnormalUsage,
}

// appendViolated appends the names of the limits that refused, if there are any.
func appendViolated(body []byte, standings []Standing) []byte {
	var array [8]string
	names, first := appendPolicyNames(array[:0], standings), true
	for i := range standings {
		if standings[i].Result.Verdict <= policy.Allowed {
			continue
		}
		if first {
			body = append(body, `,"violated-policies":[`...)
		} else {
			body = append(body, ',')
		}
		body, first = appendString(body, names[i]), false
	}
	if first {
		return body
	}
	return append(body, ']')
}

// appendString appends s as encoding/json writes it.
func appendString(body []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // strings have no errors
			return append(body, text...)
		}
	}
	return append(append(append(body, '"'), s...), '"')
}
