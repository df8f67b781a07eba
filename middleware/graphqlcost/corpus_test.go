package graphqlcost_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/middleware/graphqlcost"
	"github.com/stint-go/stint/respond"
)

// social is the schema of the corpus. What has no @cost weighs 1 as an object and
// nothing as a leaf; what says nothing of its size has 10 items.
const social = `
type Query {
	me: User
	user(id: ID!): User
	users(first: Int, last: Int): [User!]! @listSize(slicingArguments: ["first", "last"])
	staff: [User] @listSize(assumedSize: 5)
	everyone: [User]
	posts(limit: Int = 20): [Post]
	tags: [String!] @cost(weight: "2")
	matrix: [[Cell]]
	node(id: ID!): Node
	nodes(ids: [ID!]!): [Node]!
	feed(first: Int): [Item] @listSize(assumedSize: 3, slicingArguments: ["first"], requireOneSlicingArgument: false)
	search(query: String!, vector: Boolean @cost(weight: "900"), filter: Filter, page: Page): Results
		@cost(weight: "600") @section(name: "search")
		@listSize(slicingArguments: ["page.size"], sizedFields: ["hits", "facets.values"], requireOneSlicingArgument: false)
	report(rough: Boolean @cost(weight: "-30")): Report @cost(weight: "40")
}
type Mutation {
	addPost(title: String!): Post
	ping: Boolean
	like(id: ID!): Comment @cost(weight: "25")
}
type Subscription { commented(post: ID): Comment }

interface Node { id: ID! }
type User implements Node {
	id: ID!
	name: String
	email: String @cost(weight: "1")
	posts(first: Int = 5): [Post]
	friends(first: Int): Friends
	best: User
}
type Post implements Node @cost(weight: "2") { id: ID! title: String author: User comments(first: Int): [Comment] }
type Comment implements Node { id: ID! text: String author: User score: Float @cost(weight: "0.5") }
type Ad { url: String @cost(weight: "7") }
union Item = Post | Comment | Ad
type Friends { edges: [Edge] nodes: [User] total: Int @cost(weight: "4") }
type Edge { cursor: String node: User }
type Cell { n: Int }
type Results { hits: [Item] facets: Facets total: Int }
type Facets { values: [Facet] }
type Facet { name: String }
type Report { rows: Int pages: [Page_] }
type Page_ { n: Int }
input Filter { text: String @cost(weight: "8") cheap: Boolean @cost(weight: "-50") and: [Filter!] not: Filter }
input Page { size: Int = 4 from: Int }
directive @trace(deep: Boolean @cost(weight: "6")) on FIELD
`

// The numbers are worked out by hand from the formula
//
//	field = raw + max(1, n) × (weight + below)
//
// with raw what the arguments weigh, n how long the list is, and below the most
// that can be selected of what the field returns. What costs nothing costs 1.
var corpus = []struct {
	query     string
	variables string
	want      int64
}{
	// Leaves and objects.
	{`{ __typename }`, ``, 1},                                  // 0: the minimum
	{`{ me { name } }`, ``, 1},                                 // 1 + 0
	{`{ me { email } }`, ``, 2},                                // 1 + 1
	{`{ me { __typename id name email } }`, ``, 2},             // 1 + 1
	{`{ me { best { best { name } } } }`, ``, 3},               // 1 + 1 + 1
	{`query { me { name } user(id: 1) { name } }`, ``, 2},      // 1 + 1
	{`query Q { me { best { email } email } }`, ``, 4},         // 1 + (1+1) + 1
	{`{ node(id: 1) { id } }`, ``, 2},                          // Node weighs as its heaviest, Post: 2
	{`{ report { rows } }`, ``, 40},                            // its own weight, not Report's
	{`{ me { friends(first: 1) { total } } }`, ``, 6},          // 1 + (1 + 4)
	{`subscription { commented { text } }`, ``, 1},             // 1
	{`subscription { commented { author { email } } }`, ``, 3}, // 1 + (1 + 1)

	// Decimals are summed in thousandths and rounded up once.
	{`subscription { commented { score } }`, ``, 2},                                  // 1.5
	{`{ user(id: 1) { posts(first: 3) { comments(first: 1) { score } } } }`, ``, 12}, // 1 + 3×(2 + 1×(1 + 0.5)) = 11.5

	// Lists: arguments, literal.
	{`{ users(first: 3) { name } }`, ``, 3},             // 3×1
	{`{ users(last: 7) { email } }`, ``, 14},            // 7×(1 + 1)
	{`{ users(first: 0) { name } }`, ``, 1},             // max(1, 0)×1
	{`{ users(first: 1000) { name } }`, ``, 1000},       // the most that a page may be
	{`{ users(first: 3, last: null) { name } }`, ``, 3}, // null is not given
	{`{ nodes(ids: [1, 2, 3]) { id } }`, ``, 6},         // 3×2
	{`{ nodes(ids: "a") { id } }`, ``, 2},               // one stands for a list of one
	{`{ nodes(ids: 7) { id } }`, ``, 2},                 // also if it is a number
	{`{ nodes(ids: []) { id } }`, ``, 2},                // max(1, 0)×2
	{`{ posts(limit: 4) { title } }`, ``, 8},            // 4×2
	{`{ posts(limit: 4) { author { name } } }`, ``, 12}, // 4×(2 + 1)

	// Lists: without an argument.
	{`{ posts { title } }`, ``, 40},                       // the schema's default 20 × 2
	{`{ posts(limit: null) { title } }`, ``, 20},          // null is not the default: 10 × 2
	{`{ staff { name } }`, ``, 5},                         // assumed 5 × 1
	{`{ everyone { email } }`, ``, 20},                    // 10×(1 + 1)
	{`{ tags }`, ``, 20},                                  // 10×2
	{`{ matrix { n } }`, ``, 100},                         // 10×10×1
	{`{ feed { ... on Ad { url } } }`, ``, 27},            // 3×(2 + 7): Item weighs as Post
	{`{ feed(first: 10) { ... on Ad { url } } }`, ``, 90}, // 10×(2 + 7)

	// Lists in lists multiply.
	{`{ users(first: 3) { posts(first: 4) { title } } }`, ``, 27},                                   // 3×(1 + 4×2)
	{`{ users(first: 3) { posts { title } } }`, ``, 33},                                             // 3×(1 + 5×2)
	{`{ users(first: 2) { posts(first: 3) { comments(first: 4) { author { email } } } } }`, ``, 86}, // 2×(1 + 3×(2 + 4×(1 + 1 + 1))) = 2×43
	{`{ everyone { posts { comments { text } } } }`, ``, 610},                                       // 10×(1 + 5×(2 + 10×1))

	// Connections: the size goes to the lists below.
	{`{ me { friends(first: 8) { edges { node { name } } } } }`, ``, 18},                        // 1 + 1 + 8×(1 + 1)
	{`{ me { friends(first: 8) { nodes { email } total } } }`, ``, 22},                          // 1 + 1 + 8×(1 + 1) + 4
	{`{ me { friends { nodes { name } } } }`, ``, 12},                                           // 1 + 1 + 10×1
	{`{ me { friends(first: 2) { nodes { friends(first: 3) { nodes { name } } } } } }`, ``, 12}, // 1 + 1 + 2×(1 + (1 + 3×1))
	{`{ search(query: "a", page: {size: 5}) { hits { ... on Comment { id } } } }`, ``, 610},     // 600 + 5×2
	{`{ search(query: "a", page: {size: 5}) { facets { values { name } } } }`, ``, 606},         // 600 + 1 + 5×1
	{`{ search(query: "a", page: {from: 9}) { hits { ... on Comment { id } } } }`, ``, 608},     // the input's default: 600 + 4×2
	{`{ search(query: "a") { hits { ... on Comment { id } } } }`, ``, 620},                      // no page at all: 600 + 10×2
	{`{ search(query: "a", page: {size: 5}) { total } }`, ``, 600},                              // nothing of that size is selected

	// Variables.
	{`query($n: Int!) { users(first: $n) { name } }`, `{"n": 9}`, 9},                                        // 9×1
	{`query($n: Int = 6) { users(first: $n) { name } }`, ``, 6},                                             // the variable's default
	{`query($n: Int = 6) { users(first: $n) { name } }`, `{"n": 2}`, 2},                                     // which a value overrides
	{`query($n: Int) { posts(limit: $n) { title } }`, ``, 40},                                               // no value: as if not given, 20×2
	{`query($n: Int) { posts(limit: $n) { title } }`, `{"n": null}`, 20},                                    // null: 10×2
	{`query($n: Int) { users(first: $n, last: 4) { name } }`, `{}`, 4},                                      // $n is not given
	{`query($n: Int) { users(first: $n) { name } }`, `{"n": "12"}`, 12},                                     // some servers take it
	{`query($n: Int) { users(first: $n) { name } }`, `{"n": 1.2e1}`, 12},                                    // as they do this
	{`query($ids: [ID!]!) { nodes(ids: $ids) { id } }`, `{"ids": ["a", "],[", "c\"", {"x": [1, 2]}]}`, 8},   // 4×2
	{`query($ids: [ID!]!) { nodes(ids: $ids) { id } }`, `{"ids": "a"}`, 2},                                  // 1×2
	{`query($a: ID!, $b: ID!) { nodes(ids: [$a, $b]) { id } }`, `{"a": 1, "b": 2}`, 4},                      // 2×2
	{`query($p: Page) { search(query: "a", page: $p) { hits { __typename } } }`, `{"p": {"size": 7}}`, 614}, // 600 + 7×2
	{`query($p: Page) { search(query: "a", page: $p) { hits { __typename } } }`, `{"p": {}}`, 608},          // 600 + 4×2
	{`query($s: Int) { search(query: "a", page: {size: $s}) { hits { __typename } } }`, `{"s": 3}`, 606},    // 600 + 3×2
	{`query($s: Int) { search(query: "a", page: {size: $s}) { hits { __typename } } }`, ``, 608},            // not given: 600 + 4×2

	// Aliases count, duplicates do not.
	{`{ a: me { name } b: me { name } }`, ``, 2},                    // 1 + 1
	{`{ a: me { email } b: me { name } c: me { id } }`, ``, 4},      // 2 + 1 + 1
	{`{ me { email } me { email } }`, ``, 2},                        // one key
	{`{ me { email email email } }`, ``, 2},                         // one key
	{`{ me { email } me { best { name } } }`, ``, 3},                // 1 + (1 + 1): merged below
	{`{ me { best { email } } me { best { email name } } }`, ``, 3}, // 1 + 1 + 1: merged two deep
	{`{ me { a: email b: email } }`, ``, 3},                         // 1 + 1 + 1
	{`{ x: users(first: 2) { name } y: users(first: 3) { name } }`, ``, 5},

	// Fragments.
	{`{ ...F } fragment F on Query { me { email } }`, ``, 2},
	{`{ ...F ...F } fragment F on Query { me { email } }`, ``, 2},                                            // merged
	{`{ me { ...F email } } fragment F on User { email best { ...G } } fragment G on User { email }`, ``, 4}, // 1 + 1 + (1 + 1)
	{`{ ... { me { email } } ... on Query { me { name } } }`, ``, 2},
	{`{ users(first: 2) { ...F posts(first: 3) { title } } } fragment F on User { posts(first: 3) { author { name } } }`, ``, 20}, // 2×(1 + 3×(2 + 1))

	// Interfaces and unions: the most that one type can have.
	{`{ node(id: 1) { ... on User { email } ... on Post { title } } }`, ``, 3},                                                                          // 2 + max(1, 0)
	{`{ node(id: 1) { ... on User { email best { name } } ... on Post { author { email } } ... on Comment { score } } }`, ``, 4},                        // 2 + max(1 + 1, 1 + 1, 0.5)
	{`{ node(id: 1) { id ... on Node { id ... on User { email } } } }`, ``, 3},                                                                          // 2 + 1
	{`{ feed { ... on Post { title } ... on Comment { author { name } } ... on Ad { url } } }`, ``, 27},                                                 // 3×(2 + max(0, 1, 7))
	{`{ feed { ... on Node { ... on Comment { score } ... on Post { author { email } } } } }`, ``, 12},                                                  // 3×(2 + max(0.5, 2))
	{`{ feed { ... on Post { a: author { name } } ... on Comment { b: author { name } c: author { name } } } }`, ``, 12},                                // 3×(2 + max(1, 2))
	{`{ feed { ...P ...C ... on Node { id } } } fragment P on Post { comments(first: 2) { text } } fragment C on Comment { author { email } }`, ``, 12}, // 3×(2 + max(2×1, 1 + 1))

	// @skip and @include.
	{`{ me { email @skip(if: true) } }`, ``, 1},
	{`{ me { email @include(if: true) } }`, ``, 2},
	{`query($b: Boolean!) { me { email @skip(if: $b) } }`, `{"b": false}`, 2},
	{`query($b: Boolean!) { me { email @skip(if: $b) } }`, `{"b": true}`, 1},
	{`query($b: Boolean = true) { users(first: 9) @include(if: $b) { name } me { name } }`, ``, 10},
	{`query($b: Boolean = true) { users(first: 9) @include(if: $b) { name } me { name } }`, `{"b": false}`, 1},
	{`query($b: Boolean!) { me { ...F @include(if: $b) } } fragment F on User { email best { email } }`, `{"b": true}`, 4}, // 1 + 1 + 2
	{`query($b: Boolean!) { me { ...F @include(if: $b) } } fragment F on User { email best { email } }`, `{"b": false}`, 1},
	{`query($a: Boolean!, $b: Boolean!) { me { email @include(if: $a) email @include(if: $b) } }`, `{"a": false, "b": true}`, 2}, // either is enough
	{`query($a: Boolean!, $b: Boolean!) { me { email @include(if: $a) @skip(if: $b) } }`, `{"a": true, "b": true}`, 1},           // both must
	{`query($a: Boolean!) { me @include(if: $a) { best { email } } me { best { name } } }`, `{"a": false}`, 2},                   // below, each by its own
	{`query($a: Boolean!) { me @include(if: $a) { best { email } } me { best { name } } }`, `{"a": true}`, 3},
	{`query($a: Boolean!) { me @include(if: $a) { best @skip(if: $a) { email } email } }`, `{"a": true}`, 2}, // what can never be below
	{`query($a: Boolean!, $b: Boolean!) { me @include(if: $a) { best @include(if: $b) { email } email } }`, `{"a": true, "b": false}`, 2},
	{`query($a: Boolean!, $b: Boolean!) { me @include(if: $a) { best @include(if: $b) { email } email } }`, `{"a": true, "b": true}`, 4},
	{`query($a: Boolean!, $b: Boolean!) { me @include(if: $a) { best @include(if: $b) { email } email } }`, `{"a": false, "b": true}`, 1},
	{`query($a: Boolean!, $b: Boolean!) { me @include(if: $a) { best { email } } me @include(if: $b) { best { name } email } }`, `{"a": true, "b": false}`, 3},
	{`query($a: Boolean!, $b: Boolean!) { me @include(if: $a) { best { email } } me @include(if: $b) { best { name } email } }`, `{"a": false, "b": true}`, 3},
	{`query($a: Boolean!, $b: Boolean!) { me @include(if: $a) { best { email } } me @include(if: $b) { best { name } email } }`, `{"a": true, "b": true}`, 4},
	{`query($n: Int!, $b: Boolean!) { users(first: $n) @skip(if: $b) { name } }`, `{"n": -1, "b": true}`, 1}, // what is skipped is not looked at

	// What arguments weigh.
	{`{ search(query: "a", vector: true) { total } }`, ``, 1500}, // 900 + 600
	{`{ search(query: "a", vector: null) { total } }`, ``, 600},
	{`query($v: Boolean) { search(query: "a", vector: $v) { total } }`, `{"v": true}`, 1500},
	{`query($v: Boolean) { search(query: "a", vector: $v) { total } }`, ``, 600},
	{`{ search(query: "a", filter: {text: "x"}) { total } }`, ``, 608},                                                    // 8 + 600
	{`{ search(query: "a", filter: {and: [{text: "x"}, {text: "y", not: {text: "z"}}]}) { total } }`, ``, 624},            // 3×8 + 600
	{`query($f: Filter) { search(query: "a", filter: $f) { total } }`, `{"f": {"and": {"text": "x"}, "text": "y"}}`, 616}, // 2×8 + 600
	{`query($t: String) { search(query: "a", filter: {text: $t}) { total } }`, `{"t": "x"}`, 608},
	{`{ search(query: "a", filter: {cheap: true}) { total } }`, ``, 550}, // 600 − 50
	{`{ report(rough: true) { rows } }`, ``, 10},                         // 40 − 30
	{`{ report(rough: true) { pages { n } } }`, ``, 20},                  // 40 − 30 + 10×1
	{`{ me @trace(deep: true) { name } }`, ``, 7},                        // 6 + 1

	// Mutations: 10 for each field of the root.
	{`mutation { ping }`, ``, 10},
	{`mutation { like(id: 1) { text } }`, ``, 35},               // 10 + 25
	{`mutation { addPost(title: "a") { title } ping }`, ``, 22}, // 2×10 + 2
	{`mutation { a: ping b: ping b: ping __typename }`, ``, 20}, // 2×10
	{`mutation($b: Boolean!) { a: ping @skip(if: $b) b: ping }`, `{"b": true}`, 10},

	// Introspection has a flat cost.
	{`{ __schema { types { name fields { name } } } }`, ``, 10},
	{`{ __type(name: "User") { name } me { name } }`, ``, 11},
	{`{ a: __type(name: "User") { name } b: __schema { queryType { name } } }`, ``, 20},

	// Of several operations the one that is asked for.
	{`query Q { me { name } } query Other { users(first: 900) { name } }`, ``, 1},

	// Names and texts that look like something else.
	{"{ me { name } } # { users(first: 900) { name } }", ``, 1},
	{`{ search(query: "{ me { email } } \" # \\") { total } }`, ``, 600},
	{`{ search(query: """ "{[( \""" """) { total } }`, ``, 600},
	{"\ufeff{ me { name } }", ``, 1},
}

func calculator(t testing.TB, o graphqlcost.Options) *graphqlcost.Calculator {
	t.Helper()
	c, err := graphqlcost.New(o)
	require.NoError(t, err)
	return c
}

func TestCorpus(t *testing.T) {
	t.Parallel()
	require.GreaterOrEqual(t, len(corpus), 60)
	c := calculator(t, graphqlcost.Options{Schema: social})
	for _, test := range corpus {
		op := graphqlcost.Operation{Query: test.query, Variables: test.variables}
		if strings.HasPrefix(test.query, "query Q") {
			op.Name = "Q"
		}
		for range 2 { // the second comes from the cache
			got, err := c.OperationCost(t.Context(), op)
			assert.NoError(t, err, "%s %s", test.query, test.variables)
			assert.Equal(t, test.want, got, "%s %s", test.query, test.variables)
		}
		parts, err := c.OperationBreakdown(t.Context(), op)
		assert.NoError(t, err)
		sum := int64(0)
		for _, p := range parts {
			sum += p.Points
		}
		assert.Equal(t, test.want, sum, "the parts of %s: %v", test.query, parts)
	}
}

// reasonOf returns the reason of a CostError.
func reasonOf(err error) respond.Reason {
	if e, ok := err.(*ratelimit.CostError); ok {
		return e.Reason
	}
	return ""
}
