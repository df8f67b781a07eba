package graphqlcost_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/middleware/graphqlcost"
)

// hostile are bodies that would cost a careless server minutes or its life.
func hostile() map[string]string {
	body := func(query, variables string) string {
		quoted, _ := json.Marshal(query)
		return `{"query":` + string(quoted) + `,"variables":` + variables + `}`
	}
	doubling, aliased, abstract, pairs := "{ me { ...F0 } }", "{ me { ...F0 } }", "{ feed(first: 1) { ...A0 } }", ""
	for i := range 60 {
		doubling += fmt.Sprintf(" fragment F%d on User { ...F%d ...F%d best { ...F%d } }", i, i+1, i+1, i+1)
		aliased += fmt.Sprintf(" fragment F%d on User { a: best { ...F%d } b: best { ...F%d } }", i, i+1, i+1)
	}
	doubling, aliased = doubling+" fragment F60 on User { name }", aliased+" fragment F60 on User { name }"
	for i := range 12 {
		abstract += fmt.Sprintf(" fragment A%d on Node { ... on Post { author { posts { comments { ...A%d } } } } ... on Comment { author { posts { comments { ...A%d } } } } }", i, i+1, i+1)
	}
	abstract += " fragment A12 on Node { id }"
	variables, conditions, conditional := "", "", ""
	for i := range 2000 {
		variables += fmt.Sprintf("$v%d: Boolean = true ", i)
		conditions += fmt.Sprintf("me @include(if: $v%d) { name } ", i)
		conditional += fmt.Sprintf("... @include(if: $v%d) { ", i%60)
		pairs += fmt.Sprintf("... on Node { id ... on User { f%d: name } } ", i)
	}
	inputs := strings.Repeat(`{"and":`, 100) + `[` + strings.Repeat(`{"text":"x"},`, 70_000) + `{}]` + strings.Repeat(`}`, 100)
	searches := ""
	for i := range 20 {
		searches += fmt.Sprintf(`s%d: search(query: "a", filter: $f) { total } `, i)
	}
	ids := `{"ids":[` + strings.Repeat("1,", 500_000) + `1]}`
	all := map[string]string{
		"1 MB of braces":                body(strings.Repeat("{", 1<<20), "null"),
		"just under 1 MiB of braces":    `{"query":"` + strings.Repeat("{", 1<<20-20) + `"}`,
		"100 KB of braces":              body(strings.Repeat("{a", 50<<10), "null"),
		"100 KB of brackets":            body("{ a(b: "+strings.Repeat("[", 100_000), "null"),
		"1 MB of JSON brackets":         strings.Repeat("[", 1<<20),
		"1 MB of JSON objects":          strings.Repeat(`{"a":`, 200_000),
		"1 MB of brackets in variables": body("{ me { name } }", strings.Repeat("[", 500_000)+strings.Repeat("]", 500_000)),
		"doubling fragments":            body(doubling, "null"),
		"doubling fragments, aliased":   body(aliased, "null"),
		"doubling over types":           body(abstract, "null"),
		"fragments in a circle":         body("{ me { ...A } } fragment A on User { ...B } fragment B on User { ...A }", "null"),
		"10,000 aliases":                body("{ me { "+aliasesOf("name", 10_000)+" } }", "null"),
		"2,000 aliases":                 body("{ me { "+aliasesOf("name", 2_000)+" } }", "null"),
		"20 KB of overlapping fields":   body("{ me { "+strings.Repeat("a: name ", 2_560)+" } }", "null"),
		"overlapping objects":           body("{ "+strings.Repeat("me{best{name}} ", 1_100)+" }", "null"),
		"overlapping arguments":         body("{ "+strings.Repeat(`user(id: [[1, 2], {a: "b"}]) { name } `, 500)+" }", "null"),
		"an integer beyond int64":       body("{ users(first: 92233720368547758070000) { name } }", "null"),
		"a long integer":                body("{ users(first: "+strings.Repeat("9", 90_000)+") { name } }", "null"),
		"a negative size":               body("{ users(first: -2147483649) { name } }", "null"),
		"a product beyond int64":        body("{ "+strings.Repeat("users(first: 1000) { friends(first: 1000) { nodes { posts(first: 1000) { author { ", 3)+"name"+strings.Repeat(" } } } } }", 3)+" }", "null"),
		"sizes that multiply":           body("{ users(first: 1000) { "+strings.Repeat("friends(first: 1000) { nodes { ", 6)+"email"+strings.Repeat(" } }", 6)+" } }", "null"),
		"2,000 variables":               body("query("+variables+") { "+conditions+" }", "null"),
		"2,000 conditions":              body("query("+variables[:60*22]+") { me { "+conditional[:60*24]+" name "+strings.Repeat("}", 60)+" } }", "null"),
		"2,000 fragments of types":      body("{ node(id: 1) { "+pairs+" } }", "null"),
		"a large input, many times":     body("query($f: Filter) { "+searches+" }", `{"f":`+inputs+`}`),
		"half a million ids":            body("query($ids: [ID!]!) { "+strings.Repeat("", 1)+"nodes(ids: $ids) { id } }", ids),
		"100 KB of comments":            body(strings.Repeat("#\n", 50_000)+"{ me { name } }", "null"),
		"one long comment":              body("#"+strings.Repeat("{", 100_000), "null"),
		"one long string":               body(`{ user(id: "`+strings.Repeat("{", 100_000)+`") { name } }`, "null"),
		"an open block string":          body(`{ user(id: """`+strings.Repeat(`\"""`, 20_000), "null"),
		"100 KB of names":               body("{ me { "+strings.Repeat("a", 100_000)+" } }", "null"),
		"100 KB of nonsense":            body(strings.Repeat("\u0000\ufffd", 20_000), "null"),
		"a batch of all of it":          `[` + strings.Repeat(body("{ me { "+aliasesOf("name", 700)+" } }", "null")+",", 9) + body(doubling, "null") + `]`,
		"a batch of nothing":            `[` + strings.Repeat(`{},`, 300_000) + `{}]`,
		"1 MB of escapes":               `{"query":"` + strings.Repeat(`\u007b`, 170_000) + `"}`,
	}
	return all
}

// Each is answered in under 50 ms and 64 MB, with and without a schema.
func TestHostile(t *testing.T) {
	for name, body := range hostile() {
		for mode, o := range map[string]graphqlcost.Options{
			"with a schema": {Schema: social, CacheBytes: -1}, "without": {CacheBytes: -1},
		} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				c := calculator(t, o)
				best, memory := time.Hour, uint64(0)
				var err error
				for range 5 { // on a busy machine one of them has the time it takes
					r := httptest.NewRequest("POST", "/graphql", strings.NewReader(body))
					var before, after runtime.MemStats
					runtime.ReadMemStats(&before)
					start := time.Now()
					_, err = c.Cost(r)
					best = min(best, time.Since(start))
					runtime.ReadMemStats(&after)
					memory = after.TotalAlloc - before.TotalAlloc
					if best < 50*time.Millisecond {
						break
					}
				}
				if err != nil {
					_, ok := errors.AsType[*ratelimit.CostError](err)
					assert.True(t, ok, "%v", err)
				}
				assert.Less(t, best, 50*time.Millisecond*slack)
				assert.Less(t, memory, uint64(64<<20))
				t.Logf("%v, %d KB, %.150v", best, memory>>10, err)
			})
		}
	}
}
