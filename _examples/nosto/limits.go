package main

import (
	"net/http"
	"time"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/middleware/graphqlcost"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// The rules, each of which is a budget of its own.
const (
	graphQLBudget         = "graphql"
	searchBudget          = "search"
	recommendationsBudget = "recommendations"
	otherBudget           = "other" // of what is at none of the endpoints
)

// minimum is the least that a request costs.
const minimum = 10

// budgets are the points a second of each tier, which may be spent at once. The
// page has the first two; a custom tier is as agreed.
var budgets = map[string]map[string]int64{
	"std":    {searchBudget: 10_000, recommendationsBudget: 10_000, graphQLBudget: 10_000, otherBudget: 10_000},
	"adv":    {searchBudget: 50_000, recommendationsBudget: 80_000, graphQLBudget: 50_000, otherBudget: 10_000},
	"custom": {searchBudget: 100_000, recommendationsBudget: 200_000, graphQLBudget: 100_000, otherBudget: 10_000},
}

// newLimits returns the one Limiter of the API: whatever a request is for, it is
// decided in one round trip.
func newLimits(store policy.Store, scale *ratelimit.Scale, calculator *graphqlcost.Calculator) *ratelimit.Limiter {
	return ratelimit.Must(ratelimit.New(ratelimit.Config{
		Name: "nosto", Store: store, Scale: scale,
		Style:    style(refusal),
		Styles:   map[string]respond.Style{graphQLStyle: style(graphQLRefusal)},
		StyleFor: styleOf,
		Rules: []ratelimit.Rule{
			budget(graphQLBudget, costOfGraphQL(calculator), "/graphql"),
			budget(searchBudget, costOfSearch, "/search"),
			budget(recommendationsBudget, costOfRecommendations, "/recommendations"),
			other("/graphql", "/search", "/recommendations"),
		},
	}))
}

// budget is the rule of an endpoint: of all its methods, since those that it does
// not have cost the minimum too. While Redis is away each process gives its share; one
// that has not met Redis since its start knows of none, and answers 503.
func budget(name string, costs func(*http.Request) (ratelimit.Costs, error), on ...string) ratelimit.Rule {
	tiers := policy.Tiers{}
	for tier, points := range budgets {
		tiers[tier] = []policy.Limit{policy.TokenBucket(points[name], time.Second)}
	}
	return ratelimit.Rule{
		Name: name, On: on, Key: ratelimit.Bearer(), LimitsFor: ratelimit.ByTier(tier, tiers),
		Costs: ratelimit.CostsBy(costs), MinCost: minimum,
		Fail: ratelimit.FailLocal,
	}
}

func other(endpoints ...string) ratelimit.Rule {
	rule := budget(otherBudget, func(*http.Request) (ratelimit.Costs, error) { return nil, nil })
	rule.Except = endpoints
	return rule
}

// payMinimum settles a request that turned out to be wrong.
func payMinimum(r *http.Request) {
	for _, name := range []string{graphQLBudget, searchBudget, recommendationsBudget, otherBudget} {
		settle(r, name, nil)
	}
}

// graphQLStyle is the style of GraphQL's clients, who read errors in their own form.
const graphQLStyle = "graphql"

func styleOf(r *http.Request) string {
	if r.URL.Path == "/graphql" {
		return graphQLStyle
	}
	return ""
}

func style(refusal func(respond.Denial) any) respond.Style {
	return respond.Style{
		Fields: []respond.FieldWriter{respond.Points{
			Status:  "X-Nosto-Ratelimit-Status",
			Details: "X-Nosto-Ratelimit-Cost-Details",
		}},
		DetailsOn: "nosto-cost-debug",
		Refusal:   respond.JSON(refusal),
	}
}
