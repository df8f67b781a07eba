package graphqlcost

import (
	"errors"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// A compiler makes the plan of one operation: what it could select, merged as an
// executor merges it, with all that depends on variables left open.
type compiler struct {
	calculator *Calculator
	schema     *schema // nil if there is none
	limits     *Limits
	document   document
	plan       *plan
	none       evaluation // without variables
	work       int        // fields looked at so far
	steps      int        // and what is cheaper
	lengths    int        // how many lists were given one

	plainLeaves bool // leaves cost nothing, whatever their names; without a schema

	memo  map[memoKey]outcome
	names map[string]*typ // the types that are named, if they are many; without a schema

	// What the plan is made of.
	nodes   chunk[node]
	sets    chunk[set]
	rares   chunk[rare]
	sizers  chunk[sizer]
	several chunk[class]

	*scratch
}

// An outcome is what came of a set.
type outcome struct {
	set     *set  // nil if it costs the same whatever the variables are, and has no sections
	cost    int64 // in that case
	height  int   // of the fields below, and itself
	keys    int   // all fields, with those below
	aliases int
}

// An inherited length is one that a field above passes down a path.
type inherited struct {
	path []string
	length
}

// A memoKey is what the set of one or two sources depends on.
type memoKey struct {
	t       *typ
	sources [2]sourceKey
	length  int
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

// compile makes a plan of an operation, which keeps parts of the text.
func (c *Calculator) compile(text, name string) (*plan, error) {
	s := scratches.Get().(*scratch)
	defer func() {
		s.empty()
		scratches.Put(s)
	}()
	w := c.compiler(s)
	return w.compile(text, name)
}

func (c *Calculator) compiler(s *scratch) compiler {
	return compiler{
		calculator: c, schema: c.schema, limits: &c.options.Limits, none: evaluation{calculator: c}, scratch: s,
		plainLeaves: len(c.options.Costs) == 0 && len(c.options.Sizes) == 0,
	}
}

func (c *compiler) compile(text, name string) (*plan, error) {
	if err := c.document.parse(text, c.limits); err != nil {
		return nil, err
	}
	op, err := c.document.operation(name)
	if err != nil {
		return nil, err
	}
	c.start()
	c.plan.mutation = op.Operation == ast.Mutation
	if err := c.variables(op); err != nil {
		return nil, err
	}
	root, err := c.root(op.Operation)
	if err != nil {
		return nil, err
	}
	if len(op.Directives) > c.limits.Directives {
		return nil, tooComplex("A field may have at most %d directives.", int64(c.limits.Directives))
	}
	made, err := c.set([]source{{op.SelectionSet, root, always}}, root, nil, 1, metaDepth{})
	if err != nil {
		return nil, err
	}
	c.plan.root = made.set
	fields := 0
	for _, class := range c.plan.root.classes {
		fields = max(fields, len(class.nodes))
	}
	if fields > c.limits.RootFields {
		return nil, tooComplex("An operation may have at most %d fields at its root.", int64(c.limits.RootFields))
	}
	c.plan.bytes += c.bytes()
	return c.plan, nil
}

var rootNames = map[ast.Operation]string{ast.Query: "Query", ast.Mutation: "Mutation", ast.Subscription: "Subscription"}

func (c *compiler) root(operation ast.Operation) (*typ, error) {
	if c.schema == nil {
		return c.typed(rootNames[operation]), nil
	}
	if root := c.schema.roots[operation]; root != nil {
		return root, nil
	}
	return nil, invalidf("the schema has no %s", operation)
}

// nameless is the type of which nothing is known.
var nameless = &typ{kind: untyped}

// typed returns the type of a name, or nil.
func (c *compiler) typed(name string) *typ {
	if c.schema != nil {
		return c.schema.types[name]
	}
	if c.names != nil {
		if t := c.names[name]; t != nil {
			return t
		}
	} else {
		for _, t := range c.untyped {
			if t.name == name {
				return t
			}
		}
	}
	t := &typ{name: name, kind: untyped}
	switch {
	case c.names != nil:
		c.names[name] = t
	case len(c.untyped) == few:
		c.names = map[string]*typ{name: t}
		for _, other := range c.untyped {
			c.names[other.name] = other
		}
	default:
		c.untyped = append(c.untyped, t)
	}
	return t
}

func (c *compiler) variables(op *ast.OperationDefinition) error {
	if len(op.VariableDefinitions) == 0 {
		return nil
	}
	c.plan.variables = make([]variable, len(op.VariableDefinitions))
	if len(op.VariableDefinitions) > few {
		c.plan.index = make(map[string]int, len(op.VariableDefinitions))
	}
	for i, def := range op.VariableDefinitions {
		if c.plan.variable(def.Variable) >= 0 {
			return invalidf("there are two variables $%s", def.Variable)
		}
		v := &c.plan.variables[i]
		v.name, v.required = def.Variable, def.Type.NonNull
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
func (c *compiler) set(sources []source, t *typ, lengths []inherited, depth int, meta metaDepth) (outcome, error) {
	var key memoKey
	canRemember := c.work >= memoFrom && len(sources) <= len(key.sources) && len(lengths) <= 1
	if canRemember {
		key = keyOf(sources, t, lengths, meta)
		if known, ok := c.memo[key]; ok {
			if depth+known.height-1 > c.maxDepth(meta) {
				return known, c.tooDeep(meta)
			}
			if s := known.set; s != nil && s.shared == 0 {
				c.plan.shared++
				s.shared = c.plan.shared
			}
			return known, nil
		}
	}
	if depth > c.maxDepth(meta) {
		return outcome{}, c.tooDeep(meta)
	}
	var all [1]*typ
	types := all[:]
	if t.kind != abstract {
		all[0] = t
	} else {
		var err error
		if types, err = c.classesOf(sources, t); err != nil {
			return outcome{}, err
		}
	}
	made := making{isRoot: depth == 1 && meta.fields == 0, when: common(sources), from: len(c.classes)}
	for _, o := range types {
		if err := c.class(&made, sources, o, lengths, depth, meta); err != nil {
			return outcome{}, err
		}
	}
	done := c.finish(&made)
	if canRemember {
		if c.memo == nil {
			c.memo = make(map[memoKey]outcome)
		}
		c.memo[key] = done
	}
	return done, nil
}

// A making is a set that is being made.
type making struct {
	outcome
	isRoot    bool
	varies    bool  // the cost depends on variables
	sectioned bool  // there is a section in it
	when      int32 // a condition that holds if the set is met at all
	from      int   // where its classes begin
}

// common returns the condition of all sources, if it is the same.
func common(sources []source) int32 {
	for _, s := range sources[1:] {
		if s.when != sources[0].when {
			return always
		}
	}
	return sources[0].when
}

// finish returns what came of a set whose classes have been added. What costs the
// same whatever the variables are is a number, without a trace of what it is made
// of but where that is asked for: at the root and in sections.
func (c *compiler) finish(m *making) outcome {
	m.cost = min(m.cost, maximum-1)
	if m.varies || m.sectioned || m.isRoot {
		m.set = c.sets.one()
		if classes := c.classes[m.from:]; len(classes) == 1 {
			m.set.first[0] = classes[0]
			m.set.classes = m.set.first[:]
		} else {
			m.set.classes = c.several.copy(classes)
		}
		if !m.varies {
			m.set.fixed = m.cost + 1
		}
	}
	c.classes = c.classes[:m.from]
	return m.outcome
}

func keyOf(sources []source, t *typ, lengths []inherited, meta metaDepth) memoKey {
	key := memoKey{t: t, meta: meta}
	for i, s := range sources {
		key.sources[i] = sourceKey{&s.selections[0], s.on, s.when}
	}
	if len(lengths) == 1 {
		key.length, key.path = lengths[0].number, strings.Join(lengths[0].path, ".")
	}
	return key
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
func (c *compiler) class(m *making, sources []source, o *typ, lengths []inherited, depth int, meta metaDepth) error {
	from, mergedFrom, spreadsFrom, keptFrom := len(c.entries), len(c.merged), len(c.spreads), len(c.kept)
	for _, src := range sources {
		if err := c.collect(from, spreadsFrom, src, o); err != nil {
			return err
		}
	}
	to := len(c.entries)
	keys, aliases, height := 0, 0, 1
	made, whole := class{}, int64(0)
	for i := from; i < to; i++ {
		if c.work++; c.work > c.limits.Work {
			return tooComplex("A query may take at most %d steps to be costed.", int64(c.limits.Work))
		}
		n := node{times: 1}
		isPlain := c.isPlain(m, i, o) && len(lengths) == 0 && meta.fields == 0
		if isPlain {
			keys++
			if err := c.step(); err != nil {
				return err
			}
		} else {
			below, err := c.node(&n, m, i, o, lengths, depth, meta)
			if err != nil {
				return err
			}
			keys, aliases, height = keys+1+below.keys, aliases+below.aliases, max(height, 1+below.height)
		}
		if first := c.entries[i].first; first.Alias != first.Name {
			aliases++
		}
		switch {
		case keys > c.limits.Keys:
			return tooComplex("A query may have at most %d fields.", int64(c.limits.Keys))
		case aliases > c.limits.Aliases:
			return tooComplex("A query may have at most %d aliases.", int64(c.limits.Aliases))
		case !isPlain:
			whole = add(whole, c.keep(m, &made, &n))
		}
	}
	made.nodes = c.nodes.copy(c.kept[keptFrom:])
	c.most.entries, c.most.kept = max(c.most.entries, to), max(c.most.kept, len(c.kept))
	c.entries, c.merged, c.spreads, c.kept = c.entries[:from], c.merged[:mergedFrom], c.spreads[:spreadsFrom], c.kept[:keptFrom]
	c.classes = append(c.classes, made)
	m.keys, m.aliases, m.height, m.cost = max(m.keys, keys), max(m.aliases, aliases), max(m.height, height), max(m.cost, whole)
	return nil
}

// keep adds a node to a class: all of it, or what it costs if nothing else of it is
// asked for. It returns what the node costs, or 0 if that depends on variables.
func (c *compiler) keep(m *making, made *class, n *node) int64 {
	cost, isFixed := n.cost()
	isSectioned := n.below != nil && isFixed || c.schema != nil && n.def.section != ""
	m.varies, m.sectioned = m.varies || !isFixed, m.sectioned || isSectioned
	if !isFixed || isSectioned || m.isRoot {
		c.kept = append(c.kept, *n)
	} else {
		made.fixed = add(made.fixed, cost)
	}
	return cost
}

// isPlain tells whether an entry of a set is known to be a leaf that costs nothing,
// as most are. There is nothing to say against it and nothing to keep of it.
func (c *compiler) isPlain(m *making, i int, o *typ) bool {
	e := &c.entries[i]
	f := e.first
	if m.isRoot || len(f.SelectionSet) > 0 || len(f.Arguments) > 0 {
		return false
	}
	if c.schema == nil {
		return c.plainLeaves && f.Name[0] != '_'
	}
	return o == e.on && e.def != nil && e.def.plain && len(f.Directives) == 0
}

// node makes the node of an entry, and returns what is below.
func (c *compiler) node(n *node, in *making, i int, o *typ, lengths []inherited, depth int, meta metaDepth) (below outcome, err error) {
	e := &c.entries[i]
	f := e.first
	if f.Name == typename.name {
		if len(f.SelectionSet) > 0 || len(f.Arguments) > 0 {
			return below, invalid(errors.New("__typename has nothing inside"))
		}
		n.def = typename
		return below, nil
	}
	def := c.field(o, e, in.isRoot)
	if err := c.check(def, f); err != nil {
		return below, err
	}
	n.def, n.weight = def, def.weight
	if when := c.whens(e, in.when); when != nil {
		c.more(n).when = when
	}
	if def.meta {
		if c.calculator.options.NoIntrospection {
			return below, invalid(errors.New("introspection is switched off"))
		}
		n.weight = multiply(c.calculator.options.IntrospectionCost, point)
		depth, meta = 0, metaDepth{fields: 1}
	} else if meta.fields > 0 {
		if isMetaList(f.Name) {
			if meta.lists++; meta.lists > 2 {
				return below, tooComplex("Introspection may nest lists of fields and types at most %d deep.", 2)
			}
		}
	}
	from := len(c.inherited)
	if c.schema == nil {
		c.guessTimes(n, e)
		if !in.isRoot {
			n.def = nil // nobody asks what it is
		}
	} else {
		if err := c.weigh(n, def, f); err != nil {
			return below, err
		}
		c.times(n, def, f, lengths)
	}
	if len(f.SelectionSet) == 0 {
		c.inherited = c.inherited[:from]
		return below, nil
	}
	passed := c.inherited[from:]
	of, isMeta := def.of, def.meta
	if e.more > 0 {
		below, err = c.set(c.merged[e.more-1].sources, of, passed, depth+1, meta)
	} else {
		one := [1]source{c.source(e)}
		below, err = c.set(one[:], of, passed, depth+1, meta)
	}
	c.inherited = c.inherited[:from]
	switch {
	case isMeta: // its cost is flat
	case below.set != nil:
		n.below = below.set
	default:
		n.fixed = below.cost
	}
	return below, err
}

// isMetaList tells whether a field of introspection lists what could nest types
// in types without end.
func isMetaList(name string) bool {
	return name == "fields" || name == "interfaces" || name == "possibleTypes" || name == "inputFields"
}

// field returns what is known of a field. It is good until the next one is asked
// for, but at the root.
func (c *compiler) field(o *typ, e *entry, isRoot bool) *field {
	switch {
	case c.schema == nil:
		return c.guessField(e, isRoot)
	case o == e.on:
		return e.def
	}
	return o.table.get(e.first.Name)
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
	for _, in := range def.args {
		c.weighOne(n, in, f.Arguments)
	}
	for _, d := range f.Directives {
		for _, in := range c.schema.directives[d.Name] {
			for _, arg := range d.Arguments {
				if err := c.checkVariables(arg.Value); err != nil {
					return err
				}
			}
			c.weighOne(n, in, d.Arguments)
		}
	}
	return nil
}

func (c *compiler) weighOne(n *node, in *input, args ast.ArgumentList) {
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
	rare := c.more(n)
	rare.weighed = append(rare.weighed, w)
}

// more returns the rare part of a node.
func (c *compiler) more(n *node) *rare {
	if n.rare == nil {
		n.rare = c.rares.one()
	}
	return n.rare
}

// times sets how often a node counts, and puts the lengths that it passes down
// on their stack.
func (c *compiler) times(n *node, def *field, f *ast.Field, lengths []inherited) {
	var own length
	for _, from := range lengths {
		if from.path[0] != def.name {
			continue
		}
		if len(from.path) > 1 {
			c.inherited = append(c.inherited, inherited{from.path[1:], from.length})
		} else {
			own = from.length
		}
	}
	if def.size != nil {
		said := c.length(def.size, def, f.Arguments)
		for _, path := range def.size.sized {
			c.inherited = append(c.inherited, inherited{path, said})
		}
		switch {
		case len(def.size.sized) == 0 && own.number == 0:
			own = said
		case len(def.size.sized) > 0 && said.by != nil:
			c.more(n).asks = said.by
		}
	}
	if own.number > 0 {
		n.size, n.times = own.by, own.items
	}
	for i := 1; i < def.lists; i++ { // lists in a list
		n.times = multiply(n.times, c.calculator.options.ListSize)
	}
	if n.size == nil {
		n.times = max(1, n.times)
	}
}
