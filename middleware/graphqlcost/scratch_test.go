package graphqlcost

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Scratch that is not in use holds nothing of what was compiled, whether that came
// to an end or not.
func TestScratchIsLeftEmpty(t *testing.T) {
	t.Parallel()
	const sdl = `
		type Query { node: Node nodes(first: Int): [Node] edges(first: Int): Edges }
		interface Node { id: ID next: Node }
		type A implements Node { id: ID next: Node a(first: Int): [A] }
		type B implements Node { id: ID next: Node b: Int }
		type Edges { nodes: [Node] }`
	many := "query($n: Int, $b: Boolean = true) {"
	for i := range 12 {
		many += fmt.Sprintf(" x%d: nodes(first: $n) { ...F ... on T%d @include(if: $b) { id } }", i, i)
	}
	many += "} fragment F on Node { id next { id } next { next { id } } }"
	queries := []string{
		many, strings.ReplaceAll(many, "on T", "on A #"),
		"query($n: Int) { edges(first: $n) { nodes { id ... on A { a(first: $n) { id } } } } edges(first: $n) { nodes { next { id } } } }",
		"{ nodes(first: 3) { id next { ... on A { id } ... on B { b } } } node { id nothing } }",
		"{ node { next { next { id(a: 1) } } } }",
		"{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }",
	}
	for _, options := range []Options{{Schema: sdl}, {}, {Costs: map[string]int64{"id": 3}, Sizes: map[string]int64{"node": 2}}} {
		c, err := New(options)
		require.NoError(t, err)
		s, failed := newScratch(), 0
		for _, query := range queries {
			w := c.compiler(s)
			if _, err := w.compile(query, ""); err != nil {
				failed++
			}
			s.empty()
			all := reflect.ValueOf(s).Elem()
			for i := range all.NumField() {
				field := all.Field(i)
				if field.Kind() != reflect.Slice {
					assert.True(t, field.IsZero(), "%s, after %s", all.Type().Field(i).Name, query)
					continue
				}
				assert.Zero(t, field.Len())
				for stack, j := field.Slice(0, field.Cap()), 0; j < stack.Len(); j++ {
					assert.True(t, stack.Index(j).IsZero(), "%s[%d], after %s", all.Type().Field(i).Name, j, query)
				}
			}
		}
		assert.Positive(t, failed)
		assert.Less(t, failed, len(queries))
	}
}

// A long stack is not kept for all time.
func TestScratchStaysSmall(t *testing.T) {
	t.Parallel()
	s := newScratch()
	s.entries = append(s.entries, make([]entry, 2000)...)
	s.empty()
	assert.Zero(t, cap(s.entries))
	assert.NotZero(t, cap(s.kept))
}

// What is found by a hash is compared.
func TestHashesAreNoProof(t *testing.T) {
	t.Parallel()
	c := newCache(1 << 20)
	c.put("{ a }", "", new(plan), nil)
	e := c.get("{ a }", "")
	require.NotNil(t, e)
	a, b := digestOf("{ a }"), digestOf("{ b }")
	assert.Same(t, e, c.getByDigest(&a, ""))
	c.texts[c.hashOfText("{ b }", "")], c.texts[c.hashOfText("{ a }", "A")] = e, e
	c.digests[c.hashOfDigest(&b, "")], c.digests[c.hashOfDigest(&a, "A")] = e, e
	assert.Nil(t, c.get("{ b }", ""))
	assert.Nil(t, c.get("{ a }", "A"))
	assert.Nil(t, c.getByDigest(&b, ""))
	assert.Nil(t, c.getByDigest(&a, "A"))
}
