package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy/memstore"
)

// An answer is a response, and what it tells of points.
type answer struct {
	*httptest.ResponseRecorder
	Cost      int64 `json:"requestCost"`
	Max       int64 `json:"maximumAvailable"`
	Available int64 `json:"currentlyAvailable"`
	Rate      int64 `json:"restoreRate"`
}

func inMemory() http.Handler { return routes(memstore.New(memstore.Options{})) }

// send sends a request of a key that asks for details, and checks that they add up.
func send(t *testing.T, h http.Handler, method, target, key, body string) answer {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+key)
	return deliver(t, h, r)
}

func deliver(t *testing.T, h http.Handler, r *http.Request) answer {
	t.Helper()
	r.Header.Set("nosto-cost-debug", "")
	a := answer{ResponseRecorder: httptest.NewRecorder()}
	h.ServeHTTP(a, r)
	if a.Code == http.StatusUnauthorized {
		return a
	}
	require.Len(t, a.Header().Values("X-Nosto-Ratelimit-Status"), 1, a.Body.String())
	require.NoError(t, json.Unmarshal([]byte(a.Header().Get("X-Nosto-Ratelimit-Status")), &a))
	sum := int64(0)
	for part := range strings.SplitSeq(a.details(), ",") {
		_, points, _ := strings.Cut(part, "=")
		n, err := strconv.ParseInt(points, 10, 64)
		require.NoError(t, err)
		sum += n
	}
	require.Equal(t, a.Cost, sum, a.details())
	return a
}

func (a answer) details() string { return a.Header().Get("X-Nosto-Ratelimit-Cost-Details") }

// code returns the code of an error, in either form.
func (a answer) code(t *testing.T) string {
	t.Helper()
	var said struct {
		Error  problem
		Errors []struct{ Extensions struct{ Code string } }
	}
	require.NoError(t, json.Unmarshal(a.Body.Bytes(), &said), a.Body.String())
	if len(said.Errors) > 0 {
		return said.Errors[0].Extensions.Code
	}
	return said.Error.Code
}

// graphQLBody is a request for one query.
func graphQLBody(query string) string {
	b, _ := json.Marshal(map[string]string{"query": query})
	return string(b)
}

// Every endpoint has a budget of its own by tier, of one second's points, which is
// refilled continuously.
func TestBudgets(t *testing.T) {
	for _, tt := range []struct {
		key, path, body string
		points, cost    int64
	}{
		{"std_a", "/search", `{"query":"red"}`, 10_000, 600},
		{"std_a", "/graphql", graphQLBody("{ vectorSearch(query: \"red\") { total } }"), 10_000, 1500},
		{"std_a", "/recommendations", `{"limit":0}`, 10_000, 60},
		{"adv_a", "/search", `{"query":"red","vector":true}`, 50_000, 1500},
		{"adv_a", "/graphql", graphQLBody("{ category(name: \"hats\") { total } }"), 50_000, 600},
		{"adv_a", "/recommendations", `{"type":"personalized","limit":7,"segments":3}`, 80_000, 123},
		{"custom_a", "/search", `{"query":"red"}`, 100_000, 600},
		{"custom_a", "/graphql", graphQLBody("{ vectorSearch(query: \"red\") { total } }"), 100_000, 1500},
		{"custom_a", "/recommendations", `{}`, 200_000, 67},
		{"std_a", "/nothing", "", 10_000, 10},
	} {
		t.Run(tt.key+tt.path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := inMemory()
				ask := func() answer { return send(t, h, "POST", tt.path, tt.key, tt.body) }
				reserved := tt.cost
				if tt.body == `{}` {
					reserved += 13 // 20 products are asked for, and 7 found
				}
				left := tt.points
				for left >= reserved {
					a := ask()
					left -= tt.cost
					require.Less(t, a.Code, 405, a.Body.String())
					require.Equal(t, answer{a.ResponseRecorder, tt.cost, tt.points, left, tt.points}, a)
				}
				a := ask()
				require.Equal(t, 429, a.Code)
				require.Equal(t, "rate_limit_exceeded", a.code(t))
				require.Equal(t, answer{a.ResponseRecorder, reserved, tt.points, left, tt.points}, a)
				require.Equal(t, "1", a.Header().Get("Retry-After"))

				time.Sleep(time.Duration(reserved-left)*time.Second/time.Duration(tt.points) - 2*time.Microsecond)
				require.Equal(t, 429, ask().Code)
				time.Sleep(3 * time.Microsecond)
				require.NotEqual(t, 429, ask().Code)
				require.Equal(t, 429, ask().Code)

				for _, path := range []string{"/search", "/graphql", "/recommendations", "/nothing"} {
					if path != tt.path {
						a := send(t, h, "POST", path, tt.key, "")
						require.Equal(t, a.Max-10, a.Available, "the other budgets are whole")
					}
				}
				a = send(t, h, "POST", tt.path, tt.key+"b", "")
				require.Equal(t, a.Max-10, a.Available, "others' too")
			})
		})
	}
}

// A recommendation reserves the most it may cost, and settles what it did.
func TestRecommendations(t *testing.T) {
	for _, tt := range []struct {
		method, query, body, details string
		products                     int
	}{
		{"GET", "type=normal&limit=20&segments=2", "", "session=10,normal=50,products=7,segments=4", 7}, // 71
		{"GET", "type=personalized&limit=20&segments=2", "", "session=10,personalized=100,products=7,segments=4", 7},
		{"GET", "limit=3", "", "session=10,normal=50,products=3", 3},
		{"GET", "limit=0&segments=1", "", "session=10,normal=50,segments=2", 0},
		{"GET", "limit=9940", "", "session=10,normal=50,products=7", 7}, // all there is, and not a point more
		{"HEAD", "", "", "session=10,normal=50,products=7", -1},
		{"POST", "", `{"type":"normal","limit":20,"segments":2}`, "session=10,normal=50,products=7,segments=4", 7},
		{"POST", "", `{"type":"personalized","limit":1}`, "session=10,personalized=100,products=1", 1},
		{"POST", "type=personalized&limit=1", `{}`, "session=10,normal=50,products=7", 7},
	} {
		t.Run(tt.method+tt.query+tt.body, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := send(t, inMemory(), tt.method, "/recommendations?"+tt.query, "std_a", tt.body)
				require.Equal(t, 200, a.Code, a.Body.String())
				require.Equal(t, tt.details, a.details())
				require.Equal(t, 10_000-a.Cost, a.Available)
				if strings.Contains(tt.query+tt.body, "normal") {
					require.EqualValues(t, 71, a.Cost)
				}
				if tt.products >= 0 {
					var said struct{ Products []product }
					require.NoError(t, json.Unmarshal(a.Body.Bytes(), &said))
					require.Len(t, said.Products, tt.products)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		h := inMemory()
		ask := func(limit int) answer {
			return send(t, h, "GET", fmt.Sprintf("/recommendations?limit=%d", limit), "std_a", "")
		}
		a := ask(9941)
		require.Equal(t, 413, a.Code)
		require.Equal(t, "cost_too_high", a.code(t))
		require.Empty(t, a.Header().Get("Retry-After"))
		require.EqualValues(t, 10_001, a.Cost)
		require.EqualValues(t, 10_000, a.Available, "which takes nothing")
		require.Equal(t, 413, ask(1_000_000).Code)
		require.Equal(t, 413, ask(1_000_000_000_000).Code)
		require.Equal(t, 200, ask(20).Code)
		require.Equal(t, 429, ask(9940).Code, "67 are used")
		require.EqualValues(t, 10_000-2*67, ask(9873).Available, "and no more than these")
	})
}

func TestSearch(t *testing.T) {
	h := inMemory()
	for body, want := range map[string]struct {
		details string
		first   string
	}{
		`{"query":"RED"}`:                            {"search=600", "Red shirt"},
		`{"query":"shirts","type":"category"}`:       {"category=600", "Red shirt"},
		`{"query":"umb","type":"autocomplete"}`:      {"autocomplete=600", "Umbrella"},
		`{"query":"straw","vector":true}`:            {"vector=1500", "Straw hat"},
		`{"query":"x","type":"search","extra":true}`: {"search=600", ""},
	} {
		a := send(t, h, "POST", "/search", "adv_a", body)
		assert.Equal(t, 200, a.Code, a.Body.String())
		assert.Equal(t, want.details, a.details())
		var said struct{ Products []product }
		require.NoError(t, json.Unmarshal(a.Body.Bytes(), &said))
		if want.first == "" {
			assert.Equal(t, []product{}, said.Products)
		} else {
			assert.Equal(t, want.first, said.Products[0].Name)
		}
	}
}

func TestGraphQL(t *testing.T) {
	for _, tt := range []struct{ name, body, details, data string }{
		{"the least", graphQLBody(`{ __typename }`), "minimum=10", `{"data":{"__typename":"Query"}}`},
		{"below the least", graphQLBody(`{ node(id: "p1") { ... on Product { name } ... on Segment { id } __typename } }`),
			"node=1,minimum=9", `{"data":{"node":{"name":"Red shirt","__typename":"Product"}}}`},
		{"as over HTTP", graphQLBody(`{ session { normal(limit: 7) { products { id } } segments(first: 2) { name } } }`),
			"session=10,normal=50,products=7,segments=4", // 71
			`{"data":{"session":{"normal":{"products":[{"id":"p1"},{"id":"p2"},{"id":"p3"},{"id":"p4"},{"id":"p5"},{"id":"p6"},{"id":"p7"}]},"segments":[{"name":"Returning"},{"name":"Likes hats"}]}}}`},
		{"the most that it may find", graphQLBody(`{ session { personalized(limit: 500) { products { id } } } }`), "session=10,personalized=100,products=500", ""},
		{"aliases", graphQLBody(`{ a: search(query: "red") { total } b: search(query: "hat") { total } }`), "search=1200", `{"data":{"a":{"total":2},"b":{"total":2}}}`},
		{"duplicates", graphQLBody(`{ session { normal(limit: 1) { products { id } } } session { normal(limit: 1) { products { name } } } }`),
			"session=10,normal=50,products=1", `{"data":{"session":{"normal":{"products":[{"id":"p1","name":"Red shirt"}]}}}}`},
		{"variables", `{"query":"query Q($n: Int! = 5, $w: Boolean!) { session { normal(limit: $n) { products { ...P } } } } query R { __typename } fragment P on Product { id price @include(if: $w) category @skip(if: $w) }",
			"operationName":"Q","variables":{"n":1,"w":true}}`, "session=10,normal=50,products=1", `{"data":{"session":{"normal":{"products":[{"id":"p1","price":29}]}}}}`},
		{"nothing of the kind", graphQLBody(`{ node(id: "x") { __typename } vectorSearch(query: "") { total } }`), "node=1,vectorSearch=1500", `{"data":{"node":null,"vectorSearch":{"total":7}}}`},
		{"a batch", `[{"query":"{ __typename }"},{"query":"{ autocomplete(query: \"umb\") { products { category } } }"}]`, "minimum=10,autocomplete=600",
			`[{"data":{"__typename":"Query"}},{"data":{"autocomplete":{"products":[{"category":"rain"}]}}}]`},
		{"a batch of one", `[{"query":"{ __typename }"}]`, "minimum=10", `[{"data":{"__typename":"Query"}}]`},
		{"a batch, partly wrong", `[{"query":"{ __typename }"},{"query":"{ search(query: 5) { total } }"}]`, "minimum=10,search=600",
			`[{"data":{"__typename":"Query"}},{"errors":[{"message":"String cannot represent a non string value: 5","extensions":{"code":"invalid_query"}}]}]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := send(t, inMemory(), "POST", "/graphql", "std_a", tt.body)
			require.Equal(t, 200, a.Code, a.Body.String())
			assert.Equal(t, tt.details, a.details())
			if tt.data != "" {
				assert.JSONEq(t, tt.data, a.Body.String())
			}
		})
	}
}

// Answers have the order of the query, and a fragment is followed once, however
// often others spread it.
func TestGraphQLFragments(t *testing.T) {
	var query strings.Builder
	query.WriteString("{ ...F0 }")
	for i := range 12 {
		fmt.Fprintf(&query, " fragment F%d on Query { %s node(id: \"p2\") { ... on Product { name id } } }", i, strings.Repeat(fmt.Sprintf("...F%d ", i+1), 8))
	}
	query.WriteString(" fragment F12 on Query { __typename }")
	a := send(t, inMemory(), "POST", "/graphql", "std_a", graphQLBody(query.String()))
	require.Equal(t, 200, a.Code, a.Body.String())
	require.Equal(t, `{"data":{"__typename":"Query","node":{"name":"Blue shirt","id":"p2"}}}`, strings.TrimSpace(a.Body.String()))
}

// What is wrong is told by a code, and costs the minimum.
func TestWrongRequests(t *testing.T) {
	long := strings.Repeat("x", 2<<20)
	for _, tt := range []struct {
		method, target, body string
		status               int
		code                 string
	}{
		{"GET", "/recommendations?limit=-1", "", 400, "invalid_limit"},
		{"GET", "/recommendations?limit=", "", 400, "invalid_limit"},
		{"GET", "/recommendations?limit=1e3", "", 400, "invalid_limit"},
		{"GET", "/recommendations?limit=99999999999999999999", "", 400, "invalid_limit"},
		{"GET", "/recommendations?limit=1000000000001", "", 400, "invalid_limit"},
		{"GET", "/recommendations?segments=-1", "", 400, "invalid_segments"},
		{"GET", "/recommendations?segments=9223372036854775807", "", 400, "invalid_segments"},
		{"GET", "/recommendations?type=", "", 400, "unknown_type"},
		{"GET", "/recommendations?type=foo", "", 400, "unknown_type"},
		{"GET", "/recommendations?limit=1&limit=2", "", 400, "invalid_url"},
		{"GET", "/recommendations?limit=%zz", "", 400, "invalid_url"},
		{"GET", "/recommendations?limit=1;segments=1", "", 400, "invalid_url"},
		{"POST", "/recommendations", "", 400, "invalid_json"},
		{"POST", "/recommendations", "null", 400, "invalid_json"},
		{"POST", "/recommendations", "[]", 400, "invalid_json"},
		{"POST", "/recommendations", "{}{}", 400, "invalid_json"},
		{"POST", "/recommendations", `{"limit":-1}`, 400, "invalid_limit"},
		{"POST", "/recommendations", `{"limit":1.5}`, 400, "invalid_limit"},
		{"POST", "/recommendations", `{"segments":"2"}`, 400, "invalid_segments"},
		{"POST", "/recommendations", `{"type":"foo"}`, 400, "unknown_type"},
		{"POST", "/recommendations", long, 413, "body_too_large"},
		{"PUT", "/recommendations", "", 405, "method_not_allowed"},
		{"POST", "/search", "", 400, "invalid_json"},
		{"POST", "/search", `{"query":`, 400, "invalid_json"},
		{"POST", "/search", `{}`, 400, "invalid_query"},
		{"POST", "/search", `{"query":7}`, 400, "invalid_query"},
		{"POST", "/search", `{"query":"x","type":"foo"}`, 400, "unknown_type"},
		{"POST", "/search", `{"query":"x","vector":"yes"}`, 400, "invalid_vector"},
		{"POST", "/search", long, 413, "body_too_large"},
		{"GET", "/search?query=x", "", 405, "method_not_allowed"},
		{"POST", "/graphql", "", 400, "invalid_query"},
		{"POST", "/graphql", "{", 400, "invalid_query"},
		{"POST", "/graphql", "[]", 400, "invalid_query"},
		{"POST", "/graphql", "[" + strings.Repeat(`{"query":"{ __typename }"},`, 10) + `{"query":"{ __typename }"}]`, 400, "batch_too_large"},
		{"POST", "/graphql", graphQLBody("{"), 400, "invalid_query"},
		{"POST", "/graphql", graphQLBody("{ nothing }"), 400, "invalid_query"},
		{"POST", "/graphql", graphQLBody("mutation { x }"), 400, "invalid_query"},
		{"POST", "/graphql", graphQLBody("{ __schema { types { name } } }"), 400, "invalid_query"},
		{"POST", "/graphql", graphQLBody(`{ session { normal(limit: -1) { products { id } } } }`), 400, "invalid_query"},
		{"POST", "/graphql", graphQLBody(`{ session { normal(limit: 1000000) { products { id } } } }`), 400, "query_too_complex"},
		{"POST", "/graphql", graphQLBody("{" + strings.Repeat("__typename ", 600) + "}"), 400, "query_too_complex"},
		{"POST", "/graphql", graphQLBody(`{ search(query: 5) { total } }`), 400, "invalid_query"}, // which the server finds
		{"POST", "/graphql", `{"query":"query($q: String!) { search(query: $q) { total } }","variables":{"q":7}}`, 400, "invalid_query"},
		{"POST", "/graphql", `{"id":"x"}`, 400, "persisted_query_not_found"},
		{"POST", "/graphql", long, 413, "body_too_large"},
		{"GET", "/graphql?query={__typename}", "", 405, "method_not_allowed"},
		{"GET", "/nothing", "", 404, "not_found"},
		{"GET", "/", "", 404, "not_found"},
		{"GET", "/%67raphql/x", "", 404, "not_found"},
		{"GET", "//graphql", "", 404, "not_found"},
		{"POST", "//search", `{"query":"x"}`, 404, "not_found"}, // no spelling passes its rule
	} {
		t.Run(tt.method+tt.target+tt.body[:min(len(tt.body), 60)], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := send(t, inMemory(), tt.method, tt.target, "std_a", tt.body)
				require.Equal(t, tt.status, a.Code, a.Body.String())
				require.Equal(t, tt.code, a.code(t))
				inForm := strings.HasPrefix(a.Body.String(), `{"errors":[{`)
				require.Equal(t, strings.HasPrefix(tt.target, "/graphql"), inForm, "GraphQL's clients read errors in their own form")
				require.Equal(t, "minimum=10", a.details())
				require.Equal(t, answer{a.ResponseRecorder, 10, 10_000, 9990, 10_000}, a)
				require.Empty(t, a.Header().Get("Retry-After"))
				require.Equal(t, tt.status == 405, a.Header().Get("Allow") != "")
			})
		})
	}
}

func TestKeys(t *testing.T) {
	h := inMemory()
	for _, key := range []string{"", "std", "std_", "STD_a", "foo_a", "_a", "std_a b", "stdx_a"} {
		for _, path := range []string{"/search", "/graphql", "/nothing"} {
			a := send(t, h, "POST", path, key, `{"query":"x"}`)
			require.Equal(t, 401, a.Code, key)
			require.Equal(t, "unauthorized", a.code(t))
			require.Equal(t, "Bearer", a.Header().Get("WWW-Authenticate"))
			require.Empty(t, a.Header().Get("X-Nosto-Ratelimit-Status"), "there is no budget")
		}
	}
	r := httptest.NewRequest("GET", "/recommendations", nil)
	r.Header.Set("Authorization", "Basic std_a")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, 401, w.Code)
}

// Details are for those who ask: by a field or by a parameter.
func TestDetails(t *testing.T) {
	h := inMemory()
	for target, want := range map[string]string{
		"/recommendations":                        "",
		"/recommendations?nosto-cost-debug":       "session=10,normal=50,products=7",
		"/recommendations?nosto-cost-debug=false": "session=10,normal=50,products=7",
		"/recommendations?limit=-1":               "",
		"/nothing?nosto-cost-debug=1":             "minimum=10",
	} {
		r := httptest.NewRequest("GET", target, nil)
		r.Header.Set("Authorization", "Bearer adv_a")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		assert.Equal(t, want, w.Header().Get("X-Nosto-Ratelimit-Cost-Details"), target)
		assert.NotEmpty(t, w.Header().Get("X-Nosto-Ratelimit-Status"))
	}
}
