package graphqlcost_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

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
