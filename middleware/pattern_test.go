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

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

// onRule is a rule of requests that patterns include.
func onRule(name string, on ...string) ratelimit.Rule {
	return ratelimit.Rule{Name: name, Key: fixed("all"), Limits: []policy.Limit{policy.PerDay(100)}, On: on}
}

func TestNewSaysWhatIsWrongWithPatterns(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		on   []string
		fold bool
		want string
	}{
		{on: []string{""}, want: `"": no path: write one, such as "/orders/"`},
		{on: []string{"GET "}, want: `"GET ": no path: write one, such as "/orders/"`},
		{on: []string{"orders"}, want: `"orders": no slash: write "/orders" for a path`},
		{on: []string{"GET orders"}, want: `"GET orders": no slash: write "/orders" for a path`},
		{on: []string{"BREW /"}, want: `"BREW /": unknown method "BREW": write some of GET,POST,PUT,PATCH,DELETE,OPTIONS,TRACE,CONNECT,QUERY, or none for all`},
		{on: []string{"get /"}, want: `"get /": method "get": write GET`},
		{on: []string{"POST, PUT /"}, want: `"POST, PUT /": methods "POST,": write them with commas alone between them`},
		{on: []string{"POST /a /b"}, want: `"POST /a /b": a space within: write methods with commas alone between them, and %20 for a space in a path`},
		{on: []string{"POST,PUT,POST /"}, want: `"POST,PUT,POST /": POST is there twice: write it once, and GET for HEAD too`},
		{on: []string{"GET,HEAD /"}, want: `"GET,HEAD /": HEAD is there twice: write it once, and GET for HEAD too`},
		{on: []string{"{host}/x"}, want: `"{host}/x": a wildcard in the host: write hosts as they are, and a slash before the path`},
		{on: []string{"Example.com/"}, want: `"Example.com/": host "Example.com": write "example.com"`},
		{on: []string{"example.com./"}, want: `"example.com./": host "example.com.": write "example.com"`},
		{on: []string{"example.com:80/"}, want: `"example.com:80/": host "example.com:80": write it without its port: "example.com"`},
		{on: []string{"[::1]/"}, want: `"[::1]/": host "[::1]": write a host's name or its bare address`},
		{on: []string{"//a"}, want: `"//a": segment "": no cleaned path has it: leave it out`},
		{on: []string{"/a/../b"}, want: `"/a/../b": segment "..": no cleaned path has it: leave it out`},
		{on: []string{"/a/."}, want: `"/a/.": segment ".": no cleaned path has it: leave it out`},
		{on: []string{"/a/%2e%2E"}, want: `"/a/%2e%2E": segment "%2e%2E": no cleaned path has it: leave it out`},
		{on: []string{"/a%"}, want: `"/a%": segment "a%": write %25 for a percent sign`},
		{on: []string{"/a/*"}, want: `"/a/*": segment "*" stands for itself alone: write {name}, {name...}, or %2A for the sign`},
		{on: []string{"/a{x}"}, want: `"/a{x}": segment "a{x}": a wildcard is a whole segment: write {name} or {name...}`},
		{on: []string{"/{x}a"}, want: `"/{x}a": segment "{x}a": a wildcard is a whole segment: write {name} or {name...}`},
		{on: []string{"/{x"}, want: `"/{x": segment "{x": a wildcard is a whole segment: write {name} or {name...}`},
		{on: []string{"/{}"}, want: `"/{}": wildcard "{}": write a name of letters and digits, such as {id} or {rest...}`},
		{on: []string{"/{id:[0-9]+}"}, want: `"/{id:[0-9]+}": wildcard "{id:[0-9]+}": write a name of letters and digits, such as {id} or {rest...}`},
		{on: []string{"/{1}"}, want: `"/{1}": wildcard "{1}": write a name of letters and digits, such as {id} or {rest...}`},
		{on: []string{"/{x}/{x...}"}, want: `"/{x}/{x...}": two wildcards named "x": give each a name of its own`},
		{on: []string{"/{$}/a"}, want: `"/{$}/a": {$} is for the end: nothing comes behind it`},
		{on: []string{"/{$}/"}, want: `"/{$}/": {$} is for the end: nothing comes behind it`},

		{on: []string{"/a", "/b", "/a"}, want: `"/a": "/a" has every method there already: write it once`},
		{on: []string{"/a/", "/a/{rest...}"}, want: `"/a/{rest...}": "/a/" has every method there already: write it once`},
		{on: []string{"/{x}/a", "/{y}/a"}, want: `"/{y}/a": "/{x}/a" has every method there already: write it once`},
		{on: []string{"/{x...}/{y}/a", "/{y}/{x...}/a"}, want: `"/{y}/{x...}/a": "/{x...}/{y}/a" has every method there already: write it once`},
		{on: []string{"/{x...}/{y...}/a", "/{x...}/a"}, want: `"/{x...}/a": "/{x...}/{y...}/a" has every method there already: write it once`},
		{on: []string{"/b", "/%62"}, want: `"/%62": "/b" has every method there already: write it once`},
		{on: []string{"POST,PUT /a", "DELETE,PUT /a"}, want: `"DELETE,PUT /a": "POST,PUT /a" has PUT there already: write it once`},
		{on: []string{"/a", "GET /a"}, want: `"GET /a": "/a" has GET there already: write it once`},
		{on: []string{"GET /a", "HEAD /a"}, want: `"HEAD /a": "GET /a" has HEAD there already: write it once`},
		{on: []string{"/Api/", "/api/"}, fold: true, want: `"/api/": "/Api/" has every method there already: write it once`},
	} {
		for field, rule := range map[string]ratelimit.Rule{"On": {On: test.on}, "Except": {Except: test.on}} {
			rule.Name, rule.Key, rule.Limits = "second", fixed("all"), []policy.Limit{policy.PerDay(1)}
			_, err := ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{onRule("first"), rule}, FoldCase: test.fold})
			assert.EqualError(t, err, `ratelimit: rule 2 ("second"): in `+field+", "+test.want)
			l := limiter(t, ratelimit.Config{Rules: []ratelimit.Rule{onRule("first")}, FoldCase: test.fold})
			_, err = l.With(rule)
			assert.EqualError(t, err, `ratelimit: rule 2 ("second"): in `+field+", "+test.want, "With")
		}
	}

	for _, on := range [][]string{
		{"/a", "/a/", "/a/{$}", "/{x}", "/{x...}/a", "example.com/a", "::1/a", "/%2A", "/a%2Fb", "/a%20b", "/ä/{größe}"},
		{"GET /a", "POST\t/a", "QUERY,PATCH  /a"},
		{"/Api", "/api"},
		{"/{a...}/b/{c...}/{$}"},
	} {
		_ = limiter(t, ratelimit.Config{Rules: []ratelimit.Rule{onRule("fine", on...)}})
	}
	_, err := ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{onRule("a")}, MethodOverride: "X Method"})
	assert.EqualError(t, err, `ratelimit: MethodOverride "X Method": write the name of a header field, such as X-HTTP-Method-Override`)
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pattern  string
		fold     bool
		includes string // requests, each "METHOD target"
		not      string
	}{
		{pattern: "/a", includes: "GET /a,BREW /a,GET /a/,GET //a,CONNECT /a", not: "GET /a/b,GET /ab,GET /,GET /A"},
		{pattern: "/a/", includes: "GET /a,GET /a/,GET /a/b/c,GET /x/../a", not: "GET /ab,GET /"},
		{pattern: "/a/{rest...}", includes: "GET /a,GET /a/,GET /a/b/c", not: "GET /ab"},
		{pattern: "/a/{$}", includes: "GET /a/,GET /a//", not: "GET /a,GET /a/b"},
		{pattern: "/a/{x}", includes: "GET /a/b,GET /a/b/", not: "GET /a,GET /a/,GET /a/b/c"},
		{pattern: "/{any...}/a/b", includes: "GET /a/b,GET /x/a/b,GET /x/y/z/a/b,GET /a/b/a/b,GET /a/a/b", not: "GET /a/b/c,GET /ab,GET /b"},
		{pattern: "/a/{any...}/b/{c...}/d/", includes: "GET /a/b/d,GET /a/x/b/x/d/x,GET /a/b/b/d/d", not: "GET /a/d/b,GET /b/d"},
		{pattern: "GET /a", includes: "GET /a,HEAD /a", not: "POST /a,BREW /a,get /a"},
		{pattern: "HEAD /a", includes: "HEAD /a", not: "GET /a"},
		{pattern: "POST,PUT /a", includes: "POST /a,PUT /a", not: "GET /a,DELETE /a,HEAD /a,BREW /a"},
		{pattern: "/", includes: "GET /,GET /x,BREW /x/y,OPTIONS *"},
		{pattern: "example.com/a", includes: "GET http://example.com/a,GET http://EXAMPLE.com:80/a,GET http://example.com./a", not: "GET http://example.org/a,GET http://www.example.com/a"},
		{pattern: "/api/tasks/", fold: true, includes: "GET /API/Tasks,GET /api/tas%E2%84%AAs/1,GET /api/ta%C5%BFks", not: "GET /api/task"},
		{pattern: "/API/Größe", fold: true, includes: "GET /api/grö%C3%9Fe,GET /api/GR%C3%96%C3%9FE", not: "GET /api/grosse"},
	} {
		l := limiter(t, ratelimit.Config{Rules: []ratelimit.Rule{onRule("rule", test.pattern)}, FoldCase: test.fold})
		for want, list := range map[int]string{1: test.includes, 0: test.not} {
			for one := range strings.SplitSeq(list, ",") {
				if one == "" {
					continue
				}
				assert.Len(t, l.Met(requestOf(t, one)), want, "%s: %s", test.pattern, one)
			}
		}
	}
}

// requestOf returns a request as a server has it, for "METHOD target".
func requestOf(t *testing.T, line string) *http.Request {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	method, target, _ := strings.Cut(line, " ")
	u, err := url.ParseRequestURI(target)
	require.NoError(t, err)
	r.Method, r.URL = method, u
	if u.Host != "" {
		r.Host = u.Host
	}
	return r
}

// What only some readings exclude is not excluded.
func TestExceptByEveryReading(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		except   []string
		c        ratelimit.Config
		excludes string
		not      string
	}{
		{except: []string{"/public/"}, excludes: "GET /public,GET /public/,GET /public/x,POST /public//x,GET /public/./x",
			not: "GET /public/../x,GET /Public/,GET /%70ublic/x,GET /public%2Fx,GET /public/x/../../y,GET /a/../public,GET //public,OPTIONS *,GET /"},
		{except: []string{"/public"}, excludes: "GET /public", not: "GET /public/,GET /public/x"},
		{except: []string{"/public", "/public/{$}"}, excludes: "GET /public,GET /public/", not: "GET /public/x"},
		{except: []string{"GET /public/"}, excludes: "GET /public/x,HEAD /public/x", not: "POST /public/x,BREW /public/x"},
		{except: []string{"example.com/public/"}, excludes: "GET http://example.com:80/public/x",
			not: "GET http://EXAMPLE.com/public/x,GET http://example.com./public/x,GET http://example.org/public/x,CONNECT http://example.com:443/public/x"},
		{except: []string{"/"}, excludes: "GET /,GET /x//y", not: "OPTIONS *"},
		{except: []string{"/public/tasks/"}, c: ratelimit.Config{FoldCase: true}, excludes: "GET /PUBLIC/Tasks,GET /public/tasks/%E2%84%AA",
			not: "GET /public/tas%E2%84%AAs,GET /public/ta%C5%BFks"},
		{except: []string{"/größe"}, c: ratelimit.Config{FoldCase: true}, excludes: "GET /GR%C3%96%C3%9FE"},
	} {
		rule := onRule("rule")
		rule.Except = test.except
		test.c.Rules = []ratelimit.Rule{rule}
		l := limiter(t, test.c)
		for want, list := range map[int]string{0: test.excludes, 1: test.not} {
			for one := range strings.SplitSeq(list, ",") {
				if one != "" {
					assert.Len(t, l.Met(requestOf(t, one)), want, "%s: %s", test.except, one)
				}
			}
		}
	}
}

func TestMethodOverride(t *testing.T) {
	t.Parallel()
	writes := onRule("writes", "POST,DELETE /")
	reads := onRule("reads", "GET /")
	notReads := onRule("not_reads")
	notReads.Except = []string{"GET /a", "POST /a"}
	rules := []ratelimit.Rule{writes, reads, notReads}
	ignored := limiter(t, ratelimit.Config{Rules: rules})
	known := limiter(t, ratelimit.Config{Rules: rules, MethodOverride: "x-http-method-override"})
	for _, test := range []struct {
		method    string
		overrides []string
		ignored   []string
		known     []string
	}{
		{"GET", nil, []string{"reads"}, []string{"reads"}},
		{"GET", []string{""}, []string{"reads"}, []string{"reads"}},
		{"GET", []string{"GET"}, []string{"reads"}, []string{"reads"}},
		{"GET", []string{"POST"}, []string{"reads"}, []string{"writes", "reads"}},
		{"GET", []string{"DELETE"}, []string{"reads"}, []string{"writes", "reads", "not_reads"}},
		{"GET", []string{" delete "}, []string{"reads"}, []string{"writes", "reads", "not_reads"}},
		{"GET", []string{"GET", "DELETE"}, []string{"reads"}, []string{"writes", "reads", "not_reads"}},
		{"GET", []string{"post"}, []string{"reads"}, []string{"writes", "reads", "not_reads"}}, // "post" is no POST to all
		{"POST", []string{"GET"}, []string{"writes"}, []string{"writes", "reads"}},
		{"BREW", []string{"GET"}, []string{"not_reads"}, []string{"reads", "not_reads"}},
	} {
		r := requestOf(t, test.method+" /a")
		r.Header["X-Http-Method-Override"] = test.overrides
		assert.Equal(t, test.ignored, ignored.Met(r), "%s %q", test.method, test.overrides)
		assert.Equal(t, test.known, known.Met(r), "%s %q", test.method, test.overrides)
	}
}

// A Limiter has as many rules as it needs, as long as requests meet few of them.
func TestManyRules(t *testing.T) {
	t.Parallel()
	l := limiter(t, ratelimit.Config{Rules: endpointTable(1000)})
	assert.Equal(t, []string{"r9", "r17", "r19", "r28", "r29"}, l.Met(requestOf(t, "POST /api/area1/x/push28")))
	assert.Equal(t, []string{"r19", "r29"}, l.Met(requestOf(t, "GET /api/area9/public/x")))
	assert.Empty(t, l.Met(requestOf(t, "GET /health")))

	var rules []ratelimit.Rule
	for i := range policy.MaxCharges {
		rules = append(rules, onRule(fmt.Sprintf("r%d", i), "POST example.com/{x}/a"))
	}
	l = limiter(t, ratelimit.Config{Rules: rules})
	_, err := l.With(onRule("more", "/{any...}/a"))
	require.EqualError(t, err, "ratelimit: 65 limits in one request, such as POST example.com/-/a: write at most 64")
	l, err = l.With(onRule("more", "GET /{any...}/a"))
	require.NoError(t, err)
	assert.Len(t, l.Met(requestOf(t, "POST http://example.com/b/a")), policy.MaxCharges)
	assert.Len(t, l.Met(requestOf(t, "GET http://example.com/b/a")), 1)

	// What New does not foresee is refused when it comes.
	l, err = l.With(onRule("b", "/b/"))
	require.NoError(t, err)
	w := httptest.NewRecorder()
	l.Handler(http.HandlerFunc(ok)).ServeHTTP(w, requestOf(t, "POST http://example.com/b/a"))
	assert.Equal(t, http.StatusInternalServerError, w.Code)
}

// With's rules are matched with those that were there, and these as before.
func TestOnEverywhere(t *testing.T) {
	t.Parallel()
	orders, all := onRule("orders", "POST /orders/"), onRule("all")
	all.Except = []string{"/health"}
	base := limiter(t, ratelimit.Config{Rules: []ratelimit.Rule{orders, all}})
	wider, err := base.With(onRule("items", "/items/{id}"))
	require.NoError(t, err)

	assert.Equal(t, []string{"all"}, base.Met(requestOf(t, "GET /items/1")))
	assert.Equal(t, []string{"all", "items"}, wider.Met(requestOf(t, "GET /items/1")))
	assert.Equal(t, []string{"orders", "all"}, wider.Met(requestOf(t, "POST /orders/1")))

	standings := func(line string) (names []string) {
		report, err := wider.Peek(requestOf(t, line))
		require.NoError(t, err)
		for _, st := range report.Standings {
			names = append(names, fmt.Sprint(st.Rule, " ", st.Result.Used))
		}
		return names
	}
	_, err = wider.Check(requestOf(t, "POST /orders/1"))
	require.NoError(t, err)
	_, err = wider.Check(requestOf(t, "GET /health"))
	require.NoError(t, err)
	assert.Equal(t, []string{"orders 1", "all 1"}, standings("POST /orders"))
	assert.Equal(t, []string{"all 1", "items 0"}, standings("GET /items/1"))
	assert.Empty(t, standings("GET /health"))

	w := httptest.NewRecorder()
	wider.Limits().ServeHTTP(w, requestOf(t, "POST /orders/limits"))
	assert.JSONEq(t, `{"api":{"orders":{"limit":100,"remaining":99},"all":{"limit":100,"remaining":99}}}`, w.Body.String())
}

// The rules of a Limiter are its own.
func TestPatternsAreCopied(t *testing.T) {
	t.Parallel()
	on := []string{"/a"}
	l := limiter(t, ratelimit.Config{Rules: []ratelimit.Rule{onRule("a", on...)}})
	on[0] = "/b"
	wider, err := l.With(onRule("c", "/c"))
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, wider.Met(requestOf(t, "GET /a")))
	assert.Empty(t, wider.Met(requestOf(t, "GET /b")))
}

func TestMatchAllocatesNothing(t *testing.T) {
	for _, fold := range []bool{false, true} {
		l := limiter(t, ratelimit.Config{Rules: endpointTable(1000), FoldCase: fold, MethodOverride: "X-Method"})
		match := l.Matching()
		for _, line := range []string{"POST /api/area1/orders13/items", "GET /a/b/../%2e/%2F/gr%C3%B6%C3%9Fe//", "BREW /other"} {
			r := requestOf(t, line)
			r.Header.Set("X-Method", "DELETE")
			match(r)
			assert.Zero(t, testing.AllocsPerRun(100, func() { match(r) }), line)
		}
	}
}

// A path as long as servers take it costs time in proportion to its length.
func TestMatchOfALongPath(t *testing.T) {
	t.Parallel()
	l := limiter(t, ratelimit.Config{Rules: []ratelimit.Rule{
		onRule("a", "/{a...}/x/{b...}/x/{c...}/x/{d...}/y"), onRule("b", "/{a...}/{b}/y/"), onRule("c", "/y/y/y/y"),
	}})
	work := func(n int) (segments, nodes int) {
		return l.Work(requestOf(t, "GET "+strings.Repeat("/x", n)+strings.Repeat("/..", n/2)+strings.Repeat("/y/..", n)))
	}
	short, few := work(1000)
	long, many := work(10_000)
	assert.Less(t, long, 11*short)
	assert.Equal(t, few, many, "nodes at once")
	assert.Less(t, many, 32)
}
