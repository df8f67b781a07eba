package graphqlcost_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/stint-go/stint/middleware/graphqlcost"
)

// A query as a shop's page sends it.
const typical = `query ProductPage($handle: ID!, $first: Int!, $withReviews: Boolean = true) {
  product(id: $handle) {
    id
    title
    ...Prices
    variants(first: $first) {
      edges {
        cursor
        node { id sku ...Prices available }
      }
      pageInfo { hasNextPage endCursor }
    }
    reviews(first: 5) @include(if: $withReviews) {
      nodes { id rating body author { id name } }
    }
    related(limit: 4) { id title ...Prices }
  }
  viewer { id name cart { total lines(first: 20) { quantity product { id title } } } }
}

fragment Prices on Priced {
  price { amount currency }
  compareAt { amount currency }
}`

const shop = `
type Query { product(id: ID!): Product viewer: User }
interface Priced { price: Money compareAt: Money }
type Money { amount: Float currency: String }
type PageInfo { hasNextPage: Boolean endCursor: String }
type Product implements Priced {
  id: ID title: String price: Money compareAt: Money
  variants(first: Int): VariantConnection
  reviews(first: Int): ReviewConnection
  related(limit: Int): [Product]
}
type Variant implements Priced { id: ID sku: String price: Money compareAt: Money available: Boolean }
type VariantConnection { edges: [VariantEdge] nodes: [Variant] pageInfo: PageInfo }
type VariantEdge { cursor: String node: Variant }
type ReviewConnection { nodes: [Review] }
type Review { id: ID rating: Int body: String author: User }
type User { id: ID name: String cart: Cart }
type Cart { total: Int lines(first: Int): [Line] }
type Line { quantity: Int product: Product }
`

const typicalVariables = `{"handle": "gid://shop/Product/12", "first": 10}`

// The cost of a document that has not been met is told as a multiple of its bare
// parse, x-parse. Both run by turns, a few times each, so that a busy machine and the
// garbage collector slow down both: of all turns the median counts.
func BenchmarkTypicalToParse(b *testing.B) {
	const times = 10
	turn := func(f func()) time.Duration {
		start := time.Now()
		for range times {
			f()
		}
		return time.Since(start)
	}
	parse := func() {
		if _, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: typical}, 10_000); err != nil {
			b.Fatal(err)
		}
	}
	same := []string{typical}
	var many []string // more than the cache has room for
	for i := range 8000 {
		many = append(many, strings.Replace(typical, "ProductPage", fmt.Sprintf("Product%04d", i), 1))
	}
	for _, mode := range []struct {
		name    string
		options graphqlcost.Options
		texts   []string
	}{
		{"new", graphqlcost.Options{Schema: shop, CacheBytes: -1}, same},
		{"new, without a schema", graphqlcost.Options{CacheBytes: -1}, same},
		{"new, into the cache", graphqlcost.Options{Schema: shop}, many},
		{"cached", graphqlcost.Options{Schema: shop}, same},
	} {
		b.Run(mode.name, func(b *testing.B) {
			c := benchCalculator(b, mode.options)
			var ratios []float64
			at := 0
			for b.Loop() {
				bare := turn(parse)
				whole := turn(func() {
					at++
					op := graphqlcost.Operation{Query: mode.texts[at%len(mode.texts)], Variables: typicalVariables}
					if _, err := c.OperationCost(b.Context(), op); err != nil {
						b.Fatal(err)
					}
				})
				ratios = append(ratios, float64(whole)/float64(bare))
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "x-parse")
			b.ReportMetric(0, "ns/op") // of both together, which means nothing
		})
	}
}

func benchCalculator(b *testing.B, o graphqlcost.Options) *graphqlcost.Calculator {
	b.Helper()
	c, err := graphqlcost.New(o)
	require.NoError(b, err)
	return c
}

func BenchmarkTypical(b *testing.B) {
	op := graphqlcost.Operation{Query: typical, Variables: typicalVariables}
	cost := func(c *graphqlcost.Calculator) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := c.OperationCost(context.Background(), op)
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.Run("parse alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: typical}, 10_000)
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("new", cost(benchCalculator(b, graphqlcost.Options{Schema: shop, CacheBytes: -1})))
	b.Run("new, without a schema", cost(benchCalculator(b, graphqlcost.Options{CacheBytes: -1})))
	b.Run("cached", cost(benchCalculator(b, graphqlcost.Options{Schema: shop})))
	b.Run("cached, as a request", func(b *testing.B) {
		c := benchCalculator(b, graphqlcost.Options{Schema: shop})
		body, _ := json.Marshal(map[string]any{"query": typical, "operationName": "ProductPage", "variables": json.RawMessage(typicalVariables)})
		b.ReportAllocs()
		for b.Loop() {
			r := httptest.NewRequest("POST", "/graphql", strings.NewReader(string(body)))
			_, err := c.Cost(r)
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("such a request alone", func(b *testing.B) {
		body, _ := json.Marshal(map[string]any{"query": typical, "operationName": "ProductPage", "variables": json.RawMessage(typicalVariables)})
		b.ReportAllocs()
		for b.Loop() {
			httptest.NewRequest("POST", "/graphql", strings.NewReader(string(body)))
		}
	})
}
