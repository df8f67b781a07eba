package respond

import (
	"encoding/json"
	"net/http"
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
	retryAt := ""
	if d.RetryAfter > MaxRetryAfter*time.Second {
		retryAt = d.RetryAt().Format(time.RFC3339)
	}
	body, err := json.Marshal(problemDocument{
		Type:       kind.uri,
		Title:      kind.title,
		Status:     d.Status,
		Detail:     d.Detail,
		Code:       d.Reason,
		RetryAfter: d.Seconds(),
		RetryAt:    retryAt,
		Violated:   violatedPolicies(r.Standings),
	})
	if err != nil {
		return "", nil
	}
	return "application/problem+json", body
}

type problemDocument struct {
	Type       string   `json:"type"`
	Title      string   `json:"title,omitempty"`
	Status     int      `json:"status"`
	Detail     string   `json:"detail,omitempty"`
	Code       Reason   `json:"code"`
	RetryAfter int64    `json:"retry_after,omitempty"`
	RetryAt    string   `json:"retry_at,omitempty"`
	Violated   []string `json:"violated-policies,omitempty"`
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

// violatedPolicies returns the names of the limits that refused.
func violatedPolicies(standings []Standing) []string {
	var violated []string
	names := appendPolicyNames(nil, standings)
	for i := range standings {
		if standings[i].Result.Verdict > policy.Allowed {
			violated = append(violated, names[i])
		}
	}
	return violated
}
