package middleware_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

func ExampleCostsBy() {
	account := ratelimit.Header("X-Account")
	found := []string{"shirt", "shoes", "hat"}

	// 50 for a recommendation and 1 for each product, by the most that is asked.
	recommendation := func(r *http.Request) (ratelimit.Costs, error) {
		var c ratelimit.Costs
		c.Add("recommendation", 50)
		c.Add("products", 20)
		return c, nil
	}
	points := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Style: respond.Style{
			Fields:    []respond.FieldWriter{respond.Points{Status: "X-Ratelimit-Status", Details: "X-Ratelimit-Cost-Details"}},
			DetailsOn: "cost-debug", // a header field or a query parameter
		},
		Rules: []ratelimit.Rule{{
			Name: "points", Key: account,
			Limits:  []policy.Limit{policy.TokenBucket(1000, time.Minute)},
			Costs:   ratelimit.CostsBy(recommendation), // reserved before the handler
			MinCost: 10,
		}},
	}))
	recommend := func(w http.ResponseWriter, r *http.Request) {
		var c ratelimit.Costs
		c.Add("recommendation", 50)
		c.Add("products", int64(len(found)))
		if err := ratelimit.SetCosts(r.Context(), "points", c); err != nil { // settled: what was found
			fmt.Println("log:", err)
		}
		fmt.Fprintln(w, strings.Join(found, "\n"))
	}

	defer points.Close()
	r := httptest.NewRequest("GET", "/recommendations?cost-debug", nil)
	r.Header.Set("X-Account", "acme")
	w := httptest.NewRecorder()
	points.Handler(http.HandlerFunc(recommend)).ServeHTTP(w, r)
	for _, name := range []string{"X-Ratelimit-Status", "X-Ratelimit-Cost-Details"} {
		fmt.Printf("%s: %s\n", name, w.Result().Header.Get(name))
	}
	// Output:
	// X-Ratelimit-Status: {"requestCost":53,"maximumAvailable":1000,"currentlyAvailable":947,"restoreRate":16.666666}
	// X-Ratelimit-Cost-Details: recommendation=50,products=3
}

func ExampleSetCosts() {
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Style: respond.Style{
			Fields:    []respond.FieldWriter{respond.XRateLimit, respond.Points{Details: "X-Cost-Details"}},
			DetailsOn: "cost-debug",
		},
		Rules: []ratelimit.Rule{{Name: "points", Key: ratelimit.ClientIP, Limits: []policy.Limit{policy.PerMinute(1000)}, MinCost: 10}},
	}))
	defer limits.Close()

	h := limits.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The answer came from a cache, for less than the minimum.
		costs := ratelimit.Costs{{Name: "cached", Points: 1}}
		if err := ratelimit.SetCosts(r.Context(), "points", costs); err != nil {
			fmt.Println("log:", err)
		}
		w.WriteHeader(http.StatusOK)
		fmt.Println(w.Header().Get("X-Cost-Details"))
	}))
	call(h, "GET", "/?cost-debug")
	// Output:
	// cached=1,minimum=9
	// GET /?cost-debug: 200, 990 of 1000 left
}
