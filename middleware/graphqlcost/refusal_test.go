package graphqlcost_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/stint-go/stint/middleware/graphqlcost"
	"github.com/stint-go/stint/respond"
)

// What no server executes, and what asks for too much, is refused with a code, and
// the minimum beside it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	c := calculator(t, graphqlcost.Options{Schema: social, MinCost: 3})
	const wrong, complex = respond.InvalidQuery, respond.QueryTooComplex
	for _, test := range []struct {
		query, variables string
		want             respond.Reason
	}{
		{``, ``, wrong},
		{`{`, ``, wrong},
		{`{ }`, ``, wrong},
		{`{ me }`, ``, wrong},
		{`{ me { } }`, ``, wrong},
		{`{ me { name { x } } }`, ``, wrong},
		{`{ nothing }`, ``, wrong},
		{`{ me { nothing } }`, ``, wrong},
		{`{ node(id: 1) { email } }`, ``, wrong},
		{`{ feed { id } }`, ``, wrong},
		{`{ user { name } }`, ``, wrong},
		{`{ user(id: null) { name } }`, ``, wrong},
		{`{ user(id: 1, id: 2) { name } }`, ``, wrong},
		{`{ user(id: 1, x: 2) { name } }`, ``, wrong},
		{`{ __typename { x } }`, ``, wrong},
		{`{ __typename(x: 1) }`, ``, wrong},
		{`type T { a: Int }`, ``, wrong},
		{`fragment F on User { name }`, ``, wrong},
		{`query A { me { name } } query B { me { name } }`, ``, wrong},
		{`query A { me { name } } { me { name } }`, ``, wrong},
		{`subscription { me { name } }`, ``, wrong},

		{`{ me { ...F } }`, ``, wrong},
		{`{ me { name } } fragment F on User { name }`, ``, wrong},
		{`{ me { ...F } } fragment F on User { name } fragment F on User { id }`, ``, wrong},
		{`{ me { ...F } } fragment F on Nothing { name }`, ``, wrong},
		{`{ me { ...F } } fragment F on Filter { text }`, ``, wrong},
		{`{ me { ...F } } fragment F on Ad { url }`, ``, wrong},
		{`{ me { ...F } } fragment F on User { ...F }`, ``, wrong},
		{`{ me { ...F } } fragment F on User { best { ...G } } fragment G on User { best { ...F } }`, ``, wrong},

		{`{ a: me { name } a: user(id: 1) { name } }`, ``, wrong},
		{`{ users(first: 1) { name } users(first: 1000) { name } }`, ``, wrong},
		{`{ me { a: name a: email } }`, ``, wrong},

		{`{ users { name } }`, ``, wrong},
		{`{ users(first: 1, last: 1) { name } }`, ``, wrong},
		{`query($n: Int) { users(first: $n) { name } }`, ``, wrong},
		{`{ users(first: -1) { name } }`, ``, wrong},
		{`{ me { friends(first: -9) { total } } }`, ``, wrong},
		{`{ users(first: 9223372036854775808) { name } }`, ``, wrong},
		{`{ users(first: -99999999999999999999999) { name } }`, ``, wrong},
		{`{ users(first: 1.5) { name } }`, ``, wrong},
		{`{ users(first: "x") { name } }`, ``, wrong},
		{`{ users(first: {a: 1}) { name } }`, ``, wrong},
		{`query($n: Int!) { users(first: $n) { name } }`, `{"n": -1}`, wrong},
		{`query($n: Int!) { users(first: $n) { name } }`, `{"n": 1e30}`, wrong},
		{`query($n: Int!) { users(first: $n) { name } }`, `{"n": 99999999999999999999}`, wrong},
		{`query($n: Int!) { users(first: $n) { name } }`, `{"n": "0x10"}`, wrong},
		{`query($n: Int!) { users(first: $n) { name } }`, `{"n": true}`, wrong},
		{`query($n: Int!) { users(first: $n) { name } }`, `{"n": 1, "n": 1000}`, wrong},
		{`query($n: Int!) { users(first: $n) { name } }`, `{"n": null}`, wrong},
		{`query($n: Int!) { users(first: $n) { name } }`, `{}`, wrong},
		{`query($n: Int!) { users(first: $n) { name } }`, `[1]`, wrong},
		{`query($n: Int!) { users(first: $n) { name } }`, `{"n": 1}{}`, wrong},
		{`query($n: Int!) { users(first: $n) { name } }`, `{"n": 01}`, wrong},
		{`query($n: Int!, $n: Int) { users(first: $n) { name } }`, `{"n": 1}`, wrong},
		{`query($n: Nothing) { users(first: $n) { name } }`, `{"n": 1}`, wrong},
		{`query($n: User) { users(first: $n) { name } }`, `{"n": 1}`, wrong},
		{`{ users(first: $n) { name } }`, `{"n": 1}`, wrong},
		{`{ user(id: [$n]) { name } }`, `{"n": 1}`, wrong},
		{`query($p: Page) { search(query: "a", page: $p) { total } }`, `{"p": {"size": 1, "size": 2}}`, wrong},
		{`query($b: Boolean!) { me { name @skip(if: $b) } }`, `{"b": "true"}`, wrong},
		{`query($b: Boolean) { me { name @skip(if: $b) } }`, `{}`, wrong},
		{`{ me { name @skip(if: $b) } }`, `{"b": true}`, wrong},
		{`{ me { name @skip } }`, ``, wrong},
		{`{ me { name @include(if: 1) } }`, ``, wrong},

		{`{ users(first: 1001) { name } }`, ``, complex},
		{`query($n: Int!) { users(first: $n) { name } }`, `{"n": 9223372036854775807}`, complex},
		{`query($n: Int!) { users(first: $n) { name } }`, `{"n": 1001}`, complex},
		{`{ nodes(ids: [` + strings.Repeat(`1,`, 1001) + `]) { id } }`, ``, complex},
		{`{ me { ` + strings.Repeat(`best { `, 14) + `name` + strings.Repeat(` }`, 15) + ` }`, ``, complex}, // 16 deep
		{`{ ` + aliases(31) + ` }`, ``, complex},
		{`{ me { ` + aliasesOf("email", 31) + ` } }`, ``, complex},
		{`{ me { name @a @b @c @d @e @f } }`, ``, complex},
		{`query @a @b @c @d @e @f { me { name } }`, ``, complex},
		{strings.Repeat(" ", 100<<10) + `{ me { name } }`, ``, complex},
		{`{ me { name(a: ` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `) } }`, ``, complex},
		{`{ me { ` + strings.Repeat("name ", 10_000) + ` } }`, ``, complex},
		{`{ me { ...F0 } } ` + fragments(101), ``, complex},
		{`{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }`, ``, complex},
		{`{ __schema { types { ` + strings.Repeat("ofType { ", 20) + `name` + strings.Repeat(" }", 20) + ` } } }`, ``, complex},
	} {
		for range 2 { // the second comes from the cache
			got, err := c.OperationCost(t.Context(), graphqlcost.Operation{Query: test.query, Variables: test.variables})
			assert.Equal(t, test.want, reasonOf(err), "%.200s %s: %d, %v", test.query, test.variables, got, err)
			assert.EqualValues(t, 3, got, "the minimum")
		}
		_, err := c.OperationBreakdown(t.Context(), graphqlcost.Operation{Query: test.query, Variables: test.variables})
		assert.Equal(t, test.want, reasonOf(err), "%.200s", test.query)
	}
}

// What is exactly at the limits passes.
func TestLimitsAreInclusive(t *testing.T) {
	t.Parallel()
	c := calculator(t, graphqlcost.Options{Schema: social})
	for _, test := range []struct {
		query string
		want  int64
	}{
		{`{ ` + `me { ` + strings.Repeat(`best { `, 13) + `name` + strings.Repeat(` }`, 14) + ` }`, 14}, // 15 deep
		{`{ ` + aliases(20) + ` }`, 20}, // 20 fields at the root
		{`{ me { ` + aliasesOf("email", 30) + ` } }`, 31},
		{`{ me { email @a @b @c @d @e } }`, 2},
		{strings.Repeat(" ", 100<<10-len(`{ me { name } }`)) + `{ me { name } }`, 1},
		{`{ me { ...F0 } } ` + fragments(100), 2},
		{`{ __schema { types { fields { type { fields { name } } } } } }`, 10},
	} {
		got, err := c.OperationCost(t.Context(), graphqlcost.Operation{Query: test.query})
		assert.NoError(t, err, "%.100s", test.query)
		assert.Equal(t, test.want, got, "%.100s", test.query)
	}
	small := calculator(t, graphqlcost.Options{Schema: social, Limits: graphqlcost.Limits{Keys: 3, Tokens: 9, Aliases: 100}})
	for query, want := range map[string]respond.Reason{
		`{ me { id name } }`:       "",
		`{ me { id name email } }`: respond.QueryTooComplex, // four keys
		`{ me { id, id id id } }`:  "",                      // nine tokens
		`{me{id id id id id id}}`:  respond.QueryTooComplex, // ten
	} {
		_, err := small.OperationCost(t.Context(), graphqlcost.Operation{Query: query})
		assert.Equal(t, want, reasonOf(err), "%s: %v", query, err)
	}
}

func aliases(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "a%d: me { name } ", i)
	}
	return b.String()
}

func aliasesOf(field string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "a%d: %s ", i, field)
	}
	return b.String()
}

// fragments returns a chain of fragments of users.
func fragments(n int) string {
	var b strings.Builder
	for i := range n - 1 {
		fmt.Fprintf(&b, "fragment F%d on User { ...F%d } ", i, i+1)
	}
	fmt.Fprintf(&b, "fragment F%d on User { email }", n-1)
	return b.String()
}
