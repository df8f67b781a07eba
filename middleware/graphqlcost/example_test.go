package graphqlcost_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/middleware/graphqlcost"
	"github.com/stint-go/stint/policy"
)

// The example holds a snippet of README.md.
func Example() {
	account := ratelimit.Header("X-Account")
	const sdl = `
		type Query { search(text: String!): [Product] products(first: Int): [Product] }
		type Product { id: ID! name: String variants: [Variant] }
		type Variant { sku: String }`

	calculator, err := graphqlcost.New(graphqlcost.Options{
		Schema:  sdl, // with @cost and @listSize, or these:
		Costs:   map[string]int64{"Query.search": 600},
		Sizes:   map[string]int64{"Query.search": 20, "Product.variants": 5},
		MinCost: 10,
	})
	if err != nil {
		panic(err)
	}
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{{
		Name: "graphql", Key: account,
		Limits: []policy.Limit{policy.TokenBucket(100_000, time.Hour)},
		Cost:   calculator.Cost,
	}}}))

	defer limits.Close()
	h := limits.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts, _ := calculator.Breakdown(r)
		fmt.Println(parts)
	}))
	post := func(body string) {
		r := httptest.NewRequest("POST", "/graphql", strings.NewReader(body))
		r.Header.Set("X-Account", "acme")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Header().Get("X-RateLimit-Remaining"))
	}
	post(`{"query": "query($n: Int!) { products(first: $n) { name variants { sku } } }", "variables": {"n": 50}}`)
	post(`{"query": "{ __typename }"}`)
	post(`{"query": "{ nothing }"}`)
	// Output:
	// [{products 300}]
	// 200 99700
	// [{minimum 10}]
	// 200 99690
	// 400 99680
}

func ExampleCalculator_OperationBreakdown() {
	calculator, err := graphqlcost.New(graphqlcost.Options{MinCost: 10, Schema: `
		type Query { products(first: Int): [Product] }
		type Product { name: String related(limit: Int): [Product] @section(name: "recommendations") @cost(weight: "5") }`})
	if err != nil {
		panic(err)
	}
	fmt.Println(calculator.OperationBreakdown(context.Background(), graphqlcost.Operation{
		Query: `{ products(first: 2) { name related(limit: 3) { name } } }`,
	}))
	// Output:
	// [{products 2} {recommendations 30}] <nil>
}

func ExampleCalculator_SectionCost() {
	calculator, err := graphqlcost.New(graphqlcost.Options{
		Costs:    map[string]int64{"search": 100},
		Sections: map[string]string{"Query.search": "search"},
	})
	if err != nil {
		panic(err)
	}
	searches := calculator.SectionCost("search")
	fmt.Println(searches(httptest.NewRequest("GET", "/graphql?query={search(text:1)%20user{name}}", nil)))
	// Output:
	// 100 <nil>
}

func ExampleCalculator_OperationCost() {
	calculator, err := graphqlcost.New(graphqlcost.Options{}) // no schema
	if err != nil {
		panic(err)
	}
	fmt.Println(calculator.OperationCost(context.Background(), graphqlcost.Operation{
		Query:     `query($n: Int) { users(first: $n) { posts(first: 5) { title } } }`,
		Variables: `{"n": 10}`,
	}))
	// Output:
	// 60 <nil>
}
