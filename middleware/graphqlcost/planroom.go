package graphqlcost

// A planRoom is a plan and the parts that a small one has, all in one piece.
type planRoom struct {
	plan   plan
	nodes  [8]node
	sets   [4]set
	rares  [2]rare
	sizers [1]sizer
}

// start makes an empty plan.
func (c *compiler) start() {
	room := new(planRoom)
	c.plan = &room.plan
	c.nodes.left, c.sets.left, c.rares.left, c.sizers.left = room.nodes[:], room.sets[:], room.rares[:], room.sizers[:]
}

// bytes returns about how large the plan is, without its texts.
func (c *compiler) bytes() int {
	return 1200 + 64*c.nodes.made + 80*c.sets.made + 64*c.rares.made + 120*c.sizers.made + 32*c.several.made +
		64*len(c.plan.variables) + 16*len(c.plan.conditions)
}

// A chunk gives out values that are made several at once.
type chunk[T any] struct {
	left []T
	made int // how many have been made, without those that it began with
}

// one returns a value.
func (c *chunk[T]) one() *T {
	if len(c.left) == 0 {
		c.more(1)
	}
	one := &c.left[0]
	c.left = c.left[1:]
	return one
}

// copy returns a list of the same values, without room for more.
func (c *chunk[T]) copy(values []T) []T {
	n := len(values)
	if n == 0 {
		return nil
	}
	if n > len(c.left) {
		c.more(n)
	}
	list := c.left[:n:n]
	copy(list, values)
	c.left = c.left[n:]
	return list
}

// more makes room for so many values, and for others that may follow.
func (c *chunk[T]) more(n int) {
	n = max(n, min(max(c.made, 4), 64))
	c.left = make([]T, n)
	c.made += n
}
