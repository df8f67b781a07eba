package graphqlcost_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/middleware/graphqlcost"
	"github.com/stint-go/stint/respond"
)

func TestNewTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	type o = graphqlcost.Options
	for want, options := range map[string]o{
		`Limits.Depth: -1 is negative`:                {Limits: graphqlcost.Limits{Depth: -1}},
		`MinCost: -1 is negative`:                     {MinCost: -1},
		`MinCost 5 is more than MaxCost 4`:            {MinCost: 5, MaxCost: 4},
		`costs: name: -1 is out of range`:             {Costs: map[string]int64{"name": -1}},
		`sizes: User.posts: -1 is negative`:           {Sizes: map[string]int64{"User.posts": -1}},
		`Expected Name`:                               {Schema: `type {`},
		`it has no type Query`:                        {Schema: `type User { id: ID }`},
		`costs: the schema has no "User.nothing"`:     {Schema: social, Costs: map[string]int64{"User.nothing": 1}},
		`sizes: the schema has no "Nothing.posts"`:    {Schema: social, Sizes: map[string]int64{"Nothing.posts": 1}},
		`sections: the schema has no "posts"`:         {Schema: social, Sections: map[string]string{"posts": "a"}},
		`sizes: User.name is no list`:                 {Schema: social, Sizes: map[string]int64{"User.name": 1}},
		`Query.a: @cost: weight "x"`:                  {Schema: `type Query { a: Int @cost(weight: "x") }`},
		`Query.a: a field's cost is not negative`:     {Schema: `type Query { a: Int @cost(weight: "-1") }`},
		`I.a: an interface's field has no cost`:       {Schema: `interface I { a: Int @cost(weight: "1") } type Query implements I { a: Int }`},
		`there is no argument "first"`:                {Schema: `type Query { a: [Int] @listSize(slicingArguments: ["first"]) }`},
		`there is no argument "p.n"`:                  {Schema: `input P { m: Int } type Query { a(p: P): [Int] @listSize(slicingArguments: ["p.n"]) }`},
		`it needs an assumedSize`:                     {Schema: `type Query { a: [Int] @listSize }`},
		`the field is no list`:                        {Schema: `type Query { a: Int @listSize(assumedSize: 1) }`},
		`there is no field "c"`:                       {Schema: `type B { b: [Int] } type Query { a: B @listSize(assumedSize: 1, sizedFields: ["c"]) }`},
		`"b" is no list`:                              {Schema: `type B { b: Int } type Query { a: B @listSize(assumedSize: 1, sizedFields: ["b"]) }`},
		`sizedFields are those of a field that is no`: {Schema: `type B { b: [Int] } type Query { a: [B] @listSize(assumedSize: 1, sizedFields: ["b"]) }`},
		`assumedSize: "-1" is no size`:                {Schema: `type Query { a: [Int] @listSize(assumedSize: -1) }`},
	} {
		c, err := graphqlcost.New(options)
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "graphqlcost: ")
		assert.Nil(t, c)
	}
}

// A schema may declare the directives itself, as it likes.
func TestSchemaWithDirectivesOfItsOwn(t *testing.T) {
	t.Parallel()
	c := calculator(t, graphqlcost.Options{Schema: `
		directive @cost(weight: Int!, complexity: Int) on FIELD_DEFINITION
		type Query { a: Int @cost(weight: 7) }`})
	assert.EqualValues(t, 7, cost(t, c, `{ a }`))
}

func cost(t *testing.T, c *graphqlcost.Calculator, query string) int64 {
	t.Helper()
	n, err := c.OperationCost(t.Context(), graphqlcost.Operation{Query: query})
	require.NoError(t, err, query)
	return n
}

func TestOptions(t *testing.T) {
	t.Parallel()
	c := calculator(t, graphqlcost.Options{
		Schema:  social,
		Costs:   map[string]int64{"User.name": 3, "Comment": 4, "Query.users.first": 100, "Filter.text": 20, "Query.search": 5, "Query.me": 0},
		Sizes:   map[string]int64{"Query.staff": 2, "Query.feed": 4, "User.posts": 6},
		MinCost: 2, MutationCost: -1, IntrospectionCost: 30, ListSize: 7, SizeCost: func(n int64) int64 { return (n + 1) / 2 },
	})
	for query, want := range map[string]int64{
		`{ me { name } }`:            3,   // 0 + 3
		`{ __typename }`:             2,   // the minimum
		`{ staff { id } }`:           2,   // ⌈2/2⌉ × 1, and the minimum
		`{ everyone { id } }`:        4,   // ⌈7/2⌉ × 1
		`{ users(first: 9) { id } }`: 105, // 100 + ⌈9/2⌉ × 1
		`{ search(query: "", filter: {text: ""}) { total } }`: 25, // 20 + 5
		`mutation { ping a: ping }`:                           2,  // nothing, and the minimum
		`{ __schema { types { name } } }`:                     30,
		`{ feed { ... on Comment { id } } }`:                  8, // ⌈4/2⌉ × 4: Item weighs as Comment
		`{ user(id: 1) { posts(first: 3) { id } } }`:          5, // 1 + ⌈3/2⌉ × 2
		`{ user(id: 1) { posts(first: null) { id } } }`:       7, // 1 + ⌈6/2⌉ × 2
	} {
		assert.Equal(t, want, cost(t, c, query), query)
	}
	none := calculator(t, graphqlcost.Options{Schema: social, NoIntrospection: true})
	for _, query := range []string{`{ __schema { types { name } } }`, `{ ...F } fragment F on Query { __type(name: "User") { name } }`} {
		_, err := none.OperationCost(t.Context(), graphqlcost.Operation{Query: query})
		assert.Equal(t, respond.InvalidQuery, reasonOf(err))
	}
	assert.EqualValues(t, 1, cost(t, none, `{ __typename }`))
}

func TestWithoutSchema(t *testing.T) {
	t.Parallel()
	c := calculator(t, graphqlcost.Options{})
	for query, want := range map[string]int64{
		`{ __typename }`:                1,
		`{ me { name best { name } } }`: 2, // 1 + 1
		`{ users(first: 5) { name } }`:  5, // 5×1
		`{ users(first: 5) { edges { node { posts(last: 3) { id } } } } }`:   30, // 5×(1 + (1 + (1 + 3×1)))
		`{ users(ids: [1, 2, 3]) { name } }`:                                 3,
		`{ users(ids: 9) { name } }`:                                         1,
		`{ a(first: 5) { x } a(first: 5) { y { z } } }`:                      10, // merged: 5×(1 + 1)
		`{ a(first: 5) { x } a(first: 6) { x } }`:                            11, // of types that exclude one another: both
		`{ node { ... on A { x: f { y } } ... on B { x: f { z { y } } } } }`: 3,  // 1 + 1 + 1
		`{ node { ... on A { f { y } } ... on B { g { y } } } }`:             3,  // every fragment counts
		`mutation { like { id } }`:                                           11,
		`{ __schema { types { name } } }`:                                    10,
	} {
		assert.Equal(t, want, cost(t, c, query), query)
	}
	for _, query := range []string{`{ a(first: -1) { b } }`, `{ a(first: "x") { b } }`, `{ ...F } fragment F on Q { ...F }`, `{ a(first: $n) }`} {
		_, err := c.OperationCost(t.Context(), graphqlcost.Operation{Query: query})
		assert.Equal(t, respond.InvalidQuery, reasonOf(err), query)
	}
	named := calculator(t, graphqlcost.Options{
		Costs:   map[string]int64{"Query.search": 100, "User.name": 2, "Post.name": 7, "email": 3},
		Sizes:   map[string]int64{"User.posts": 4, "friends": 5},
		Slicing: []string{"take"}, ListSize: 2,
	})
	for query, want := range map[string]int64{
		`{ search }`:              100,
		`{ search { x } }`:        200, // a list of 2, maybe
		`{ a { search } }`:        202, // 2×(1 + 100), the most of any type
		`{ a(take: 1) { name } }`: 8,   // 1 + 7
		`{ a(take: 1) { ... on User { name email } } }`:                6, // 1 + 2 + 3
		`{ a(take: 1) { ... on User { name } ... on Post { name } } }`: 8, // 1 + 7
		`{ a(take: 1) { posts { id } } }`:                              5, // 1 + 4×1
		`{ friends { id } }`:                                           5, // 5×1
		`{ a(first: 9) { id } }`:                                       2, // 2×1
	} {
		assert.Equal(t, want, cost(t, named, query), query)
	}
}

func TestBreakdown(t *testing.T) {
	t.Parallel()
	c := calculator(t, graphqlcost.Options{MinCost: 10, Schema: `
		type Query { a: Int @cost(weight: "0.4") b: Int @cost(weight: "0.4") c: Int @cost(weight: "25") list(first: Int): [Thing] }
		type Mutation { a: Int @cost(weight: "1") }
		union Thing = One | Two
		type One { x: Int @cost(weight: "3") @section(name: "deep") y: Int @cost(weight: "1") more: [One] @section(name: "deeper") }
		type Two { x: Int @cost(weight: "2") @section(name: "two") }`,
		Sections: map[string]string{"Query.c": "expensive"}})
	type parts = ratelimit.Costs
	for query, want := range map[string]parts{
		`{ __typename }`:      {{Name: "minimum", Points: 10}},
		`{ a b }`:             {{Name: "a", Points: 1}, {Name: "minimum", Points: 9}}, // 0.8: rounded up together
		`{ c x: c a }`:        {{Name: "expensive", Points: 50}, {Name: "a", Points: 1}},
		`mutation { a b: a }`: {{Name: "a", Points: 22}},
		`{ list(first: 4) { ... on One { x y } ... on Two { x } } }`:            {{Name: "list", Points: 8}, {Name: "deep", Points: 12}},
		`{ list(first: 4) { ... on One { x more { x y } } ... on Two { x } } }`: {{Name: "list", Points: 4}, {Name: "deep", Points: 132}, {Name: "deeper", Points: 80}},
	} {
		got, err := c.OperationBreakdown(t.Context(), graphqlcost.Operation{Query: query})
		assert.NoError(t, err)
		assert.Equal(t, want, got, query)
	}
	many := calculator(t, graphqlcost.Options{Limits: graphqlcost.Limits{RootFields: 100, Keys: 1000}})
	query := "{ "
	for i := range 70 {
		query += fmt.Sprintf("f%d { x } ", i)
	}
	got, err := many.OperationBreakdown(t.Context(), graphqlcost.Operation{Query: query + "}"})
	assert.NoError(t, err)
	assert.Len(t, got, 50)
	assert.Equal(t, graphqlcost.Part{Name: "other", Points: 21}, got[49])
}

// An interface of 500 types costs no more work than its classes.
func TestManyTypes(t *testing.T) {
	t.Parallel()
	var sdl strings.Builder
	sdl.WriteString("type Query { node: Node } interface Node { id: ID next: Node }\n")
	for i := range 500 {
		fmt.Fprintf(&sdl, "type T%d implements Node { id: ID @cost(weight: \"%d\") next: Node f: Int @cost(weight: \"%d\") }\n", i, i%3, i)
	}
	c := calculator(t, graphqlcost.Options{Schema: sdl.String(), Limits: graphqlcost.Limits{Work: 500}})
	assert.EqualValues(t, 9, cost(t, c, `{ node { next { next { next { next { id } } } } id } }`)) // 1 + (1 + 1 + 1 + 1 + 2) + 2
	// Three classes in one another: 3^13 ways, but no more sets than levels.
	usual := calculator(t, graphqlcost.Options{Schema: sdl.String()})
	deep := `{ node { ` + strings.Repeat(`id next { `, 12) + `id` + strings.Repeat(` }`, 14)
	assert.EqualValues(t, 39, cost(t, usual, deep)) // 13×(1 + 2)
	assert.EqualValues(t, 500, cost(t, c, `{ node { ... on T499 { f } ... on T7 { f } } }`))
}

// The cache is bounded whatever documents come, and keeps those in use.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	looked := 0
	c := calculator(t, graphqlcost.Options{Schema: social, CacheBytes: 100_000})
	op := func(i int) graphqlcost.Operation {
		return graphqlcost.Operation{Query: fmt.Sprintf("{ me { email a%d: id } }", i)}
	}
	for i := range 5000 {
		_, err := c.OperationCost(t.Context(), op(i))
		require.NoError(t, err)
		_, err = c.OperationCost(t.Context(), op(0)) // in use
		require.NoError(t, err)
	}
	known := func(i int) bool {
		_, err := c.OperationCost(t.Context(), graphqlcost.Operation{ID: hash(op(i).Query)})
		return err == nil
	}
	for i := range 5000 {
		if known(i) {
			looked++
		}
	}
	assert.True(t, known(0), "what is in use stays")
	assert.True(t, known(4999), "what is new is kept")
	assert.Less(t, looked, 100_000/512)
	assert.Greater(t, looked, 20)
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	c := calculator(t, graphqlcost.Options{Schema: social, CacheBytes: 20_000})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 300 {
				test := corpus[i%len(corpus)]
				if strings.HasPrefix(test.query, "query Q") {
					continue
				}
				n, err := c.OperationCost(t.Context(), graphqlcost.Operation{Query: test.query, Variables: test.variables})
				assert.NoError(t, err)
				assert.Equal(t, test.want, n)
			}
		})
	}
	wg.Wait()
}
