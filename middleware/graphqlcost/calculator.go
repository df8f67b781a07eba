package graphqlcost

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/respond"
)

// Options say what queries cost. The zero Options know no schema, and cost a
// point for each object that is selected.
type Options struct {
	// Schema is the service's schema as SDL, with the directives that the package
	// comment describes. Without one, types are not known: nothing is checked
	// against them, and what a query costs is an estimate.
	Schema string

	// Costs are fields' costs in points, by names such as "Query.search", which
	// stand for @cost and override it; and those of types ("Product"), of arguments
	// ("Query.search.vector") and of fields of input objects ("Filter.text"). Without
	// a Schema a field may go by its name alone, and one whose type is not known
	// costs the most that any type's field of its name does.
	Costs map[string]int64

	// Sizes are how many items fields' lists have where no argument says so, by
	// names such as "Product.variants". They stand for @listSize(assumedSize:) and
	// override it.
	Sizes map[string]int64

	// Sections are the names under which fields' costs, with all that is below, are
	// told by Breakdown, by names such as "Query.search". They stand for @section
	// and override it.
	Sections map[string]string

	// MinCost is the least that an operation costs, in points. Zero means 1.
	MinCost int64

	// MaxCost is the most that a request may cost: what costs more is refused as
	// cost_too_high. Zero means that only the rule's limits bound it.
	MaxCost int64

	// MutationCost is what each field of a mutation's root costs on top. Zero
	// means 10, less than zero nothing.
	MutationCost int64

	// IntrospectionCost is what each __schema and __type costs, whatever it
	// selects. Zero means 10, less than zero nothing.
	IntrospectionCost int64

	// NoIntrospection refuses queries with __schema or __type.
	NoIntrospection bool

	// ListSize is how many items a list has of which nothing is known. Zero means
	// 10; without a Schema it means 1, since there it is not known either which
	// fields are lists.
	ListSize int64

	// Slicing are the arguments that say how long a list is where no @listSize
	// does. Nil means first, last, limit and ids.
	Slicing []string

	// SizeCost says how many items a list of a size is charged for, such as a
	// tenth. It must not decrease. Nil means all of them.
	SizeCost func(size int64) int64

	// Persisted returns the text of a persisted query by its id: the
	// sha256Hash of Apollo's extension, or the request's documentId or id. An
	// empty text means that it is not known. Nil knows none.
	Persisted func(ctx context.Context, id string) (string, error)

	// Limits bound what a request may make the server look at.
	Limits Limits

	// CacheBytes is about how much memory is kept for documents that have been
	// met. Zero means 8 MiB, less than zero none.
	CacheBytes int
}

// Limits bound a request before it is costed. What is over one of them is refused
// as query_too_complex; a batch as batch_too_large, a body as body_too_large.
// Zero means the default that each field tells.
type Limits struct {
	Body               int   // bytes of a body; 1 MiB
	Batch              int   // operations of a batch; 10
	Document           int   // bytes of a request's documents together; 100 KiB
	Nesting            int   // brackets in one another; 64
	Tokens             int   // of a document; 10,000
	Fragments          int   // of a document; 100
	Depth              int   // fields below one another, with fragments in their places, as all that follow; 15
	Aliases            int   // 30
	RootFields         int   // 20
	Keys               int   // response keys, each where it stands; 1,000
	Directives         int   // of one field, fragment or operation; 5
	IntrospectionDepth int   // fields below one another within __schema or __type; 20
	Page               int64 // items that an argument may ask for; 1,000
	Work               int   // fields that are looked at, for each of the types that a value can be; 10,000
}

// A Calculator tells what GraphQL requests cost. It is safe for concurrent use.
// [New] makes one.
type Calculator struct {
	options    Options
	schema     *schema
	fieldCosts map[string]int64 // by field names alone; without a schema
	fieldSizes map[string]int64
	plans      *cache
}

// New returns a Calculator, or an error that names what is wrong with the options.
func New(o Options) (*Calculator, error) {
	c := &Calculator{options: o}
	if err := c.options.complete(); err != nil {
		return nil, fmt.Errorf("graphqlcost: %w", err)
	}
	if o.Schema != "" {
		var err error
		if c.schema, err = readSchema(c.options); err != nil {
			return nil, fmt.Errorf("graphqlcost: %w", err)
		}
	} else {
		c.fieldCosts, c.fieldSizes = highest(o.Costs), highest(o.Sizes)
	}
	c.plans = newCache(c.options.CacheBytes)
	return c, nil
}

// complete puts defaults in place of zeros.
func (o *Options) complete() error {
	listSize := int64(10)
	if o.Schema == "" {
		listSize = 1
	}
	for _, n := range []struct {
		name     string
		n        *int64
		preset   int64
		canBeOff bool
	}{
		{"MinCost", &o.MinCost, 1, false},
		{"MaxCost", &o.MaxCost, maximum, false},
		{"MutationCost", &o.MutationCost, 10, true},
		{"IntrospectionCost", &o.IntrospectionCost, 10, true},
		{"ListSize", &o.ListSize, listSize, false},
		{"Limits.Page", &o.Limits.Page, 1000, false},
	} {
		if err := complete(n.name, n.n, n.preset, n.canBeOff); err != nil {
			return err
		}
	}
	l := &o.Limits
	for _, n := range []struct {
		name   string
		n      *int
		preset int
	}{
		{"Limits.Body", &l.Body, 1 << 20},
		{"Limits.Batch", &l.Batch, 10},
		{"Limits.Document", &l.Document, 100 << 10},
		{"Limits.Nesting", &l.Nesting, 64},
		{"Limits.Tokens", &l.Tokens, 10_000},
		{"Limits.Fragments", &l.Fragments, 100},
		{"Limits.Depth", &l.Depth, 15},
		{"Limits.Aliases", &l.Aliases, 30},
		{"Limits.RootFields", &l.RootFields, 20},
		{"Limits.Keys", &l.Keys, 1000},
		{"Limits.Directives", &l.Directives, 5},
		{"Limits.IntrospectionDepth", &l.IntrospectionDepth, 20},
		{"Limits.Work", &l.Work, 10_000},
		{"CacheBytes", &o.CacheBytes, 8 << 20},
	} {
		if err := complete(n.name, n.n, n.preset, n.name == "CacheBytes"); err != nil {
			return err
		}
	}
	if o.Slicing == nil {
		o.Slicing = []string{"first", "last", "limit", "ids"}
	}
	for name, n := range o.Costs {
		if n > maxWeight || n < -maxWeight || o.Schema == "" && n < 0 {
			return fmt.Errorf("costs: %s: %d is out of range", name, n)
		}
	}
	for name, n := range o.Sizes {
		if n < 0 {
			return fmt.Errorf("sizes: %s: %d is negative", name, n)
		}
	}
	if o.MinCost > o.MaxCost {
		return fmt.Errorf("MinCost %d is more than MaxCost %d", o.MinCost, o.MaxCost)
	}
	return nil
}

func complete[N int | int64](name string, n *N, preset N, canBeOff bool) error {
	switch {
	case *n == 0:
		*n = preset
	case *n < 0 && canBeOff:
		*n = 0
	case *n < 0:
		return fmt.Errorf("%s: %d is negative", name, *n)
	}
	return nil
}

// Cost tells what a request costs in points: the most that its operations can
// select, each at least MinCost. It is a Cost for [ratelimit.Rule], and reads the
// body as [ratelimit.ReadBody] does, once however many rules ask.
//
// What it refuses, it refuses with a [ratelimit.CostError], and MinCost beside it,
// which the rule is charged. The reason is invalid_query, query_too_complex,
// batch_too_large or persisted_query_not_found, all of status 400; or
// body_too_large or cost_too_high, of 413; or store_unavailable, 503, if the
// Persisted function fails. Any other error is that of a body which could not be
// read.
func (c *Calculator) Cost(r *http.Request) (int64, error) {
	cost, err := ofRequest(c, r, costKey{c}, c.cost)
	return c.charged(cost, err)
}

// Breakdown tells what the parts of a request cost: one for each field of the
// root, under its section's name if it has one, one for each section below those,
// and one, "minimum", for what raises an operation to MinCost. Fields and sections
// of one name are one part; from the fiftieth on they are one, "other". The points
// add up to Cost, whose errors are the same, with the minimum beside them. It is
// what [ratelimit.CostsBy] takes, for a rule that tells clients of the parts.
func (c *Calculator) Breakdown(r *http.Request) (ratelimit.Costs, error) {
	parts, err := ofRequest(c, r, partsKey{c}, c.breakdown)
	if least, err := c.charged(0, err); err != nil {
		return addPart(nil, ratelimit.MinimumPart, least), err
	}
	return parts, nil
}

// SectionCost returns a Cost for [ratelimit.Rule] that is what Breakdown tells of
// one part, so that a section of the schema can have a limit of its own. It is 0
// for a request without it.
func (c *Calculator) SectionCost(name string) func(*http.Request) (int64, error) {
	return func(r *http.Request) (int64, error) {
		parts, err := c.Breakdown(r)
		if at := slices.IndexFunc(parts, func(p Part) bool { return p.Name == name }); at >= 0 {
			return parts[at].Points, err
		}
		return 0, err
	}
}

// OperationCost is Cost for an operation that came another way, such as over a
// WebSocket.
func (c *Calculator) OperationCost(ctx context.Context, op Operation) (int64, error) {
	cost, err := c.cost(ctx, []Operation{op})
	return c.charged(cost, err)
}

// OperationBreakdown is Breakdown for an operation that came another way.
func (c *Calculator) OperationBreakdown(ctx context.Context, op Operation) (ratelimit.Costs, error) {
	return c.breakdown(ctx, []Operation{op})
}

// Keys under which a body keeps what it costs.
type (
	costKey  struct{ *Calculator }
	partsKey struct{ *Calculator }
)

// charged puts the minimum beside an error that refuses the request.
func (c *Calculator) charged(cost int64, err error) (int64, error) {
	if err == nil {
		return cost, nil
	}
	if _, ok := errors.AsType[*ratelimit.CostError](err); ok {
		return c.options.MinCost, err
	}
	return 0, err
}

func (c *Calculator) cost(ctx context.Context, ops []Operation) (int64, error) {
	if len(ops) == 0 {
		return c.options.MinCost, nil
	}
	var room [few]value
	sum := int64(0)
	for i := range ops {
		e, err := c.begin(ctx, &ops[i], &room)
		if err != nil {
			return 0, err
		}
		thousandths, err := e.total()
		if err != nil {
			return 0, err
		}
		sum = add(sum, max(points(thousandths), c.options.MinCost))
	}
	return sum, c.affordable(ops, sum)
}

// affordable refuses what costs more than a request may.
func (c *Calculator) affordable(ops []Operation, cost int64) error {
	switch {
	case len(ops) == 0:
		return nil
	case cost > c.options.MaxCost:
		return &ratelimit.CostError{
			Reason: respond.CostTooHigh,
			Detail: fmt.Sprintf("A request may cost at most %d points.", c.options.MaxCost),
			Err:    fmt.Errorf("graphqlcost: %d points", cost),
		}
	}
	return nil
}

// begin makes an evaluation of an operation's plan with its variables, which are
// kept in the room if they are few.
func (c *Calculator) begin(ctx context.Context, op *Operation, room *[few]value) (evaluation, error) {
	p, err := c.plan(ctx, op)
	if err != nil {
		return evaluation{}, err
	}
	e := evaluation{calculator: c, plan: p}
	if n := len(p.variables); n <= len(room) {
		e.values = room[:n]
		clear(e.values)
	} else {
		e.values = make([]value, n)
	}
	if p.shared > 0 {
		e.known = make([]int64, p.shared)
	}
	return e, e.bind(value(op.Variables))
}

// total returns what the operation costs, in thousandths.
func (e *evaluation) total() (int64, error) {
	sum, err := e.cost(e.plan.root)
	return add(sum, e.mutations()), err
}

// mutations returns what is added for the fields of a mutation.
func (e *evaluation) mutations() int64 {
	if !e.plan.mutation {
		return 0
	}
	n := int64(0)
	for i := range e.plan.root.classes[0].nodes {
		if e.mutates(&e.plan.root.classes[0].nodes[i]) {
			n++
		}
	}
	return multiply(n, multiply(e.calculator.options.MutationCost, point))
}

func (e *evaluation) mutates(n *node) bool { return e.plan.mutation && e.present(n) }
