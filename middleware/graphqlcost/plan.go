package graphqlcost

// A plan is what an operation could select, with its sizes and conditions left
// open where variables decide them. It does not change once it is made. It holds
// the document's text, and nothing else of it.
type plan struct {
	variables  []variable
	index      map[string]int // of the variables by name; nil if they are few
	conditions []condition
	root       *set
	mutation   bool
	shared     int // how many sets are met more than once
	bytes      int // about how large it is
}

// variable returns the number of a variable, or -1.
func (p *plan) variable(name string) int {
	if p.index != nil {
		if n, ok := p.index[name]; ok {
			return n
		}
		return -1
	}
	for i := range p.variables {
		if p.variables[i].name == name {
			return i
		}
	}
	return -1
}

// A variable is one that the operation declares.
type variable struct {
	name     string
	required bool
	boolean  bool  // a condition depends on it
	preset   value // its default
}

// A set is what is selected of an object: a class of fields for each class of those
// that it can be.
type set struct {
	classes []class
	first   [1]class // room for the classes, of which there is mostly one
	fixed   int64    // its cost and one, if it depends on no variable; or 0
	shared  int      // its number among the sets that are met more than once, from 1 on
}

// A class is the fields of objects that are alike.
type class struct {
	nodes []node
	fixed int64 // what the others cost, which depend on no variable
}

// A node is one response key of an object.
type node struct {
	def    *field // nil if it is not asked for
	size   *sizer // how long the list is, if that is still open
	times  int64  // how often the node counts, for each item if it has a size
	weight int64
	below  *set
	fixed  int64 // what is below costs, if there is no set below
	rare   *rare // nil for most
}

// A rare is what few nodes have.
type rare struct {
	when    []int32   // one of these conditions must hold; none means always
	weighed []weighed // arguments that weigh
	asks    *sizer    // the size that it passes down
}

// typename is the field that all types have, and that costs nothing.
var typename = &field{name: "__typename"}

// A weighed argument has a weight, or something inside of it has.
type weighed struct {
	in    *input
	given value
}

// An evaluation is one request's walk through a plan.
type evaluation struct {
	calculator *Calculator
	plan       *plan
	values     []value // of the variables
	scanned    int     // how many bytes of values were looked through
	known      []int64 // the costs of shared sets, and one; 0 is not known yet
}

// cost returns what a set costs: the dearest of what it can be.
func (e *evaluation) cost(s *set) (int64, error) {
	switch {
	case s == nil:
		return 0, nil
	case s.fixed > 0:
		return s.fixed - 1, nil
	}
	if s.shared > 0 && e.known[s.shared-1] > 0 {
		return e.known[s.shared-1] - 1, nil
	}
	most := int64(0)
	for _, class := range s.classes {
		sum := class.fixed
		for i := range class.nodes {
			cost, err := e.node(&class.nodes[i])
			if err != nil {
				return 0, err
			}
			sum = add(sum, cost)
		}
		most = max(most, sum)
	}
	if s.shared > 0 {
		e.known[s.shared-1] = add(min(most, maximum-1), 1)
	}
	return most, nil
}

// cost returns what a node costs whatever the variables are, if that can be said.
func (n *node) cost() (cost int64, ok bool) {
	if n.rare != nil || n.size != nil || n.below != nil && n.below.fixed == 0 {
		return 0, false
	}
	below := n.fixed
	if n.below != nil {
		below = n.below.fixed - 1
	}
	return multiply(n.times, add(n.weight, below)), true
}

// node returns what a node costs: raw + max(1, n) × (weight + what is below).
func (e *evaluation) node(n *node) (int64, error) {
	if cost, ok := n.cost(); ok {
		return cost, nil
	}
	if !e.present(n) {
		return 0, nil
	}
	raw, times, weight, err := e.own(n)
	if err != nil {
		return 0, err
	}
	below := n.fixed
	if n.below != nil {
		if below, err = e.cost(n.below); err != nil {
			return 0, err
		}
	}
	return add(raw, multiply(times, add(weight, below))), nil
}

// present tells whether a node is selected, and may cost anything.
func (e *evaluation) present(n *node) bool {
	return n.def != typename && (n.rare == nil || e.holds(n.rare.when))
}

// own returns what a node costs once, how often it counts, and what it costs each
// time without what is below. Arguments that weigh less than nothing take from
// that, but never more than there is.
func (e *evaluation) own(n *node) (raw, times, weight int64, err error) {
	times, weight = n.times, n.weight
	if n.rare != nil {
		for i := range n.rare.weighed {
			if err = e.argument(&n.rare.weighed[i], &raw); err != nil {
				return 0, 0, 0, err
			}
		}
		if raw < 0 {
			raw, weight = 0, max(0, weight+raw)
		}
		if n.rare.asks != nil {
			if _, err = n.rare.asks.size(e); err != nil {
				return 0, 0, 0, err
			}
		}
	}
	if n.size != nil {
		items, err := n.size.size(e)
		if err != nil {
			return 0, 0, 0, err
		}
		times = max(1, multiply(items, times))
	}
	return raw, times, weight, nil
}

// argument adds what an argument weighs, and what is inside of it.
func (e *evaluation) argument(w *weighed, sum *int64) error {
	v, err := e.resolve(w.given)
	if err != nil {
		return err
	}
	if v == "" {
		v = w.in.preset
	}
	return e.input(w.in, v, sum)
}

func (e *evaluation) input(in *input, v value, sum *int64) error {
	if v == "" || v == null {
		return nil
	}
	*sum = addWeight(*sum, in.weight)
	if in.of == nil || in.of.kind != inputs {
		return nil
	}
	return e.inside(in.of, v, sum)
}

// inside adds what the fields of an input object weigh, or of a list of them.
func (e *evaluation) inside(t *typ, v value, sum *int64) (err error) {
	if err = e.scan(v); err != nil {
		return err
	}
	for item := range v.items {
		if item, err = e.resolve(item); err == nil {
			err = e.inside(t, item, sum)
		}
		if err != nil {
			return err
		}
	}
	if v == "" || v[0] != '{' {
		return nil
	}
	for _, in := range t.inputs {
		if !in.weighs {
			continue
		}
		field, err := e.member(v, in.name)
		if err != nil {
			return err
		}
		if field == "" {
			field = in.preset
		}
		if err = e.input(in, field, sum); err != nil {
			return err
		}
	}
	return nil
}

// addWeight adds weights, which may be negative.
func addWeight(a, b int64) int64 {
	const most = maximum / 2
	return max(-most, min(most, a+b))
}

// scan counts the bytes of values that are looked through, since many fields may
// look through one large variable.
func (e *evaluation) scan(v value) error {
	if e.scanned += len(v); e.scanned > 4*e.calculator.options.Limits.Body {
		return tooComplex("The variables of a query may be looked through up to %d bytes.", int64(4*e.calculator.options.Limits.Body))
	}
	return nil
}
