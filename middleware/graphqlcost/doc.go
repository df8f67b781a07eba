// Package graphqlcost tells what GraphQL requests cost before they are executed:
// the most that a query can select, for a limit in points.
//
//	calculator, err := graphqlcost.New(graphqlcost.Options{Schema: sdl, MinCost: 10})
//	…
//	{Name: "graphql", Key: account, Limits: []policy.Limit{policy.TokenBucket(10_000, time.Second)}, Cost: calculator.Cost},
//
// # What a query costs
//
// A field costs
//
//	raw + max(1, n) × (weight + what is selected below)
//
// where weight is what the field weighs, or else its type: 1 for objects and 0 for
// scalars and enums unless the schema says so. n is the length of a list, and 1
// for what is none; for lists in a list the inner ones have ListSize items. raw is
// what the arguments weigh that have a value; less than nothing it takes from the
// weight. Of what an interface or a union can be, the dearest type counts.
// Selections of one response key are merged as an executor merges them; each
// alias counts. @skip and @include are applied. __typename is free, and __schema
// and __type have a flat cost. A subscription costs what one event does: charge
// the events that follow as they come, such as by [Calculator.OperationCost]. Costs
// are summed in thousandths of a point, saturate, and are rounded up at the end.
//
// # What the schema says
//
// These directives of the schema are read; it need not declare them:
//
//	directive @cost(weight: String!) on ARGUMENT_DEFINITION | ENUM | FIELD_DEFINITION |
//	  INPUT_FIELD_DEFINITION | OBJECT | SCALAR | INTERFACE | UNION
//	directive @listSize(assumedSize: Int, slicingArguments: [String!], sizedFields: [String!],
//	  requireOneSlicingArgument: Boolean = true) on FIELD_DEFINITION
//	directive @section(name: String!) on FIELD_DEFINITION
//
// A list has as many items as the sizedFields of a field above say; or the most
// that its slicingArguments say, defaults and variables included; or its
// assumedSize; or, without @listSize, what arguments named first, last, limit or
// ids say; or else ListSize. The first, last, limit or ids of a field that is no
// list says it of the lists right below, as in connections. A type's field has
// the @listSize of its interfaces' where it has none of its own, but never their
// @cost, which is an error there.
//
// The cost bounds every execution whose lists keep to these sizes. It is as good
// as assumedSize and ListSize are: a longer list costs the server more than the
// client was charged, unless [ratelimit.SetCost] settles it.
//
// Without a schema the same walk runs over names alone: an object costs 1, an
// argument named first, last, limit or ids multiplies, and every fragment counts.
//
// # What is checked
//
// A document goes through [Limits], the cheapest first, so that none takes long:
// bytes, brackets and tokens before it is parsed, fragments before they are
// followed, and then depth, aliases, response keys and work, all of them counted
// with fragments in their places. What decides the cost is checked against the
// schema; values and types that do not are left to the server, which refuses
// them. Plans of documents are cached, and variables evaluated for each request.
//
// A request is a POST of JSON, one operation or a batch of them, or of
// application/graphql; or a GET with its parts in the URL. Parts that are there
// twice, or both in the body and in the URL, are refused, since servers differ in
// which they read. So are forms and bodies that are coded, such as by gzip. A GET
// without a query costs MinCost: the page of a tool, or a WebSocket.
package graphqlcost
