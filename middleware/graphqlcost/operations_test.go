package graphqlcost_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/middleware/graphqlcost"
	"github.com/stint-go/stint/respond"
)

func ExampleCalculator_Operations() {
	calculator, err := graphqlcost.New(graphqlcost.Options{})
	if err != nil {
		panic(err)
	}
	r := httptest.NewRequest("POST", "/graphql", strings.NewReader(`[{"query":"{ a }"}, {"query":"query B { b }","operationName":"B"}]`))
	operations, batch, err := calculator.Operations(r)
	fmt.Println(len(operations), batch, err)
	fmt.Println(operations[1].Query, operations[1].Name)
	// Output:
	// 2 true <nil>
	// query B { b } B
}

func TestOperations(t *testing.T) {
	t.Parallel()
	c := calculator(t, graphqlcost.Options{Schema: social})
	post := func(body string) *http.Request {
		return httptest.NewRequest("POST", "/graphql", strings.NewReader(body))
	}
	get := func(query string) *http.Request {
		return httptest.NewRequest("GET", "/graphql?query="+url.QueryEscape(query), nil)
	}
	for _, test := range []struct {
		name  string
		r     *http.Request
		want  []string
		batch bool
	}{
		{"one", post(`{"query":"{ me { id } }","variables":{"a":[1]}}`), []string{`{ me { id } }||{"a":[1]}`}, false},
		{"a batch", post(`[{"query":"{ a }"},{"id":"x","variables":null}]`), []string{`{ a }||`, `|x|`}, true},
		{"a batch of one", post(`[{"query":"{ a }"}]`), []string{`{ a }||`}, true},
		{"in the URL", get(`{ me { id } }`), []string{`{ me { id } }||`}, false},
		{"a page", httptest.NewRequest("GET", "/graphql", nil), nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, _ = c.Cost(test.r) // the body is read once
			ops, batch, err := c.Operations(test.r)
			require.NoError(t, err)
			var got []string
			for _, op := range ops {
				got = append(got, op.Query+"|"+op.ID+"|"+op.Variables)
			}
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.batch, batch)
		})
	}
	r := post(`{"query":"{ a }","query":"{ b }"}`)
	_, _, err := c.Operations(r)
	var refused *ratelimit.CostError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, respond.InvalidQuery, refused.Reason)
	left, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	assert.Equal(t, `{"query":"{ a }","query":"{ b }"}`, string(left))
}
