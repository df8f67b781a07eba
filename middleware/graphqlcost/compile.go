package graphqlcost

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/vektah/gqlparser/v2/ast"
)

// A compiler makes the plan of one operation: what it could select, merged as an
// executor merges it, with all that depends on variables left open.
type compiler struct {
	calculator *Calculator
	schema     *schema // nil if there is none
	limits     *Limits
	document   *document
	plan       *plan
	work       int // fields looked at so far
	steps      int // and what is cheaper

	memo     map[memoKey]*set
	untyped  map[string]*typ
	entries  []entry  // of the sets that are being collected
	used     int      // how many of them there were at most
	spreads  []spread // their fragments
	nameless *typ
	none     evaluation // without variables
	sets     []set      // room for more of them, so that they need not be made one by one
	nodes    []node     // the same
	rares    []rare     // the same
	sizers   []sizer    // the same
}

// A source is a selection set, one of those that are merged into a set.
type source struct {
	selections ast.SelectionSet
	on         *typ // the type that it is written for
	when       int32
}

// An inherited size is one that a field above passes down a path.
type inherited struct {
	path []string
	from *sizer
}

// An entry is a response key and the fields under it.
type entry struct {
	key     string
	first   *ast.Field
	on      *typ // the type that the first is written for
	when    []int32
	sources []source  // nil if there is but one, if any
	one     [1]source // and this is it
}

// A spread is a fragment that a set has.
type spread struct {
	name string
	when int32
}

// A memoKey is what the set of one or two sources depends on.
type memoKey struct {
	t       *typ
	sources [2]sourceKey
	from    *sizer
	path    string
	meta    metaDepth
}

type sourceKey struct {
	first *ast.Selection
	on    *typ
	when  int32
}

// A metaDepth is how deep a set is within __schema or __type; 0 if it is outside.
type metaDepth struct{ fields, lists int8 }

// Cheap steps are allowed many times as often as fields, and sets are remembered
// once there have been some.
const (
	stepsPerField = 64
	memoFrom      = 64
)

// A room is where sets are collected. It is used again and again, and left empty.
type room struct {
	entries []entry
	spreads []spread
}

var rooms = sync.Pool{New: func() any { return &room{make([]entry, 0, 32), make([]spread, 0, 8)} }}

// compile makes a plan of an operation.
func (c *Calculator) compile(text, name string) (*plan, error) {
	doc, err := parse(text, &c.options.Limits)
	if err != nil {
		return nil, err
	}
	op, err := doc.operation(name)
	if err != nil {
		return nil, err
	}
	w := compiler{calculator: c, schema: c.schema, limits: &c.options.Limits, document: doc, plan: new(plan)}
	w.none.calculator = c
	w.plan.mutation = op.Operation == ast.Mutation
	if err := w.variables(op); err != nil {
		return nil, err
	}
	root, err := w.root(op.Operation)
	if err != nil {
		return nil, err
	}
	if len(op.Directives) > w.limits.Directives {
		return nil, tooComplex("A field may have at most %d directives.", int64(w.limits.Directives))
	}
	room := rooms.Get().(*room)
	w.entries, w.spreads = room.entries, room.spreads
	w.plan.root, err = w.set([]source{{op.SelectionSet, root, always}}, root, nil, 1, metaDepth{})
	if err != nil {
		return nil, err
	}
	if w.used < 1000 { // a large one is not worth keeping
		clear(w.entries[:w.used])
		clear(w.spreads[:cap(w.spreads)])
		room.entries, room.spreads = w.entries, w.spreads
		rooms.Put(room)
	}
	fields := 0
	for _, class := range w.plan.root.classes {
		fields = max(fields, len(class))
	}
	if fields > w.limits.RootFields {
		return nil, tooComplex("An operation may have at most %d fields at its root.", int64(w.limits.RootFields))
	}
	w.plan.bytes += 256 + 256*w.work + 96*len(w.plan.variables) + 12*len(w.plan.conditions)
	return w.plan, nil
}

func (c *compiler) root(operation ast.Operation) (*typ, error) {
	if c.schema == nil {
		return c.typed(strings.ToUpper(string(operation[:1])) + string(operation[1:])), nil
	}
	if root := c.schema.roots[operation]; root != nil {
		return root, nil
	}
	return nil, invalidf("the schema has no %s", operation)
}

// typed returns the type of a name, or nil.
func (c *compiler) typed(name string) *typ {
	if c.schema != nil {
		return c.schema.types[name]
	}
	t := c.untyped[name]
	if t == nil {
		if c.untyped == nil {
			c.untyped = make(map[string]*typ)
		}
		t = &typ{name: name, kind: untyped}
		c.untyped[name] = t
	}
	return t
}

func (c *compiler) variables(op *ast.OperationDefinition) error {
	if len(op.VariableDefinitions) == 0 {
		return nil
	}
	c.plan.variables = make([]variable, len(op.VariableDefinitions))
	if len(op.VariableDefinitions) > 8 {
		c.plan.index = make(map[string]int, len(op.VariableDefinitions))
	}
	for i, def := range op.VariableDefinitions {
		if c.plan.variable(def.Variable) >= 0 {
			return invalidf("there are two variables $%s", def.Variable)
		}
		v := &c.plan.variables[i]
		v.name, v.required = strings.Clone(def.Variable), def.Type.NonNull
		if c.schema != nil {
			t := c.schema.types[def.Type.Name()]
			if t == nil || t.kind != leaf && t.kind != inputs {
				return invalidf("$%s is of type %q, which is no input", def.Variable, def.Type.Name())
			}
		}
		if def.DefaultValue != nil {
			if hasVariable(def.DefaultValue) {
				return invalidf("the default of $%s has a variable", def.Variable)
			}
			v.preset = c.literal(def.DefaultValue)
		}
		if c.plan.index != nil {
			c.plan.index[v.name] = i
		}
	}
	return nil
}

// literal returns a value of the document, which the plan keeps.
func (c *compiler) literal(v *ast.Value) value {
	text := literal(v, c.plan.variable)
	c.plan.bytes += len(text)
	return text
}

// step counts what is cheap.
func (c *compiler) step() error {
	if c.steps++; c.steps > c.limits.Work*stepsPerField {
		return tooComplex("A query may take at most %d steps to be costed.", int64(c.limits.Work))
	}
	return nil
}

// set merges selection sets on a type.
func (c *compiler) set(sources []source, t *typ, sizes []inherited, depth int, meta metaDepth) (*set, error) {
	key, canRemember := c.key(sources, t, sizes, meta)
	if canRemember {
		if known := c.memo[key]; known != nil {
			if depth+known.height-1 > c.maxDepth(meta) {
				return nil, c.tooDeep(meta)
			}
			if known.shared == 0 {
				c.plan.shared++
				known.shared = c.plan.shared
			}
			return known, nil
		}
	}
	if depth > c.maxDepth(meta) {
		return nil, c.tooDeep(meta)
	}
	s := c.newSet()
	s.classes = s.first[:0]
	if t.kind != abstract {
		if err := c.class(s, sources, t, sizes, depth, meta); err != nil {
			return nil, err
		}
	} else {
		classes, err := c.classes(sources, t)
		if err != nil {
			return nil, err
		}
		for _, o := range classes {
			if err := c.class(s, sources, o, sizes, depth, meta); err != nil {
				return nil, err
			}
		}
	}
	if s.isFixed() {
		cost, err := c.none.cost(s)
		if err != nil {
			return nil, err
		}
		s.fixed = add(min(cost, maximum-1), 1)
	}
	if canRemember {
		if c.memo == nil {
			c.memo = make(map[memoKey]*set)
		}
		c.memo[key] = s
	}
	return s, nil
}

func (c *compiler) newSet() *set {
	if len(c.sets) == 0 {
		c.sets = make([]set, 8)
	}
	s := &c.sets[0]
	c.sets = c.sets[1:]
	return s
}

// newNodes returns a list of no nodes, with room for n.
func (c *compiler) newNodes(n int) []node {
	if len(c.nodes) < n {
		c.nodes = make([]node, max(n, 32))
	}
	nodes := c.nodes[:0:n]
	c.nodes = c.nodes[n:]
	return nodes
}

// more returns the rare part of a node.
func (c *compiler) more(n *node) *rare {
	if n.rare == nil {
		if len(c.rares) == 0 {
			c.rares = make([]rare, 8)
		}
		n.rare, c.rares = &c.rares[0], c.rares[1:]
	}
	return n.rare
}

func (c *compiler) newSizer() *sizer {
	if len(c.sizers) == 0 {
		c.sizers = make([]sizer, 4)
	}
	s := &c.sizers[0]
	c.sizers = c.sizers[1:]
	return s
}

func (c *compiler) key(sources []source, t *typ, sizes []inherited, meta metaDepth) (key memoKey, ok bool) {
	if c.work < memoFrom || len(sources) > len(key.sources) || len(sizes) > 1 {
		return key, false
	}
	key.t, key.meta = t, meta
	for i, s := range sources {
		key.sources[i] = sourceKey{&s.selections[0], s.on, s.when}
	}
	if len(sizes) == 1 {
		key.from, key.path = sizes[0].from, strings.Join(sizes[0].path, ".")
	}
	return key, true
}

func (c *compiler) maxDepth(meta metaDepth) int {
	if meta.fields > 0 {
		return c.limits.IntrospectionDepth
	}
	return c.limits.Depth
}

func (c *compiler) tooDeep(meta metaDepth) error {
	if meta.fields > 0 {
		return tooComplex("Introspection may be at most %d fields deep.", int64(c.limits.IntrospectionDepth))
	}
	return tooComplex("A query may be at most %d fields deep.", int64(c.limits.Depth))
}

// class adds to a set what is selected if the value is one of a type.
func (c *compiler) class(s *set, sources []source, o *typ, sizes []inherited, depth int, meta metaDepth) error {
	from, spreadsFrom := len(c.entries), len(c.spreads)
	for _, src := range sources {
		if err := c.collect(from, spreadsFrom, src, o); err != nil {
			return err
		}
	}
	to := len(c.entries)
	nodes := c.newNodes(to - from)[:to-from]
	keys, aliases, height := 0, 0, 1
	for i := from; i < to; i++ {
		if c.work++; c.work > c.limits.Work {
			return tooComplex("A query may take at most %d steps to be costed.", int64(c.limits.Work))
		}
		n := &nodes[i-from]
		if err := c.node(n, i, o, sizes, depth, meta); err != nil {
			return err
		}
		keys++
		if first := c.entries[i].first; first.Alias != first.Name {
			aliases++
		}
		if below := n.below; below != nil {
			keys, aliases, height = keys+below.keys, aliases+below.aliases, max(height, 1+below.height)
		}
		if keys > c.limits.Keys {
			return tooComplex("A query may have at most %d fields.", int64(c.limits.Keys))
		}
		if aliases > c.limits.Aliases {
			return tooComplex("A query may have at most %d aliases.", int64(c.limits.Aliases))
		}
		if n.def.meta {
			n.below = nil // its cost is flat
		}
	}
	c.used = max(c.used, len(c.entries))
	c.entries, c.spreads = c.entries[:from], c.spreads[:spreadsFrom]
	s.classes = append(s.classes, nodes)
	s.keys, s.aliases, s.height = max(s.keys, keys), max(s.aliases, aliases), max(s.height, height)
	return nil
}

// collect gathers the fields of a selection set that an object has, by their
// response keys.
func (c *compiler) collect(from, spreadsFrom int, src source, o *typ) error {
	for i := range src.selections {
		if err := c.step(); err != nil {
			return err
		}
		switch s := src.selections[i].(type) {
		case *ast.Field:
			when, err := c.condition(s.Directives, src.when)
			if err != nil {
				return err
			}
			if when != never {
				if err := c.enter(from, s, src.on, when); err != nil {
					return err
				}
			}
		case *ast.InlineFragment:
			when, err := c.condition(s.Directives, src.when)
			if err != nil {
				return err
			}
			if err := c.fragment(from, spreadsFrom, source{s.SelectionSet, src.on, when}, s.TypeCondition, o); err != nil {
				return err
			}
		case *ast.FragmentSpread:
			when, err := c.condition(s.Directives, src.when)
			if err != nil {
				return err
			}
			if seen, err := c.seen(spreadsFrom, s.Name, when); seen || err != nil {
				if err != nil {
					return err
				}
				continue
			}
			f := c.document.fragment(s.Name)
			if err := c.fragment(from, spreadsFrom, source{f.SelectionSet, src.on, when}, f.TypeCondition, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// seen tells whether a set has a fragment already, and notes that it has.
func (c *compiler) seen(from int, name string, when int32) (bool, error) {
	for _, s := range c.spreads[from:] {
		if s.name == name && (s.when == when || s.when == always) {
			return true, nil
		}
		if err := c.step(); err != nil {
			return true, err
		}
	}
	c.spreads = append(c.spreads, spread{name, when})
	return when == never, nil
}

func (c *compiler) fragment(from, spreadsFrom int, src source, condition string, o *typ) error {
	if src.when == never {
		return nil
	}
	if condition != "" {
		on, err := c.condit(condition, src.on)
		if err != nil {
			return err
		}
		src.on = on
		if c.schema != nil && !on.covers(o) {
			return nil
		}
	}
	return c.collect(from, spreadsFrom, src, o)
}

// condit returns the type that a fragment is for.
func (c *compiler) condit(name string, on *typ) (*typ, error) {
	t := c.typed(name)
	switch {
	case c.schema == nil:
	case t == nil || t.kind != object && t.kind != abstract:
		return nil, invalidf("a fragment is for %q, which has no fields", name)
	case !t.is.meets(on.is):
		return nil, invalidf("a fragment for %q can never be one of %q", name, on.name)
	}
	return t, nil
}

// enter adds a field to the entries of a set.
func (c *compiler) enter(from int, f *ast.Field, on *typ, when int32) error {
	if c.schema != nil && f.Name != "__typename" && on.fields[f.Name] == nil {
		return invalidf("%q has no field %q", on.name, f.Name)
	}
	for i := from; i < len(c.entries); i++ {
		e := &c.entries[i]
		if e.key != f.Alias {
			if i-from > 16 {
				c.steps++
			}
			continue
		}
		if e.first.Name != f.Name || !sameArguments(e.first.Arguments, f.Arguments) {
			if c.schema != nil {
				return invalidf("%q stands for two different fields", f.Alias)
			}
			continue // of types that exclude one another, maybe: both count
		}
		if (len(e.first.SelectionSet) == 0) != (len(f.SelectionSet) == 0) {
			return invalidf("%q stands for two different fields", f.Alias)
		}
		if e.on != on && c.schema == nil {
			e.on = c.under(on, f.Name) // of any type, then
		}
		e.when = orWhen(e.when, when)
		if len(f.SelectionSet) > 0 {
			if e.sources == nil {
				e.sources = e.one[:1:1]
			}
			e.sources = c.mergeSource(e.sources, source{f.SelectionSet, c.under(on, f.Name), when})
		}
		return nil
	}
	// In place, since an entry is large.
	n := len(c.entries)
	c.entries = append(c.entries, entry{})
	e := &c.entries[n]
	e.key, e.first, e.on = f.Alias, f, on
	if when != always {
		e.when = []int32{when}
	}
	if len(f.SelectionSet) > 0 {
		e.one[0] = source{f.SelectionSet, c.under(on, f.Name), when}
	}
	return nil
}

// under returns the type that the selections of a field are written for.
func (c *compiler) under(on *typ, name string) *typ {
	if c.schema == nil {
		if c.nameless == nil {
			c.nameless = &typ{kind: untyped}
		}
		return c.nameless
	}
	if f := on.fields[name]; f != nil {
		return f.of
	}
	return on
}

// mergeSource adds a selection set to those of an entry, unless it is there.
func (c *compiler) mergeSource(all []source, s source) []source {
	for _, other := range all {
		c.steps++
		if &other.selections[0] == &s.selections[0] && other.on == s.on && (other.when == s.when || other.when == always) {
			return all
		}
	}
	return append(all, s)
}

// node makes the node of an entry.
func (c *compiler) node(n *node, i int, o *typ, sizes []inherited, depth int, meta metaDepth) error {
	e := &c.entries[i]
	f := e.first
	if f.Name == "__typename" {
		if len(f.SelectionSet) > 0 || len(f.Arguments) > 0 {
			return invalid(errors.New("__typename has nothing inside"))
		}
		n.def = typename
		return nil
	}
	def := c.field(o, e)
	if err := c.check(def, f); err != nil {
		return err
	}
	n.def = def
	if e.when != nil {
		c.more(n).when = e.when
	}
	if def.meta {
		if c.calculator.options.NoIntrospection {
			return invalid(errors.New("introspection is switched off"))
		}
		depth, meta = 0, metaDepth{fields: 1}
	} else if meta.fields > 0 {
		if isMetaList(f.Name) {
			if meta.lists++; meta.lists > 2 {
				return tooComplex("Introspection may nest lists of fields and types at most %d deep.", 2)
			}
		}
	}
	if err := c.weigh(n, def, f); err != nil {
		return err
	}
	below := c.sized(n, def, f, sizes)
	if len(f.SelectionSet) == 0 {
		return nil
	}
	var err error
	sources := e.sources // e may move meanwhile, and these stay
	if sources == nil {
		sources = e.one[:]
	}
	n.below, err = c.set(sources, def.of, below, depth+1, meta)
	return err
}

// isMetaList tells whether a field of introspection lists what could nest types
// in types without end.
func isMetaList(name string) bool {
	return name == "fields" || name == "interfaces" || name == "possibleTypes" || name == "inputFields"
}

// field returns what is known of a field.
func (c *compiler) field(o *typ, e *entry) *field {
	if c.schema != nil {
		return o.fields[e.first.Name]
	}
	return c.calculator.guessField(e.on, e.first, c.under(nil, ""))
}

// check refuses what no server executes, as far as it is cheap to see.
func (c *compiler) check(def *field, f *ast.Field) error {
	for i, arg := range f.Arguments {
		for _, before := range f.Arguments[:i] {
			c.steps++
			if before.Name == arg.Name {
				return invalidf("%q has two arguments %q", f.Name, arg.Name)
			}
		}
		if err := c.checkVariables(arg.Value); err != nil {
			return err
		}
	}
	if c.schema == nil {
		return c.step()
	}
	if isLeaf := def.of.kind == leaf; isLeaf != (len(f.SelectionSet) == 0) {
		return invalidf("%q must have selections if it is an object, and only then", f.Name)
	}
	for _, arg := range f.Arguments {
		if !slices.ContainsFunc(def.args, func(in *input) bool { return in.name == arg.Name }) {
			return invalidf("%q has no argument %q", f.Name, arg.Name)
		}
	}
	for _, in := range def.args {
		if in.required {
			if arg := f.Arguments.ForName(in.name); arg == nil || arg.Value.Kind == ast.NullValue {
				return invalidf("%q needs the argument %q", f.Name, in.name)
			}
		}
	}
	return c.step()
}

func (c *compiler) checkVariables(v *ast.Value) error {
	if v.Kind == ast.Variable && c.plan.variable(v.Raw) < 0 {
		return invalidf("there is no variable $%s", v.Raw)
	}
	for _, child := range v.Children {
		c.steps++
		if err := c.checkVariables(child.Value); err != nil {
			return err
		}
	}
	return nil
}

// weigh adds what the arguments of a field and of its directives weigh.
func (c *compiler) weigh(n *node, def *field, f *ast.Field) error {
	add := func(in *input, args ast.ArgumentList) {
		if !in.weighs {
			return
		}
		arg := args.ForName(in.name)
		if arg == nil && in.preset == "" {
			return
		}
		w := weighed{in: in}
		if arg != nil {
			w.given = c.literal(arg.Value)
		}
		c.more(n).weighed = append(n.rare.weighed, w)
	}
	for _, in := range def.args {
		add(in, f.Arguments)
	}
	if c.schema == nil {
		return nil
	}
	for _, d := range f.Directives {
		for _, in := range c.schema.directives[d.Name] {
			for _, arg := range d.Arguments {
				if err := c.checkVariables(arg.Value); err != nil {
					return err
				}
			}
			add(in, d.Arguments)
		}
	}
	return nil
}

// sized sets how often a node counts, and returns the sizes that it passes down.
func (c *compiler) sized(n *node, def *field, f *ast.Field, sizes []inherited) (below []inherited) {
	for _, from := range sizes {
		if from.path[0] != def.name {
			continue
		}
		if len(from.path) > 1 {
			below = append(below, inherited{from.path[1:], from.from})
		} else {
			n.size = from.from
		}
	}
	if def.size == nil {
		return below
	}
	own := c.sizer(def.size, def, f.Arguments)
	if len(def.size.sized) == 0 {
		if n.size == nil {
			n.size = own
		}
		return below
	}
	for _, path := range def.size.sized {
		below = append(below, inherited{path, own})
	}
	if !own.fixed || own.fixedErr != nil {
		c.more(n).asks = own
	}
	return below
}
