package middleware_test

import (
	"fmt"
	"net/http/httptest"
	"testing"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

// BenchmarkMatch finds the rules of a request in tables of endpoints: one row of
// many for each path, a few for all, some of them with exceptions.
func BenchmarkMatch(b *testing.B) {
	for _, fold := range []bool{false, true} {
		for _, rows := range []int{1, 30, 1000} {
			l := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: endpointTable(rows), FoldCase: fold}))
			for name, target := range map[string]string{"row": "/api/area0/orders0", "beneath": "/api/area0/orders0/items/42", "none": "/other", "unclean": "/api//area0/orders0/"} {
				r := httptest.NewRequest("POST", target, nil)
				b.Run(fmt.Sprintf("rules=%d/fold=%t/%s", rows, fold, name), func(b *testing.B) {
					b.ReportAllocs()
					match := l.Matching()
					for b.Loop() {
						match(r)
					}
				})
			}
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// endpointTable returns n rules. Of each ten, seven are endpoints of their own, one
// is of some methods of them, one is found at the end of any path, and one is of all
// requests but for some: of these there are three at most.
func endpointTable(n int) []ratelimit.Rule {
	rules := make([]ratelimit.Rule, n)
	for i := range rules {
		r := ratelimit.Rule{Name: fmt.Sprintf("r%d", i), Key: fixed("all"), Limits: []policy.Limit{policy.PerMinute(60)}}
		switch kind := i % 10; {
		case kind == 7:
			r.On = []string{fmt.Sprintf("POST,PUT,DELETE /api/area%d/", i/10)}
		case kind == 8:
			r.On = []string{fmt.Sprintf("/{any...}/push%d", i)}
		case kind == 9 && i < 30:
			r.Except = []string{fmt.Sprintf("/api/area%d/public/", i), "/health"}
		default:
			r.On = []string{fmt.Sprintf("/api/area%d/orders%d/", i/10, i)}
		}
		rules[i] = r
	}
	return rules
}
