package middleware_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

func ExampleCostError_status() {
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{{
		Name: "points", Key: ratelimit.ClientIP, Limits: []policy.Limit{policy.TokenBucket(1000, time.Hour)}, MinCost: 10,
		Cost: func(r *http.Request) (int64, error) {
			if r.URL.Query().Get("type") != "normal" {
				return 0, &ratelimit.CostError{Reason: "unknown_type", Status: http.StatusUnprocessableEntity, Detail: "Write normal."}
			}
			return 60, nil
		},
	}}}))
	defer limits.Close()
	h := limits.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	call(h, "GET", "/?type=normal")
	call(h, "GET", "/?type=odd") // is charged the minimum
	// Output:
	// GET /?type=normal: 200, 940 of 1000 left
	// GET /?type=odd: 422, 930 of 1000 left
}

// A code of one's own has the status that the error says, and no limit's words.
func TestCostErrorStatus(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		refused ratelimit.CostError
		status  int
		after   string
		body    string
	}{
		{ratelimit.CostError{Reason: "odd", Status: 400, Detail: "No."}, 400, "", "odd: No. (0)"},
		{ratelimit.CostError{Reason: "odd"}, 429, "1", "odd:  (1)"},
		{ratelimit.CostError{Reason: "odd", Status: 200}, 429, "1", "odd:  (1)"},
		{ratelimit.CostError{Reason: "odd", Status: 1000}, 429, "1", "odd:  (1)"},
		{ratelimit.CostError{Status: 422}, 422, "", "invalid_cost: The request's cost could not be told. (0)"},
		{ratelimit.CostError{Reason: respond.BodyTooLarge}, 413, "", "body_too_large: The body is too large. (0)"},
	} {
		t.Run(fmt.Sprint(test.refused.Reason, test.refused.Status), func(t *testing.T) {
			t.Parallel()
			l := limiter(t, ratelimit.Config{
				Style: respond.Style{Refusal: respond.JSON(func(d respond.Denial) any {
					return fmt.Sprintf("%s: %s (%d)", d.Reason, d.Detail, d.Seconds())
				})},
				Rules: []ratelimit.Rule{{
					Name: "points", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(100)},
					Cost: func(*http.Request) (int64, error) { return 10, &test.refused },
				}},
			})
			w := httptest.NewRecorder()
			l.Handler(http.NotFoundHandler()).ServeHTTP(w, request("/", "a"))
			assert.Equal(t, test.status, w.Code)
			assert.Equal(t, test.after, w.Header().Get("Retry-After"))
			assert.Equal(t, "90", w.Header().Get("X-Ratelimit-Remaining"))
			assert.JSONEq(t, fmt.Sprintf("%q", test.body), w.Body.String())
		})
	}
}
