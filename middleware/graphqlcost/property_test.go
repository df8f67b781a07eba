package graphqlcost_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/middleware/graphqlcost"
)

// A selection is one of a random query: a field, an inline fragment or a spread.
type selection struct {
	field *ast.FieldDefinition // nil for a fragment
	alias string
	size  int    // of its slicing argument; -1 if that is not given
	byVar bool   // it is given by a variable
	on    string // the type of a fragment; may be empty
	named bool   // the fragment is spread by a name
	cond  string // a directive
	holds bool
	below []*selection
}

// A generator makes random queries of the corpus' schema.
type generator struct {
	t      *rapid.T
	schema *ast.Schema
	budget int
}

// slicing are the arguments that say how long lists are.
var slicing = map[string]string{
	"Query.users": "first", "Query.posts": "limit", "Query.feed": "first", "User.posts": "first", "User.friends": "first", "Post.comments": "first",
}

func (g *generator) set(on *ast.Definition, depth int) []*selection {
	var all []*selection
	for range rapid.IntRange(1, 3).Draw(g.t, "selections") {
		all = append(all, g.selection(on, depth))
	}
	return all
}

func (g *generator) selection(on *ast.Definition, depth int) *selection {
	g.budget--
	s := &selection{size: -1, holds: true}
	switch rapid.IntRange(0, 7).Draw(g.t, "condition") {
	case 0:
		s.cond = "@skip(if: $no)"
	case 1:
		s.cond, s.holds = "@include(if: $no)", false
	case 2:
		s.cond = "@include(if: $yes) @skip(if: false)"
	}
	if depth > 1 && g.budget > 0 && rapid.IntRange(0, 3).Draw(g.t, "fragment") == 0 {
		s.on = rapid.SampledFrom(g.meeting(on)).Draw(g.t, "on")
		s.named = s.on != "" && rapid.Bool().Draw(g.t, "named")
		under := on
		if s.on != "" {
			under = g.schema.Types[s.on]
		}
		s.below = g.set(under, depth-1)
		return s
	}
	var can []*ast.FieldDefinition
	for _, f := range on.Fields {
		leaf := g.schema.Types[f.Type.Name()].IsLeafType()
		if !strings.HasPrefix(f.Name, "__") && f.Name != "report" && f.Name != "search" && (leaf || depth > 1 && g.budget > 0) {
			can = append(can, f)
		}
	}
	if len(can) == 0 {
		s.field = &ast.FieldDefinition{Name: "__typename", Type: ast.NamedType("String", nil)}
		s.alias = "__typename"
		return s
	}
	s.field = rapid.SampledFrom(can).Draw(g.t, "field")
	if slicing[on.Name+"."+s.field.Name] != "" && (s.field.Name == "users" || rapid.Bool().Draw(g.t, "sliced")) {
		s.size = rapid.IntRange(0, 4).Draw(g.t, "size")
		s.byVar = rapid.Bool().Draw(g.t, "by a variable")
	}
	// Keys stand for one field and its arguments, as they must.
	s.alias = fmt.Sprintf("%s%d%v", s.field.Name, s.size+1, s.byVar)
	if under := g.schema.Types[s.field.Type.Name()]; under.IsCompositeType() {
		s.below = g.set(under, depth-1)
	}
	return s
}

// meeting returns the types of fragments that may stand in a type.
func (g *generator) meeting(on *ast.Definition) []string {
	names := []string{""}
	for name, def := range g.schema.Types {
		if def.IsCompositeType() && !strings.HasPrefix(name, "__") && slices.ContainsFunc(g.objects(def), func(o *ast.Definition) bool {
			return slices.Contains(g.objects(on), o)
		}) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (g *generator) objects(def *ast.Definition) []*ast.Definition {
	if def.Kind == ast.Object {
		return []*ast.Definition{def}
	}
	return g.schema.GetPossibleTypes(def)
}

// text prints a query; with fragments by name, or all in place; with everything so
// many times.
func text(root []*selection, inline bool, times int) string {
	var fragments strings.Builder
	n := 0
	var set func([]*selection) string
	set = func(all []*selection) string {
		var b strings.Builder
		b.WriteString("{ ")
		for range times {
			for _, s := range all {
				switch {
				case s.field == nil && s.named && !inline:
					n++
					name := fmt.Sprintf("F%d", n)
					body := set(s.below)
					fmt.Fprintf(&fragments, " fragment %s on %s %s", name, s.on, body)
					fmt.Fprintf(&b, "...%s %s ", name, s.cond)
				case s.field == nil:
					b.WriteString("... ")
					if s.on != "" {
						b.WriteString("on " + s.on + " ")
					}
					b.WriteString(s.cond + set(s.below))
				default:
					b.WriteString(s.alias + ": " + s.field.Name)
					b.WriteString(arguments(s))
					b.WriteString(" " + s.cond)
					if s.below != nil {
						b.WriteString(set(s.below))
					}
					b.WriteString(" ")
				}
			}
		}
		return b.String() + "} "
	}
	body := set(root)
	return "query($no: Boolean! $yes: Boolean = true $n0: Int = 0 $n1: Int $n2: Int! $n3: Int = 1 $n4: Int) " + body + fragments.String()
}

const randomVariables = `{"no": false, "n1": 1, "n2": 2, "n3": 3, "n4": 4}`

func arguments(s *selection) string {
	var args []string
	for _, a := range s.field.Arguments {
		switch a.Name {
		case "id":
			args = append(args, `id: 1`)
		case "ids":
			args = append(args, `ids: [1, 2, 3]`)
		case "first", "limit":
			if s.size >= 0 && s.byVar {
				args = append(args, fmt.Sprintf("%s: $n%d", a.Name, s.size))
			} else if s.size >= 0 {
				args = append(args, fmt.Sprintf("%s: %d", a.Name, s.size))
			}
		}
	}
	if args == nil {
		return ""
	}
	return "(" + strings.Join(args, ", ") + ")"
}

// An executor runs a random query as a server would, and adds up what the fields
// weigh that it answers. Without data of its own it takes all that it can: then it
// is the formula.
type executor struct {
	g      *generator
	data   func(most int) int // how many items there are of so many
	choose func([]*ast.Definition) []*ast.Definition
}

// weights are the corpus' in thousandths, but for those that the executor knows.
var weights = map[string]int{
	"User.email": 1000, "Comment.score": 500, "Ad.url": 7000, "Friends.total": 4000, "Query.tags": 2000,
	"Post": 2000, "Node": 2000, "Item": 2000,
}

func (x *executor) cost(all []*selection, on *ast.Definition, sized int) int {
	most := 0
	for _, o := range x.choose(x.g.objects(on)) {
		most = max(most, x.object(all, o, sized))
	}
	return most
}

func (x *executor) object(all []*selection, o *ast.Definition, sized int) int {
	keys, fields := []string{}, map[string][]*selection{}
	x.collect(all, o, &keys, fields)
	sum := 0
	for _, key := range keys {
		first := fields[key][0]
		var below []*selection
		for _, s := range fields[key] {
			below = append(below, s.below...)
		}
		if first.field.Name != "__typename" {
			sum += x.field(first, below, o, sized)
		}
	}
	return sum
}

func (x *executor) collect(all []*selection, o *ast.Definition, keys *[]string, fields map[string][]*selection) {
	for _, s := range all {
		switch {
		case !s.holds:
		case s.field != nil:
			if fields[s.alias] == nil {
				*keys = append(*keys, s.alias)
			}
			fields[s.alias] = append(fields[s.alias], s)
		case s.on == "" || slices.Contains(x.g.objects(x.g.schema.Types[s.on]), o):
			x.collect(s.below, o, keys, fields)
		}
	}
}

func (x *executor) field(s *selection, below []*selection, o *ast.Definition, sized int) int {
	of := x.g.schema.Types[s.field.Type.Name()]
	weight, known := weights[o.Name+"."+s.field.Name]
	if !known {
		weight, known = weights[of.Name]
	}
	if !known && of.IsCompositeType() {
		weight = 1000
	}
	once := func(passed int) int {
		if of.IsLeafType() {
			return weight
		}
		return weight + x.cost(below, of, passed)
	}
	if s.field.Type.Elem == nil {
		passed := 10
		if s.size >= 0 {
			passed = s.size
		}
		return once(passed)
	}
	most := s.size
	path := o.Name + "." + s.field.Name
	switch {
	case path == "Friends.edges" || path == "Friends.nodes":
		most = sized
	case most >= 0:
	case path == "Query.posts":
		most = 20
	case path == "User.posts":
		most = 5
	case path == "Query.staff":
		most = 5
	case path == "Query.feed":
		most = 3
	case path == "Query.nodes":
		most = 3
	case path == "Query.matrix":
		most = 100
	default:
		most = 10
	}
	if x.data == nil {
		return max(1, most) * once(0)
	}
	sum := 0
	for range x.data(most) {
		sum += once(0)
	}
	return sum
}

var generous = graphqlcost.Options{
	Schema: social, CacheBytes: -1, MinCost: 1,
	Limits: graphqlcost.Limits{Keys: 1e6, Aliases: 1e6, Work: 1e6, Nesting: 500, Depth: 100, Document: 1e7, Tokens: 1e6, RootFields: 1000, Fragments: 10_000},
}

func withRandomQuery(t *testing.T, check func(t *rapid.T, g *generator, c *graphqlcost.Calculator, root []*selection)) {
	t.Helper()
	schema, err := gqlparser.LoadSchema(
		&ast.Source{Input: "directive @cost(weight: String!) on ARGUMENT_DEFINITION | FIELD_DEFINITION | INPUT_FIELD_DEFINITION | OBJECT " +
			"directive @section(name: String!) on FIELD_DEFINITION " +
			"directive @listSize(assumedSize: Int, slicingArguments: [String!], sizedFields: [String!], requireOneSlicingArgument: Boolean) on FIELD_DEFINITION"},
		&ast.Source{Input: social})
	require.NoError(t, err)
	c := calculator(t, generous)
	rapid.Check(t, func(t *rapid.T) {
		g := &generator{t: t, schema: schema, budget: 30}
		check(t, g, c, g.set(schema.Query, 7))
	})
}

func costOf(t *rapid.T, c *graphqlcost.Calculator, query string) int64 {
	n, err := c.OperationCost(context.Background(), graphqlcost.Operation{Query: query, Variables: randomVariables})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func whole(thousandths int) int64 { return int64(max(1, (thousandths+999)/1000)) }

// The cost is what the formula says, and no execution costs more.
func TestNoExecutionCostsMore(t *testing.T) {
	t.Parallel()
	withRandomQuery(t, func(t *rapid.T, g *generator, c *graphqlcost.Calculator, root []*selection) {
		static := costOf(t, c, text(root, false, 1))
		all := executor{g: g, choose: func(all []*ast.Definition) []*ast.Definition { return all }}
		if want := whole(all.cost(root, g.schema.Query, 0)); static != want {
			t.Fatalf("%d, and the formula says %d: %s", static, want, text(root, false, 1))
		}
		some := executor{
			g:    g,
			data: func(most int) int { return rapid.IntRange(0, min(most, 3)).Draw(t, "items") },
			choose: func(all []*ast.Definition) []*ast.Definition {
				return []*ast.Definition{rapid.SampledFrom(all).Draw(t, "type")}
			},
		}
		if actual := whole(some.cost(root, g.schema.Query, 0)); actual > static {
			t.Fatalf("%d, and an execution costs %d: %s", static, actual, text(root, false, 1))
		}
	})
}

// A fragment costs the same wherever it is written, and what is written twice
// costs nothing more.
func TestInliningAndDuplicatesAreFree(t *testing.T) {
	t.Parallel()
	withRandomQuery(t, func(t *rapid.T, _ *generator, c *graphqlcost.Calculator, root []*selection) {
		want := costOf(t, c, text(root, false, 1))
		if got := costOf(t, c, text(root, true, 1)); got != want {
			t.Fatalf("%d, and %d inline: %s", want, got, text(root, false, 1))
		}
		if size := len(text(root, true, 1)); size < 600 {
			if got := costOf(t, c, text(root, true, 2)); got != want {
				t.Fatalf("%d, and %d when written twice: %s", want, got, text(root, false, 1))
			}
		}
	})
}

// One selection more never costs less.
func TestMoreCostsNoLess(t *testing.T) {
	t.Parallel()
	withRandomQuery(t, func(t *rapid.T, g *generator, c *graphqlcost.Calculator, root []*selection) {
		before := costOf(t, c, text(root, false, 1))
		at, on := &root, g.schema.Query
		for range rapid.IntRange(0, 5).Draw(t, "depth") {
			var deeper []*selection
			for _, s := range *at {
				if s.below != nil {
					deeper = append(deeper, s)
				}
			}
			if deeper == nil {
				break
			}
			s := rapid.SampledFrom(deeper).Draw(t, "down")
			switch {
			case s.field != nil:
				on = g.schema.Types[s.field.Type.Name()]
			case s.on != "":
				on = g.schema.Types[s.on]
			}
			at = &s.below
		}
		*at = append(*at, g.selection(on, 3))
		if after := costOf(t, c, text(root, false, 1)); after < before {
			t.Fatalf("%d, and with more %d: %s", before, after, text(root, false, 1))
		}
	})
}

// k aliases of a field cost k times as much.
func TestAliasesScale(t *testing.T) {
	t.Parallel()
	withRandomQuery(t, func(t *rapid.T, g *generator, c *graphqlcost.Calculator, root []*selection) {
		field := g.selection(g.schema.Types["User"], 1)
		field.cond, field.holds = "", true
		k := rapid.IntRange(1, 9).Draw(t, "aliases")
		query := "{ "
		for i := range k {
			query += fmt.Sprintf("x%d: staff { a: %s%s b: posts(first: %d) { title } } ", i, field.field.Name, arguments(field), k)
		}
		one := costOf(t, c, fmt.Sprintf("{ staff { a: %s%s b: posts(first: %d) { title } } }", field.field.Name, arguments(field), k))
		if got := costOf(t, c, query+"}"); got != int64(k)*one {
			t.Fatalf("%d, and %d times as much: %d", one, k, got)
		}
	})
}
