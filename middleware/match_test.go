package middleware_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

// The compiled patterns of many rules match what each of them does by itself.
func TestMatchEqualsNaive(t *testing.T) {
	t.Parallel()
	steps := rapid.SampledFrom([]string{"a", "a", "b", "b", "a/b", "a%b", "{}", "{...}"})
	methods := rapid.SampledFrom([][]string{nil, nil, {"GET"}, {"POST"}, {"POST", "PUT"}, {"HEAD"}, {"CONNECT"}})
	hosts := rapid.SampledFrom([]string{"", "", "", "example.com"})
	patterns := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) naivePattern {
		p := naivePattern{
			methods: methods.Draw(t, "methods"),
			host:    hosts.Draw(t, "host"),
			steps:   rapid.SliceOfN(steps, 0, 5).Draw(t, "steps"),
			end:     rapid.SampledFrom([]string{"", "/", "/{$}"}).Draw(t, "end"),
		}
		if len(p.steps) == 0 && p.end == "" {
			p.end = "/"
		}
		return p
	}), 0, 3)
	segments := rapid.SampledFrom([]string{"a", "a", "a", "b", "b", "c", "", ".", "..", "%61", "%2e", "%2E%2e", "a%2Fb", "a%2F..%2Fb", "a%25b"})
	met := 0
	rapid.Check(t, func(t *rapid.T) {
		type table struct{ on, except []naivePattern }
		var tables []table
		var rules []ratelimit.Rule
		for range rapid.SampledFrom([]int{1, 2, 3, 70}).Draw(t, "rules") {
			one := table{patterns.Draw(t, "on"), patterns.Draw(t, "except")}
			rule := ratelimit.Rule{
				Name: fmt.Sprintf("r%d", len(tables)), Key: apiKey,
				On: written(one.on), Except: written(one.except),
				LimitsFor: func(*http.Request) ([]policy.Limit, error) { return nil, nil },
			}
			l, err := ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{rule}})
			if err != nil {
				continue // a pattern that is there twice
			}
			require.NoError(t, l.Close())
			rules, tables = append(rules, rule), append(tables, one)
		}
		l, err := ratelimit.New(ratelimit.Config{Rules: rules, MethodOverride: "X-Method"})
		if err != nil {
			return // none, or too many for one request
		}
		defer l.Close()
		for range 5 {
			r := httptest.NewRequest("GET", "/", nil)
			path := "/" + strings.Join(rapid.SliceOfN(segments, 0, 7).Draw(t, "path"), "/")
			r.URL, err = url.ParseRequestURI(path)
			require.NoError(t, err)
			r.Host = rapid.SampledFrom([]string{"example.com", "example.org"}).Draw(t, "host")
			r.Method = rapid.SampledFrom([]string{"GET", "HEAD", "POST", "CONNECT", "BREW"}).Draw(t, "method")
			methods := []string{r.Method}
			if rapid.Bool().Draw(t, "override") {
				r.Header.Set("X-Method", "POST")
				methods = append(methods, "POST")
			}
			want := []string{}
			for i, one := range tables {
				if meets(r, methods, one.on, one.except) {
					want = append(want, rules[i].Name)
				}
			}
			got := l.Met(r)
			if !assert.ObjectsAreEqual(want, got) {
				for _, rule := range rules {
					t.Logf("%s: On %q Except %q", rule.Name, rule.On, rule.Except)
				}
			}
			require.Equal(t, want, got, "%s %s%s", r.Method, r.Host, path)
			met += len(got)
		}
	})
	assert.Positive(t, met)
}

func written(patterns []naivePattern) []string {
	var texts []string
	for _, p := range patterns {
		texts = append(texts, p.String())
	}
	return texts
}
