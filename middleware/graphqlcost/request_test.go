package graphqlcost_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/middleware/graphqlcost"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func apq(hash string) string {
	return `"extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + hash + `"}}`
}

const (
	two  = `{ me { email } }`          // costs 2
	five = `{ staff { name } }`        // costs 5
	nine = `{ users(first:9) { id } }` // costs 9
)

func TestRequests(t *testing.T) {
	t.Parallel()
	c := calculator(t, graphqlcost.Options{
		Schema: social, MinCost: 1,
		Persisted: func(_ context.Context, id string) (string, error) {
			switch id {
			case "nine", hash(nine):
				return nine, nil
			case "broken":
				return "", errors.New("no connection")
			}
			return "", nil
		},
	})
	q := url.QueryEscape
	const wrong = respond.InvalidQuery
	type want = any // the cost, or the reason
	for _, test := range []struct {
		name, method, url, contentType, body string
		want                                 want
	}{
		{"a post", "POST", "/", "application/json", `{"query":"` + two + `"}`, 2},
		{"with all parts", "POST", "/", "", `{"query":"query A { me { name } } query B($n: Int!) { users(first: $n) { id } }","operationName":"B","variables":{"n":7},"extensions":{"tracing":{}}}`, 7},
		{"with nulls", "POST", "/", "", ` {"query":"` + two + `","operationName":null,"variables":null,"extensions":null} `, 2},
		{"with escapes", "POST", "/", "", `{"query":"{\n\tme \u007b email } }"}`, 2},
		{"with other fields", "POST", "/", "", `{"id":17,"jsonrpc":"2.0","query":"` + two + `"}`, 2},
		{"another type of content", "POST", "/", "text/plain", `{"query":"` + two + `"}`, 2},
		{"application/graphql", "POST", "/", "application/graphql; charset=utf-8", two, 2},
		{"application/graphql, with variables", "POST", "/?variables=" + q(`{"n":3}`), "application/graphql", `query($n: Int!) { users(first: $n) { id } }`, 3},
		{"application/graphql, and the URL", "POST", "/?query=" + q(two), "application/graphql", two, wrong},
		{"application/graphql, but JSON", "POST", "/", "application/graphql", `{"query":"` + two + `"}`, wrong},
		{"a URL", "GET", "/?query=" + q(two), "", "", 2},
		{"a URL, with all parts", "GET", "/?x=1&operationName=B&variables=" + q(` {"n": 3} `) + "&query=" + q(`query A { me { id } } query B($n: Int!) { users(first: $n) { id } }`), "", "", 3},
		{"a HEAD", "HEAD", "/?query=" + q(five), "", "", 5},
		{"a page", "GET", "/?x=1", "", "", 1},
		{"a URL with two queries", "GET", "/?query=" + q(two) + "&query=" + q(five), "", "", wrong},
		{"a URL with half a query", "GET", "/?operationName=A", "", "", wrong},
		{"a URL that is none", "GET", "/?query=%zz", "", "", wrong},
		{"a URL with variables that are none", "GET", "/?query=" + q(two) + "&variables={", "", "", wrong},
		{"a URL with a list of variables", "GET", "/?query=" + q(two) + "&variables=[]", "", "", wrong},
		{"a batch", "POST", "/", "", `[{"query":"` + two + `"},{"query":"` + five + `"}]`, 7},
		{"a batch of minimums", "POST", "/", "", `[` + strings.Repeat(`{"query":"{__typename}"},`, 9) + `{"query":"{__typename}"}]`, 10},
		{"too large a batch", "POST", "/", "", `[` + strings.Repeat(`{"query":"{__typename}"},`, 10) + `{"query":"{__typename}"}]`, respond.BatchTooLarge},
		{"an empty batch", "POST", "/", "", `[]`, wrong},
		{"a batch in a batch", "POST", "/", "", `[[{"query":"` + two + `"}]]`, wrong},
		{"a batch with one that is wrong", "POST", "/", "", `[{"query":"` + two + `"},{"query":"{"}]`, wrong},
		{"nothing", "POST", "/", "", ``, wrong},
		{"no query", "POST", "/", "", `{}`, wrong},
		{"a number", "POST", "/", "", `1`, wrong},
		{"a query that is a number", "POST", "/", "", `{"query":1}`, wrong},
		{"variables that are a text", "POST", "/", "", `{"query":"` + two + `","variables":"{}"}`, wrong},
		{"half of JSON", "POST", "/", "", `{"query":"` + two + `"`, wrong},
		{"two queries", "POST", "/", "", `{"query":"` + two + `","query":"` + five + `"}`, wrong},
		{"two queries, one escaped", "POST", "/", "", `{"query":"` + two + `","\u0071uery":"` + five + `"}`, wrong},
		{"a query in capitals", "POST", "/", "", `{"query":"` + two + `","QUERY":"` + five + `"}`, wrong},
		{"variables with another s", "POST", "/", "", `{"query":"` + two + `","variableſ":{}}`, wrong},
		{"a query in the URL too", "POST", "/?query=" + q(five), "", `{"query":"` + two + `"}`, wrong},
		{"the operation's name in the URL", "POST", "/?operationName=A", "", `{"query":"query A ` + two + `","operationName":"A"}`, 2},
		{"another name in the URL", "POST", "/?operationName=B", "", `{"query":"query A ` + two + ` query B ` + five + `","operationName":"A"}`, wrong},
		{"a form", "POST", "/", "application/x-www-form-urlencoded", "query=" + q(two), wrong},
		{"too large", "POST", "/", "", strings.Repeat(" ", 1<<20) + `{}`, respond.BodyTooLarge},

		{"persisted", "POST", "/", "", `{` + apq(hash(nine)) + `}`, 9},
		{"persisted, in a URL", "GET", "/?extensions=" + q(`{`+apq(hash(nine))[len(`"extensions":{`):]), "", "", 9},
		{"persisted, by document", "POST", "/", "", `{"documentId":"nine"}`, 9},
		{"persisted, by id", "POST", "/", "", `{"id":"nine"}`, 9},
		{"not persisted", "POST", "/", "", `{` + apq(hash("x")) + `}`, respond.UnknownQuery},
		{"persisted elsewhere", "POST", "/", "", `{"id":"broken"}`, respond.StoreUnavailable},
		{"two ids", "POST", "/", "", `{"id":"nine","documentId":"eight"}`, wrong},
		{"a query and a document", "POST", "/", "", `{"query":"` + two + `","documentId":"nine"}`, wrong},
		{"a query and its own hash", "POST", "/", "", `{"query":"` + two + `",` + apq(strings.ToUpper(hash(two))) + `}`, 2},
		{"a query and another's hash", "POST", "/", "", `{"query":"` + two + `",` + apq(hash(nine)) + `}`, wrong},
		{"a hash that is none", "POST", "/", "", `{"query":"` + two + `","extensions":{"persistedQuery":{"sha256Hash":1}}}`, wrong},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(test.method, test.url, strings.NewReader(test.body))
			r.Header.Set("Content-Type", test.contentType)
			cost, err := c.Cost(r)
			if reason, refused := test.want.(respond.Reason); refused {
				assert.Equal(t, reason, reasonOf(err), "%d, %v", cost, err)
				assert.EqualValues(t, 1, cost)
			} else {
				require.NoError(t, err)
				assert.EqualValues(t, test.want, cost)
			}
			rest, err := io.ReadAll(r.Body)
			assert.NoError(t, err)
			assert.Equal(t, test.body, string(rest), "the body is left readable")
		})
	}
}

// One operation's variables are not another's, of the same document or not.
func TestVariablesAreOnesOwn(t *testing.T) {
	t.Parallel()
	c := calculator(t, graphqlcost.Options{Schema: social})
	item := func(variables string) string {
		return `{"query":"query($n: Int, $b: Boolean = true) { posts(limit: $n) @include(if: $b) { id } }","variables":` + variables + `}`
	}
	for body, want := range map[string]int64{
		`[` + item(`{"n":3}`) + `,` + item(`{}`) + `]`:                                     46, // 3×2 + 20×2
		`[` + item(`{"b":false}`) + `,` + item(`{"n":1}`) + `]`:                            3,  // the minimum + 1×2
		`[` + item(`{"n":3,"b":false}`) + `,` + item(`null`) + `,` + item(`{"n":1}`) + `]`: 43,
	} {
		for range 2 { // the second comes from the cache
			n, err := c.Cost(httptest.NewRequest("POST", "/", strings.NewReader(body)))
			assert.NoError(t, err)
			assert.Equal(t, want, n, body)
		}
	}
}

// What is cached of a request is its document, and not the body that it came in.
func TestCacheKeepsNoBodies(t *testing.T) {
	c := calculator(t, graphqlcost.Options{Schema: social})
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for i := range 40 {
		body := fmt.Sprintf(`{"query":"query Q%d { me { id } }","operationName":"Q%d","extensions":{"a":"%s"}}`, i, i, strings.Repeat("x", 500_000))
		_, err := c.Cost(httptest.NewRequest("POST", "/", strings.NewReader(body)))
		require.NoError(t, err)
	}
	assert.Less(t, heap()-before, int64(5_000_000), "of 20 MB")
	runtime.KeepAlive(c)
}

// A query that came with its text is known by its hash, while it is in the cache.
func TestPersistedOnTheWay(t *testing.T) {
	t.Parallel()
	c := calculator(t, graphqlcost.Options{Schema: social})
	cost := func(body string) (int64, respond.Reason) {
		n, err := c.Cost(httptest.NewRequest("POST", "/", strings.NewReader(body)))
		return n, reasonOf(err)
	}
	_, reason := cost(`{` + apq(hash(five)) + `}`)
	assert.Equal(t, respond.UnknownQuery, reason)
	n, _ := cost(`{"query":"` + five + `",` + apq(hash(five)) + `}`)
	assert.EqualValues(t, 5, n)
	n, reason = cost(`{` + apq(hash(five)) + `}`)
	assert.EqualValues(t, 5, n)
	assert.Empty(t, reason)
}

// However many rules ask, the body is read and parsed once.
func TestOneBodyForAllRules(t *testing.T) {
	t.Parallel()
	looked := atomic.Int64{}
	c := calculator(t, graphqlcost.Options{Schema: social, MinCost: 3, Persisted: func(context.Context, string) (string, error) {
		looked.Add(1)
		return nine, nil
	}})
	account := func(*http.Request) (string, error) { return "acme", nil }
	quota := []policy.Limit{policy.Quota(100, policy.Monthly)}
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{
		{Name: "requests", Key: account, Limits: quota},
		{Name: "points", Key: account, Limits: quota, Cost: c.Cost},
		{Name: "more_points", Key: account, Limits: quota, Cost: c.Cost},
	}}))
	defer limits.Close()
	served := ""
	h := limits.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		served = string(body)
	}))
	send := func(body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(body)))
		return w
	}
	assert.Equal(t, 200, send(`{"id":"a"}`).Code)
	assert.Equal(t, `{"id":"a"}`, served)
	assert.EqualValues(t, 1, looked.Load())
	usage := func() map[string]int64 {
		used := map[string]int64{}
		all, err := limits.Usage(t.Context(), "acme")
		require.NoError(t, err)
		for _, u := range all {
			used[u.Rule] = u.Used
		}
		return used
	}
	assert.Equal(t, map[string]int64{"requests": 1, "points": 9, "more_points": 9}, usage())

	// A wrong request gets a code, and is charged the minimum.
	w := send(`{"query":"{ nothing }"}`)
	assert.Equal(t, 400, w.Code)
	assert.Contains(t, w.Body.String(), `"code":"invalid_query"`)
	assert.NotContains(t, w.Body.String(), "nothing", "no error's text reaches the client")
	assert.Equal(t, map[string]int64{"requests": 2, "points": 12, "more_points": 12}, usage())
	assert.Contains(t, send(`{"query":"{ users(first: 9999) { id } }"}`).Body.String(), "A list may have at most 1000 items.")

	// Who sends nothing else is refused for that in the end.
	for range 40 {
		w = send(`{"query":"{ nothing }"}`)
	}
	assert.Equal(t, 429, w.Code)
}

func TestBodyThatCannotBeRead(t *testing.T) {
	t.Parallel()
	c := calculator(t, graphqlcost.Options{})
	r := httptest.NewRequest("POST", "/", iotest.ErrReader(errors.New("gone")))
	n, err := c.Cost(r)
	assert.ErrorContains(t, err, "gone")
	assert.Zero(t, n)
	assert.Empty(t, reasonOf(err))
}

func TestMaxCost(t *testing.T) {
	t.Parallel()
	c := calculator(t, graphqlcost.Options{Schema: social, MaxCost: 5})
	n, err := c.OperationCost(t.Context(), graphqlcost.Operation{Query: five})
	assert.NoError(t, err)
	assert.EqualValues(t, 5, n)
	n, err = c.OperationCost(t.Context(), graphqlcost.Operation{Query: nine})
	assert.Equal(t, respond.CostTooHigh, reasonOf(err))
	assert.EqualValues(t, 1, n)
}
