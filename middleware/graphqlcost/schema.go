package graphqlcost

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
)

// A kind is what a type is to the walk.
type kind uint8

const (
	leaf     kind = iota // a scalar or an enum
	object               // has fields
	abstract             // an interface or a union: is one of several objects
	inputs               // an input object
	untyped              // not known, since there is no schema
)

// A typ is what the walk knows of a type. It does not change after New.
type typ struct {
	name    string
	kind    kind
	fields  map[string]*field
	table   fieldTable // the fields, for queries
	objects []*typ     // what it can be in the end; an object is itself
	is      bitset     // the same, by the numbers of objects
	number  int        // of an object
	inputs  []*input   // the fields of an input object
	weight  int64
	weighs  bool // has a weight of its own; of an input object, or one inside of it
}

// A field is what the walk knows of a field of a type.
type field struct {
	name    string
	of      *typ
	lists   int   // how many lists its type nests
	weight  int64 // its own, or its type's
	args    []*input
	size    *sizing
	section string
	shape   int  // fields of one shape cost the same
	meta    bool // __schema or __type
	plain   bool // a leaf that costs nothing and needs nothing said
}

// An input is an argument, or a field of an input object.
type input struct {
	name     string
	of       *typ // nil if it is not known
	lists    int
	required bool
	preset   value // its default
	weight   int64
	weighs   bool // it has a weight, or there is one inside of its type
}

// A bitset is a set of small numbers.
type bitset []uint64

func (b bitset) has(n int) bool { return n/64 < len(b) && b[n/64]>>(n%64)&1 != 0 }

func (b bitset) with(n int) bitset {
	for n/64 >= len(b) {
		b = append(b, 0)
	}
	b[n/64] |= 1 << (n % 64)
	return b
}

func (b bitset) meets(other bitset) bool {
	for i := range min(len(b), len(other)) {
		if b[i]&other[i] != 0 {
			return true
		}
	}
	return false
}

// covers tells whether what is said of a type holds for an object.
func (t *typ) covers(o *typ) bool { return t == o || t.is.has(o.number) }

// A schema is the types of a service, and what they cost.
type schema struct {
	types      map[string]*typ
	directives map[string][]*input
	roots      map[ast.Operation]*typ
	nested     bool // there are sections below root fields
}

// directives that a schema may use without declaring them.
var ownDirectives = map[string]string{
	"cost": "directive @cost(weight: String!) on " +
		"ARGUMENT_DEFINITION | ENUM | FIELD_DEFINITION | INPUT_FIELD_DEFINITION | INTERFACE | OBJECT | SCALAR | UNION",
	"listSize": "directive @listSize(assumedSize: Int, slicingArguments: [String!], sizedFields: [String!], " +
		"requireOneSlicingArgument: Boolean = true) on FIELD_DEFINITION",
	"section": "directive @section(name: String!) on FIELD_DEFINITION",
}

// A schemaReader makes a schema of SDL and options.
type schemaReader struct {
	Options

	source *ast.Schema
	schema *schema
	shapes map[string]int
	asked  map[string]bool // the names in options that were found
}

func readSchema(o Options) (*schema, error) {
	source, err := loadSDL(o.Schema)
	if err != nil {
		return nil, err
	}
	r := &schemaReader{
		Options: o, source: source, shapes: make(map[string]int), asked: make(map[string]bool),
		schema: &schema{types: make(map[string]*typ), directives: make(map[string][]*input), roots: make(map[ast.Operation]*typ)},
	}
	return r.schema, r.read()
}

func loadSDL(text string) (*ast.Schema, error) {
	own := &ast.Source{Name: "schema", Input: text}
	doc, err := parser.ParseSchema(own)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(ownDirectives)) {
		if doc.Directives.ForName(name) == nil {
			missing = append(missing, ownDirectives[name])
		}
	}
	added := &ast.Source{Name: "stint", Input: strings.Join(missing, "\n")}
	loaded, err := validator.LoadSchema(validator.Prelude, added, own)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return loaded, nil
}

func (r *schemaReader) read() error {
	names := slices.Sorted(maps.Keys(r.source.Types))
	objects := 0
	for _, name := range names {
		def := r.source.Types[name]
		t := &typ{name: name}
		switch def.Kind {
		case ast.Object:
			t.kind, t.number = object, objects
			objects++
		case ast.Interface, ast.Union:
			t.kind = abstract
		case ast.InputObject:
			t.kind = inputs
		}
		r.schema.types[name] = t
	}
	for _, step := range []func(*ast.Definition, *typ) error{r.weigh, r.possible, r.inputFields, r.fields, r.sizes} {
		for _, name := range names {
			if err := step(r.source.Types[name], r.schema.types[name]); err != nil {
				return err
			}
		}
		r.spread()
	}
	if err := r.directives(); err != nil {
		return err
	}
	r.shape(names)
	for _, t := range r.schema.types {
		t.table = newFieldTable(t.fields)
	}
	for operation, def := range map[ast.Operation]*ast.Definition{
		ast.Query: r.source.Query, ast.Mutation: r.source.Mutation, ast.Subscription: r.source.Subscription,
	} {
		if def != nil {
			r.schema.roots[operation] = r.schema.types[def.Name]
		}
	}
	r.sections()
	return r.unknown()
}

// weigh reads the weight of a type.
func (r *schemaReader) weigh(def *ast.Definition, t *typ) error {
	weight, ok, err := r.cost(def.Name, def.Directives)
	if err != nil {
		return err
	}
	if t.kind == object || t.kind == abstract {
		t.weight = point
	}
	if ok {
		t.weight, t.weighs = weight, weight != 0 || t.kind == abstract
	}
	return nil
}

// cost returns the weight that options or a directive give to what has a name.
func (r *schemaReader) cost(name string, directives ast.DirectiveList) (weight int64, ok bool, err error) {
	if manual, ok := r.Costs[name]; ok {
		r.asked[name] = true
		return manual * point, true, nil
	}
	d := directives.ForName("cost")
	if d == nil {
		return 0, false, nil
	}
	arg := d.Arguments.ForName("weight")
	if arg == nil {
		return 0, false, fmt.Errorf("schema: %s: @cost without a weight", name)
	}
	weight, err = parseWeight(arg.Value.Raw)
	if err != nil {
		return 0, false, fmt.Errorf("schema: %s: @cost: %w", name, err)
	}
	return weight, true, nil
}

// possible finds what a type can be. An abstract type without a weight weighs as
// much as the heaviest.
func (r *schemaReader) possible(def *ast.Definition, t *typ) error {
	switch t.kind {
	case object:
		t.objects, t.is = []*typ{t}, bitset{}.with(t.number)
	case abstract:
		for _, one := range r.source.GetPossibleTypes(def) {
			o := r.schema.types[one.Name]
			if o.kind != object || t.is.has(o.number) {
				continue
			}
			t.objects, t.is = append(t.objects, o), t.is.with(o.number)
			if !t.weighs {
				t.weight = max(t.weight, o.weight)
			}
		}
	}
	return nil
}

func (r *schemaReader) inputFields(def *ast.Definition, t *typ) error {
	if t.kind != inputs {
		return nil
	}
	for _, f := range def.Fields {
		in, err := r.input(def.Name+"."+f.Name, f.Name, f.Type, f.DefaultValue, f.Directives)
		if err != nil {
			return err
		}
		t.inputs = append(t.inputs, in)
	}
	return nil
}

func (r *schemaReader) input(path, name string, of *ast.Type, preset *ast.Value, directives ast.DirectiveList) (*input, error) {
	in := &input{name: name, of: r.schema.types[of.Name()], lists: lists(of), required: of.NonNull && preset == nil}
	if preset != nil {
		in.preset = literal(preset, func(string) int { return -1 })
	}
	weight, ok, err := r.cost(path, directives)
	switch {
	case err != nil:
		return nil, err
	case ok:
		in.weight = weight
	case in.of != nil && in.of.weighs:
		in.weight = in.of.weight
	}
	in.weighs = in.weight != 0
	return in, nil
}

func lists(t *ast.Type) int {
	n := 0
	for ; t.Elem != nil; t = t.Elem {
		n++
	}
	return n
}

// directives reads the arguments of the directives of queries.
func (r *schemaReader) directives() error {
	for name, def := range r.source.Directives {
		for _, a := range def.Arguments {
			in, err := r.input("@"+name+"."+a.Name, a.Name, a.Type, a.DefaultValue, a.Directives)
			if err != nil {
				return err
			}
			in.weighs = in.weighs || in.of != nil && in.of.weighs
			r.schema.directives[name] = append(r.schema.directives[name], in)
		}
	}
	return nil
}

// spread tells input objects, and what takes them, that there is a weight inside.
func (r *schemaReader) spread() {
	for changed := true; changed; {
		changed = false
		for _, t := range r.schema.types {
			for _, in := range t.inputs {
				in.weighs = in.weighs || in.of != nil && in.of.kind == inputs && in.of.weighs
				if in.weighs && !t.weighs {
					t.weighs, changed = true, true
				}
			}
		}
	}
}

func (r *schemaReader) fields(def *ast.Definition, t *typ) error {
	if t.kind != object && t.kind != abstract {
		return nil
	}
	t.fields = make(map[string]*field, len(def.Fields))
	for _, f := range def.Fields {
		path := def.Name + "." + f.Name
		if def.Kind == ast.Interface && (f.Directives.ForName("cost") != nil || r.Costs[path] != 0) {
			return fmt.Errorf("schema: %s: an interface's field has no cost: write it on the fields of its types", path)
		}
		of := r.schema.types[f.Type.Name()]
		own := &field{name: f.Name, of: of, lists: lists(f.Type), weight: of.weight, meta: def == r.source.Query && strings.HasPrefix(f.Name, "__")}
		if weight, ok, err := r.cost(path, f.Directives); err != nil {
			return err
		} else if ok {
			own.weight = weight
		}
		if own.weight < 0 {
			return fmt.Errorf("schema: %s: a field's cost is not negative; an argument's may be", path)
		}
		if strings.HasPrefix(def.Name, "__") || own.meta {
			own.weight = 0
		}
		for _, a := range f.Arguments {
			in, err := r.input(path+"."+a.Name, a.Name, a.Type, a.DefaultValue, a.Directives)
			if err != nil {
				return err
			}
			in.weighs = in.weighs || in.of != nil && in.of.weighs
			own.args = append(own.args, in)
		}
		own.section = r.Sections[path]
		r.asked[path] = r.asked[path] || own.section != ""
		if d := f.Directives.ForName("section"); d != nil && own.section == "" && d.Arguments.ForName("name") != nil {
			own.section = d.Arguments.ForName("name").Value.Raw
		}
		t.fields[f.Name] = own
	}
	return nil
}

// sizes reads how long the lists of a type's fields are.
func (r *schemaReader) sizes(def *ast.Definition, t *typ) error {
	for _, f := range def.Fields {
		own, ok := t.fields[f.Name]
		if !ok {
			continue
		}
		path := def.Name + "." + f.Name
		size, err := r.sizing(path, f.Directives, own)
		for i := 0; size == nil && err == nil && i < len(def.Interfaces); i++ {
			if promised := r.source.Types[def.Interfaces[i]]; promised != nil && promised.Fields.ForName(f.Name) != nil {
				size, err = r.sizing(promised.Name+"."+f.Name, promised.Fields.ForName(f.Name).Directives, own)
			}
		}
		if err != nil {
			return err
		}
		if size == nil {
			size = r.guess(own)
		}
		own.size = size
		own.plain = own.of.kind == leaf && own.weight == 0 && own.size == nil && own.section == "" && !slices.ContainsFunc(own.args,
			func(in *input) bool { return in.required || in.weighs })
	}
	return nil
}

// sizing reads what options or @listSize say of a field. It is nil if they say
// nothing.
func (r *schemaReader) sizing(path string, directives ast.DirectiveList, own *field) (*sizing, error) {
	s := &sizing{assumed: -1}
	if n, ok := r.Sizes[path]; ok {
		r.asked[path] = true
		if own.lists == 0 {
			return nil, fmt.Errorf("sizes: %s is no list", path)
		}
		s.assumed = n
		s.slices = guessed(own.args, r.Slicing)
		return s, nil
	}
	d := directives.ForName("listSize")
	if d == nil {
		return nil, nil
	}
	bad := func(format string, a ...any) error {
		return fmt.Errorf("schema: %s: @listSize: %w", path, fmt.Errorf(format, a...))
	}
	for _, arg := range d.Arguments {
		switch arg.Name {
		case "assumedSize":
			n, err := value(arg.Value.Raw).integer()
			if err != nil || n < 0 {
				return nil, bad("assumedSize: %q is no size", arg.Value.Raw)
			}
			s.assumed = n
		case "slicingArguments":
			for _, name := range texts(arg.Value) {
				one, err := slicingArgument(own.args, name)
				if err != nil {
					return nil, bad("slicingArguments: %w", err)
				}
				s.slices = append(s.slices, one)
			}
		case "sizedFields":
			for _, name := range texts(arg.Value) {
				sized := strings.Split(name, ".")
				if err := r.checkSized(own.of, sized); err != nil {
					return nil, bad("sizedFields: %w", err)
				}
				s.sized = append(s.sized, sized)
			}
		}
	}
	s.one = len(s.slices) > 0
	if arg := d.Arguments.ForName("requireOneSlicingArgument"); arg != nil && arg.Value.Raw == "false" {
		s.one = false
	}
	switch {
	case s.assumed < 0 && len(s.slices) == 0:
		return nil, bad("it needs an assumedSize or slicingArguments")
	case len(s.sized) > 0 && own.lists > 0:
		return nil, bad("sizedFields are those of a field that is no list itself")
	case len(s.sized) == 0 && own.lists == 0:
		return nil, bad("the field is no list: name its sizedFields")
	}
	return s, nil
}

func texts(v *ast.Value) []string {
	if v.Kind == ast.StringValue || v.Kind == ast.BlockValue {
		return []string{v.Raw}
	}
	var all []string
	for _, child := range v.Children {
		all = append(all, child.Value.Raw)
	}
	return all
}

func slicingArgument(args []*input, path string) (slice, error) {
	names := strings.Split(path, ".")
	s := slice{path: names[1:], arg: -1}
	var in *input
	for i, arg := range args {
		if arg.name == names[0] {
			s.arg, in = i, arg
		}
	}
	for i := 0; in != nil && i < len(s.path); i++ {
		in = in.of.member(s.path[i])
		if in != nil {
			s.presets = append(s.presets, in.preset)
		}
	}
	if in == nil {
		return s, fmt.Errorf("there is no argument %q", path)
	}
	s.count = in.lists > 0
	return s, nil
}

// member returns a field of an input object.
func (t *typ) member(name string) *input {
	if t != nil {
		for _, in := range t.inputs {
			if in.name == name {
				return in
			}
		}
	}
	return nil
}

func (r *schemaReader) checkSized(t *typ, path []string) error {
	for i, name := range path {
		found := false
		for _, o := range append(slices.Clone(t.objects), t) {
			f, ok := o.fields[name]
			if ok && !found {
				t, found = f.of, true
				if i == len(path)-1 && f.lists == 0 {
					return fmt.Errorf("%q is no list", strings.Join(path, "."))
				}
			}
		}
		if !found {
			return fmt.Errorf("there is no field %q", strings.Join(path, "."))
		}
	}
	return nil
}

// guess tells how long a list is of which nothing is said. A field that is no
// list and has a slicing argument is a connection: the lists of its type are as
// long as that says, if nothing is said of them either.
func (r *schemaReader) guess(own *field) *sizing {
	s := &sizing{assumed: -1, slices: guessed(own.args, r.Slicing)}
	if own.lists > 0 {
		return s
	}
	if len(s.slices) == 0 {
		return nil
	}
	for _, o := range append(slices.Clone(own.of.objects), own.of) {
		for _, name := range slices.Sorted(maps.Keys(o.fields)) {
			if f := o.fields[name]; f.lists > 0 && r.silent(o, f) && !s.sizes(name) {
				s.sized = append(s.sized, []string{name})
			}
		}
	}
	if len(s.sized) == 0 {
		return nil
	}
	return s
}

func (r *schemaReader) silent(t *typ, f *field) bool {
	_, manual := r.Sizes[t.name+"."+f.name]
	def := r.source.Types[t.name].Fields.ForName(f.name)
	return !manual && (def == nil || def.Directives.ForName("listSize") == nil) && len(guessed(f.args, r.Slicing)) == 0
}

func guessed(args []*input, names []string) []slice {
	var found []slice
	for i, arg := range args {
		if slices.Contains(names, arg.name) && (arg.lists > 0 || arg.of != nil && arg.of.name == "Int") {
			found = append(found, slice{arg: i, count: arg.lists > 0})
		}
	}
	return found
}

// shape numbers fields so that those of one number cost the same, whichever type
// they are of.
func (r *schemaReader) shape(names []string) {
	for _, name := range names {
		for _, f := range r.schema.types[name].fields {
			var b strings.Builder
			fmt.Fprintf(&b, "%s %s %d %d %q %v", f.name, f.of.name, f.lists, f.weight, f.section, f.meta)
			if f.size != nil {
				fmt.Fprintf(&b, " %v", *f.size)
			}
			for _, in := range f.args {
				fmt.Fprintf(&b, " (%s %d %d %v %v %q", in.name, in.lists, in.weight, in.weighs, in.required, in.preset)
				if in.of != nil {
					b.WriteString(in.of.name)
				}
			}
			if _, ok := r.shapes[b.String()]; !ok {
				r.shapes[b.String()] = len(r.shapes)
			}
			f.shape = r.shapes[b.String()]
		}
	}
}

// sections tells whether any field that is not a root's has a section.
func (r *schemaReader) sections() {
	for _, t := range r.schema.types {
		isRoot := false
		for _, root := range r.schema.roots {
			isRoot = isRoot || t == root
		}
		for _, f := range t.fields {
			r.schema.nested = r.schema.nested || !isRoot && f.section != ""
		}
	}
}

// unknown returns an error for names in options that the schema does not have.
func (r *schemaReader) unknown() error {
	for _, names := range []struct {
		option string
		names  []string
	}{
		{"costs", slices.Collect(maps.Keys(r.Costs))},
		{"sizes", slices.Collect(maps.Keys(r.Sizes))},
		{"sections", slices.Collect(maps.Keys(r.Sections))},
	} {
		slices.Sort(names.names)
		for _, name := range names.names {
			if !r.asked[name] {
				return fmt.Errorf("%s: the schema has no %q: write Type.field", names.option, cmp.Or(name, `""`))
			}
		}
	}
	if r.source.Query == nil {
		return errors.New("schema: it has no type Query")
	}
	return nil
}
