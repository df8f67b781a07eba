package graphqlcost

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

// A table finds what a map finds, however long and however alike names are.
func TestFieldTable(t *testing.T) {
	t.Parallel()
	var none fieldTable
	assert.Nil(t, none.get("a"))
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(rapid.StringMatching(`[a-c_]{0,20}`), 0, 60).Draw(t, "names")
		fields := make(map[string]*field)
		for _, name := range names {
			fields[name] = &field{name: name}
		}
		table := newFieldTable(fields)
		for _, name := range append(names, rapid.SliceOf(rapid.StringMatching(`[a-c_]{0,20}`)).Draw(t, "others")...) {
			if table.get(name) != fields[name] {
				t.Fatalf("%q: %v", name, table.get(name))
			}
		}
	})
	fields := make(map[string]*field)
	for i := range 2000 {
		name := fmt.Sprintf("attribute_%d_of_the_product", i)
		fields[name] = &field{name: name}
	}
	table, probes := newFieldTable(fields), 0
	for name := range fields {
		slot := table.find(name)
		mask := uint64(len(table.slots) - 1)
		for at := hashOf(name); &table.slots[at&mask] != slot; at++ {
			probes++
		}
	}
	assert.Less(t, probes, 4000, "names that are alike do not crowd")
}

func BenchmarkFieldTable(b *testing.B) {
	fields := make(map[string]*field)
	names := []string{"id", "title", "price", "compareAt", "variants", "reviews", "related", "__typename"}
	for _, name := range names {
		fields[name] = &field{name: name}
	}
	table := newFieldTable(fields)
	b.Run("table", func(b *testing.B) {
		for b.Loop() {
			for _, name := range names {
				_ = table.get(name).weight
			}
		}
	})
	b.Run("map", func(b *testing.B) {
		for b.Loop() {
			for _, name := range names {
				_ = fields[name].weight
			}
		}
	})
}
