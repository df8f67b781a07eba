package middleware_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/respond"
)

// The examples hold the snippets of README.md.

func Example_oneLine() {
	r := chi.NewRouter()
	r.Use(ratelimit.PerKey(ratelimit.Header("X-API-Key"), policy.PerMinute(1000)))
	r.Get("/items", items)

	call(r, "GET", "/items", "X-API-Key", "alice")
	// Output:
	// GET /items: 200, 999 of 1000 left
}

func Example_sharedStore() {
	store := memstore.New(memstore.Options{})
	r := chi.NewRouter()
	r.Use(ratelimit.Config{Store: store}.PerKey(ratelimit.Header("X-API-Key"), policy.PerMinute(1000)))
	r.Get("/items", items)

	call(r, "GET", "/items", "X-API-Key", "alice")
	// Output:
	// GET /items: 200, 999 of 1000 left
}

func Example_layers() {
	store := memstore.New(memstore.Options{})
	workspace := ratelimit.Header("X-Workspace")
	plan := func(r *http.Request) string { return r.Header.Get("X-Plan") }
	r := chi.NewRouter()

	keyTiers := policy.Tiers{
		"basic":   {policy.TokenBucket(10, time.Second).WithBurst(20)},
		"premium": {policy.TokenBucket(100, time.Second).WithBurst(200)},
	}
	workspaceTiers := policy.Tiers{
		"basic":   {policy.PerMinute(600), policy.PerDay(50_000)},
		"premium": {policy.PerMinute(6000), policy.PerDay(500_000)},
	}
	api := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Name:  "api",
		Store: store,
		Rules: []ratelimit.Rule{
			{Name: "per_key", Key: apiKey, Partition: workspace, LimitsFor: ratelimit.ByTier(plan, keyTiers)},
			{Name: "per_workspace", Key: workspace, LimitsFor: ratelimit.ByTier(plan, workspaceTiers)},
		},
	}))
	r.Group(func(r chi.Router) {
		r.Use(api.Handler)
		r.Get("/v1/items", items)
	})

	call(r, "GET", "/v1/items", "X-API-Key", "alice", "X-Workspace", "acme", "X-Plan", "basic")
	call(r, "GET", "/v1/items", "X-API-Key", "bob", "X-Workspace", "umbrella", "X-Plan", "premium")
	// Output:
	// GET /v1/items: 200, 19 of 10 left
	// GET /v1/items: 200, 199 of 100 left
}

func Example_points() {
	account := ratelimit.Header("X-Account")
	queryCost := func(*http.Request) (int64, error) { return 40, nil }
	runQuery := func(*http.Request) (pointsUsed int64) { return 140 }

	points := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{{
		Name: "points", Key: account,
		Limits: []policy.Limit{policy.TokenBucket(1000, time.Hour)},
		Cost:   queryCost,            // asked before the handler
		Fail:   ratelimit.FailClosed, // 503 while the store is away
	}}}))
	graphql := func(w http.ResponseWriter, r *http.Request) {
		used := runQuery(r)
		if err := ratelimit.SetCost(r.Context(), "points", used); err != nil {
			fmt.Println("log:", err)
		}
	}

	defer points.Close()
	r := chi.NewRouter()
	r.With(points.Handler).Post("/graphql", graphql)
	call(r, "POST", "/graphql", "X-Account", "acme")
	call(r, "POST", "/graphql", "X-Account", "acme")
	// Output:
	// POST /graphql: 200, 860 of 1000 left
	// POST /graphql: 200, 720 of 1000 left
}

func Example_quotas() {
	store := memstore.New(memstore.Options{})
	workspace := func(r *http.Request) (string, error) { return r.Header.Get("X-Workspace"), nil }
	accept := func(http.ResponseWriter, *http.Request) {}
	r := chi.NewRouter()

	uploads := ratelimit.Must(ratelimit.New(ratelimit.Config{Name: "uploads", Store: store, Rules: []ratelimit.Rule{
		{Name: "requests", Key: workspace, Limits: []policy.Limit{policy.PerSecond(20)}},
		{Name: "open", Key: workspace, Limits: []policy.Limit{policy.Concurrency(4).WithQueue(16, 30*time.Second)}},
		{
			Name: "items", Key: workspace,
			Limits: []policy.Limit{policy.Quota(25_000, policy.Monthly)},
			Cost:   ratelimit.Items("items", 100), // a batch is one request, and many items
			Settle: func(_ *http.Request, o ratelimit.Outcome) int64 {
				if o.Status >= 500 {
					return 0 // our fault
				}
				return o.Cost
			},
		},
	}}))
	r.With(uploads.Handler).Post("/uploads", accept)
	r.Handle("/limits", uploads.Limits()) // what a caller meets, and how it stands
	r.Handle("/quota", uploads.Quota())

	postJSON(r, "/uploads", "acme", `{"items":[{},{},{}]}`)
	postJSON(r, "/uploads", "acme", `{"items":7}`)
	postJSON(r, "/limits", "acme", "")
	// Output:
	// /uploads: 200
	// /uploads: 400 invalid_batch
	// /limits: 200 {"uploads":{"open":{"limit":4,"remaining":4},"requests":{"limit":20,"remaining":18}}}
}

// postJSON prints the answer's status, and its body or the code in it.
func postJSON(h http.Handler, path, workspace, body string) {
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.Header.Set("X-Workspace", workspace)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	said := strings.TrimSpace(w.Body.String())
	var problem struct{ Code string }
	if json.Unmarshal([]byte(said), &problem); problem.Code != "" {
		said = problem.Code
	}
	fmt.Println(strings.TrimSpace(fmt.Sprintf("%s: %d %s", path, w.Code, said)))
}

func Example_stacked() {
	store := memstore.New(memstore.Options{})
	r := chi.NewRouter()

	site := ratelimit.Must(ratelimit.New(ratelimit.Config{Name: "site", Store: store, Rules: []ratelimit.Rule{
		{Name: "per_key", Key: apiKey, Limits: []policy.Limit{policy.PerHour(1000)}},
	}}))
	search := ratelimit.Must(ratelimit.New(ratelimit.Config{Name: "search", Store: store, Rules: []ratelimit.Rule{
		{Name: "per_key", Key: apiKey, Limits: []policy.Limit{policy.SlidingLog(2, time.Hour)}},
	}}))
	r.Use(site.Handler)
	r.With(search.Handler).Get("/search", items)

	for range 3 {
		call(r, "GET", "/search", "X-API-Key", "alice")
	}
	r.Get("/", items)
	call(r, "GET", "/", "X-API-Key", "alice") // the refusal took nothing
	// Output:
	// GET /search: 200, 1 of 2 left
	// GET /search: 200, 0 of 2 left
	// GET /search: 429, 0 of 2 left
	// GET /: 200, 997 of 1000 left
}

func Example_with() {
	api := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{
		{Name: "per_key", Key: apiKey, Limits: []policy.Limit{policy.PerMinute(100)}},
	}}))
	defer api.Close()
	r := chi.NewRouter()

	exports := ratelimit.Must(api.With(ratelimit.Rule{
		Name: "exports", Key: apiKey, Limits: []policy.Limit{policy.SlidingLog(10, time.Hour)},
	}))
	r.With(api.Handler).Get("/items", items)
	r.With(exports.Handler).Post("/exports", items)

	call(r, "POST", "/exports", "X-API-Key", "alice")
	call(r, "GET", "/items", "X-API-Key", "alice")
	// Output:
	// POST /exports: 200, 9 of 10 left
	// GET /items: 200, 98 of 100 left
}

func Example_style() {
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Style: respond.Style{
			Fields:  []respond.FieldWriter{respond.RateLimit, respond.XRateLimit},
			Refusal: respond.Text,
		},
		Rules: []ratelimit.Rule{{Name: "per_ip", Key: ratelimit.ClientIP, Limits: []policy.Limit{policy.PerDay(1)}}},
	}))
	defer limits.Close()
	h := limits.Handler(http.HandlerFunc(items))
	call(h, "GET", "/")
	call(h, "GET", "/")
	// Output:
	// GET /: 200, 0 of 1 left
	// GET /: 429, 0 of 1 left
}

func Example_endpoints() {
	client := apiKey
	table := ratelimit.Must(ratelimit.New(ratelimit.Config{FoldCase: true, Rules: []ratelimit.Rule{
		{Name: "general", Except: []string{"/api/public/", "/api/auth/"}, Key: client, Limits: []policy.Limit{policy.PerMinute(120)}},
		{Name: "writes", On: []string{"POST,PUT,DELETE /"}, Key: client, Limits: []policy.Limit{policy.PerMinute(60)}},
		{Name: "bookings", On: []string{"/api/spaces/bookings/"}, Key: client, Limits: []policy.Limit{policy.PerMinute(10)}},
		{Name: "push", On: []string{"/{any...}/bigquery/pushall/"}, Key: client, Limits: []policy.Limit{policy.TokenBucket(1, 12*time.Minute)}},
	}}))
	defer table.Close()
	h := table.Handler(http.HandlerFunc(items))
	call(h, "GET", "/api/spaces/users", "X-API-Key", "alice")
	call(h, "POST", "/api/spaces/users", "X-API-Key", "alice")
	call(h, "GET", "/API/Spaces//Bookings/7", "X-API-Key", "alice")
	call(h, "GET", "/api/v2/bigquery/pushall", "X-API-Key", "alice")
	call(h, "GET", "/api/public/x", "X-API-Key", "alice")
	// Output:
	// GET /api/spaces/users: 200, 119 of 120 left
	// POST /api/spaces/users: 200, 118 of 120 left
	// GET /API/Spaces//Bookings/7: 200, 9 of 10 left
	// GET /api/v2/bigquery/pushall: 200, 0 of 1 left
	// GET /api/public/x: 200,  of  left
}

func Example_versions() {
	rules := []ratelimit.Rule{{Name: "per_ip", Key: ratelimit.ClientIP, Limits: []policy.Limit{policy.PerDay(1)}}}
	router := chi.NewRouter()

	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Rules: rules,
		Style: respond.Style{ // what the clients there are were written against
			Status:       http.StatusConflict,
			ReasonPhrase: "You must wait before accessing this url again.",
			Fields:       []respond.FieldWriter{},
			Refusal:      respond.Empty,
			Header:       http.Header{"Cache-Control": {"no-cache"}, "Pragma": {"no-cache"}, "Expires": {"-1"}},
		},
		Styles:   map[string]respond.Style{"2026-01-01": {Fields: []respond.FieldWriter{respond.RateLimit}}},
		StyleFor: func(r *http.Request) string { return r.Header.Get("API-Version") },
	}))
	router.Use(limits.Handler)
	server := &http.Server{Handler: respond.ReasonPhrases(router)}

	defer limits.Close()
	router.Get("/", items)
	for _, version := range []string{"", "", "2026-01-01"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("API-Version", version)
		w := httptest.NewRecorder()
		server.Handler.ServeHTTP(w, r)
		fmt.Printf("%d %q\n", w.Code, w.Header().Get("Content-Type"))
	}
	// Output:
	// 200 ""
	// 409 ""
	// 429 "application/problem+json"
}

func Example_fromHTTPRate() {
	store := memstore.New(memstore.Options{})

	r := chi.NewRouter()
	r.Use(chimiddleware.ClientIPFromRemoteAddr)
	r.Use(ratelimit.Config{Name: "api", Store: store}.PerIP(policy.PerMinute(100)))
	r.Get("/items", items)

	call(r, "GET", "/items")
	// Output:
	// GET /items: 200, 99 of 100 left
}

// Each promise of README's table has limits that are valid together.
func TestReadmePromises(t *testing.T) {
	t.Parallel()
	text := readme(t)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err) // a machine without time zones
	}
	for promise, limits := range map[string][]policy.Limit{
		"1,000 requests in a rolling minute":                               {policy.SlidingLog(1000, time.Minute)},
		"60 a minute, 600 an hour, 5,000 a day":                            {policy.PerMinute(60), policy.PerHour(600), policy.PerDay(5000)},
		"200 a second, bursts of 400":                                      {policy.TokenBucket(200, time.Second).WithBurst(400)},
		"one every 100 ms, strictly spaced":                                {policy.TokenBucket(1, 100*time.Millisecond)},
		"10,000 a calendar day, UTC":                                       {policy.FixedWindow(10_000, 24*time.Hour)},
		"1,000 points a minute, at most 5,000 saved up":                    {policy.TokenBucket(1000, time.Minute).WithBurst(5000)},
		"10,000 events in a rolling minute, however batched":               {policy.SlidingLog(10_000, time.Minute)},
		"50 streams at once":                                               {policy.Concurrency(50)},
		"one export at a time, more are queued":                            {policy.Concurrency(1).WithQueue(16, 30*time.Second)},
		"25,000 a month, from the 15th, in Berlin's time":                  {policy.Quota(25_000, policy.Monthly.From(15).In(berlin))},
		"a volume that is billed, not limited":                             {policy.Quota(policy.Unlimited, policy.Monthly)},
		"10 failed logins, then an hour's block, then 4 hours, then a day": {policy.Lockout(10, 15*time.Minute)},
		"5 tries an hour, and trying on keeps the door shut":               {policy.SlidingWindow(5, time.Hour).CountRefused()},
	} {
		assert.NoError(t, policy.ValidateLimits(limits), promise)
		assert.Contains(t, text, "\n| "+promise+" | `", "README.md has the promise")
	}
	assert.EqualValues(t, 1, policy.TokenBucket(1, 100*time.Millisecond).Capacity(), "strictly spaced")
}

// Go in README.md is a copy of code that is compiled, and what it shows of
// responses is a copy of what examples print.
func TestReadmeIsCompiled(t *testing.T) {
	t.Parallel()
	text := readme(t)
	code, printed := make(map[string]string), make(map[string]string)
	for path, source := range sources(t) {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "_examples") {
			code[path] = unindented(source, "")
			printed[path] = unindented(source, "//")
		}
	}
	occurs := func(in map[string]string, want string) bool {
		for _, source := range in {
			if strings.Contains(source, want) {
				return true
			}
		}
		return false
	}
	blocks := regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(text, -1)
	counts := make(map[string]int)
	for _, block := range blocks {
		counts[block[1]]++
		switch block[1] {
		case "go":
			assert.True(t, occurs(code, unindented(block[2], "")), "no test or example has this code:\n%s", block[2])
		case "http":
			assert.True(t, occurs(printed, unindented(block[2], "//")), "no example prints this:\n%s", block[2])
		}
	}
	assert.Greater(t, counts["go"], 4)
	assert.Positive(t, counts["http"])

	limits := regexp.MustCompile("`(policy\\.[^`]*\\([^`]*)`").FindAllStringSubmatch(text, -1)
	assert.NotEmpty(t, limits)
	for _, span := range limits {
		assert.True(t, occurs(code, span[1]), "no test or example has this code: %s", span[1])
	}
	fields := regexp.MustCompile("`([A-Z][A-Za-z-]+: [^`]+)`").FindAllStringSubmatch(text, -1)
	assert.NotEmpty(t, fields)
	for _, span := range fields {
		assert.True(t, occurs(printed, span[1]), "no example prints this field: %s", span[1])
	}
}

// What README.md names exists: tests, in the packages that it says, exported
// names, files and folders.
func TestReadmeNamesWhatExists(t *testing.T) {
	t.Parallel()
	text := readme(t)
	folders := make(map[string][]string) // of each test
	exported := make(map[string][]string)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)
	for path, source := range sources(t) {
		folder := filepath.ToSlash(filepath.Dir(path))
		if strings.HasSuffix(path, "_test.go") {
			for _, name := range declared.FindAllStringSubmatch(source, -1) {
				folders[name[1]] = append(folders[name[1]], folder)
			}
		} else if !strings.HasPrefix(path, "_examples") {
			exported[filepath.Base(folder)] = append(exported[filepath.Base(folder)], names(t, source)...)
		}
	}
	exported["ratelimit"] = exported["middleware"]

	tests := regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*`).FindAllString(text, -1)
	assert.Greater(t, len(tests), 15)
	for _, name := range tests {
		assert.NotEmpty(t, folders[name], "there is no test %s", name)
	}
	// `./redisstore` `TestX` in tables, go test ./redisstore -run TestX elsewhere,
	// and -run xxx -bench X for BenchmarkX.
	for _, named := range regexp.MustCompile("\\./([\\w/]+)(?:` `| -run )(?:xxx -(bench) )?(\\w+)").FindAllStringSubmatch(text, -1) {
		name := named[3]
		if named[2] != "" {
			name = "Benchmark" + name
		}
		assert.Contains(t, folders[name], named[1], "%s is not in %s", name, named[1])
	}
	qualified := regexp.MustCompile(`\b(policy|memstore|storetest|respond|ratelimit|redisstore|redistest)\.([A-Z]\w*)`)
	for _, name := range qualified.FindAllStringSubmatch(text, -1) {
		assert.True(t, slices.Contains(exported[name[1]], name[2]), "there is no %s", name[0])
	}
	paths := regexp.MustCompile("(?:go run |go test |-C |`|\\]\\()((?:\\./)?[\\w.-]*/[\\w./-]*\\w)[`) \n]")
	there := 0
	for _, path := range paths.FindAllStringSubmatch(text, -1) {
		if strings.HasPrefix(path[1], "github.com/") || path[1] == "net/http" {
			continue // import paths
		}
		_, err := os.Stat(filepath.Join("..", filepath.FromSlash(path[1])))
		assert.NoError(t, err)
		there++
	}
	assert.Greater(t, there, 10)
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	require.NoError(t, err)
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// sources returns the repository's Go files by their path from its root.
func sources(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	require.NoError(t, fs.WalkDir(os.DirFS(".."), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		source, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(path)))
		files[path] = strings.ReplaceAll(string(source), "\r\n", "\n")
		return err
	}))
	return files
}

// unindented returns text with each line bare of white space and the prefix.
func unindented(text, prefix string) string {
	var b strings.Builder
	b.WriteByte('\n')
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), prefix))
		b.WriteString(line + "\n")
	}
	return b.String()
}

// names returns what a file exports, but for methods.
func names(t *testing.T, source string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "", source, parser.SkipObjectResolution)
	require.NoError(t, err)
	var all []string
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if decl.Recv == nil {
				all = append(all, decl.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					all = append(all, spec.Name.Name)
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						all = append(all, name.Name)
					}
				}
			}
		}
	}
	return slices.DeleteFunc(all, func(name string) bool { return !ast.IsExported(name) })
}
