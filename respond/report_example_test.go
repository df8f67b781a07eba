package respond_test

import (
	"fmt"
	"net/http"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// A report serves one request after the other.
func ExampleReport_Reset() {
	var report respond.Report
	for n := range int64(2) {
		report.Reset()
		report.Now = now
		report.Standings = append(report.Standings, taken(policy.PerMinute(60), n+1))
		h := http.Header{}
		respond.XRateLimit.WriteFields(h, &report)
		fmt.Println(h.Get("X-RateLimit-Limit"), h.Get("X-RateLimit-Remaining"))
	}
	// Output:
	// 60 59
	// 60 58
}
