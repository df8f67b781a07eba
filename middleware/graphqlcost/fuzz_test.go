package graphqlcost_test

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/middleware/graphqlcost"
)

// Whatever a client sends, it is answered soon and without a panic: with a cost
// that the parts add up to, or with a refusal.
func FuzzCost(f *testing.F) {
	for _, test := range corpus {
		f.Add(test.query, test.variables)
	}
	for _, body := range hostile() {
		var r struct {
			Query     string
			Variables json.RawMessage
		}
		if len(body) < 20_000 && json.Unmarshal([]byte(body), &r) == nil {
			f.Add(r.Query, string(r.Variables))
		}
	}
	calculators := []*graphqlcost.Calculator{
		calculator(f, graphqlcost.Options{Schema: social}),
		calculator(f, graphqlcost.Options{Costs: map[string]int64{"User.name": 2, "name": 1, "Query.me": 5}, Sizes: map[string]int64{"posts": 7}}),
	}
	f.Fuzz(func(t *testing.T, query, variables string) {
		for _, c := range calculators {
			op := graphqlcost.Operation{Query: query, Variables: variables}
			start := time.Now()
			cost, err := c.OperationCost(t.Context(), op)
			if took := time.Since(start); took > 2*time.Second {
				t.Fatalf("took %v", took)
			}
			parts, partsErr := c.OperationBreakdown(t.Context(), op)
			if (err == nil) != (partsErr == nil) {
				t.Fatalf("%v, and of the parts %v", err, partsErr)
			}
			if err != nil {
				if _, ok := errors.AsType[*ratelimit.CostError](err); !ok {
					t.Fatal(err)
				}
				continue
			}
			sum := int64(0)
			for _, p := range parts {
				sum += p.Points
			}
			if cost < 1 || sum != cost {
				t.Fatalf("%d, and the parts %v", cost, parts)
			}
		}
	})
}

// A request is read as the server reads it, or refused.
func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		`{"query":"{ me { name } }"}`, `{"query":"{ me { name } }","variables":null,"operationName":"A"}`,
		`[{"query":"{ me { email } }"},{"query":"{\u0020me { \n name } }","variables":{"a":[1,2.5e3]}}]`,
		`{"query":"{ me { name } }","Query":"{ users(first: 9) { name } }"}`, `{"query":"\ud83d\ude00\ud83d"}`,
		`{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}`, `[]`, `{}`, ` `,
	} {
		f.Add(body)
	}
	c := calculator(f, graphqlcost.Options{Schema: social})
	f.Fuzz(func(t *testing.T, body string) {
		cost, err := c.Cost(httptest.NewRequest("POST", "/graphql", strings.NewReader(body)))
		if err != nil {
			if _, ok := errors.AsType[*ratelimit.CostError](err); !ok {
				t.Fatal(err)
			}
			return
		}
		type request struct {
			Query         string
			OperationName string
			Variables     json.RawMessage
		}
		var all []request
		if json.Unmarshal([]byte(body), &all) != nil {
			all = make([]request, 1)
			if err := json.Unmarshal([]byte(body), &all[0]); err != nil {
				t.Fatalf("encoding/json does not read it: %v", err)
			}
		}
		sum := int64(0)
		for _, r := range all {
			n, err := c.OperationCost(t.Context(), graphqlcost.Operation{Query: r.Query, Name: r.OperationName, Variables: string(r.Variables)})
			if err != nil {
				t.Fatalf("what encoding/json reads is refused: %v", err)
			}
			sum += n
		}
		if sum != cost {
			t.Fatalf("%d, and %d as encoding/json reads it", cost, sum)
		}
	})
}
