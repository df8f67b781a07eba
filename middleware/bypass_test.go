package middleware_test

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

type wrap = func(http.Handler) http.Handler

// bypassRoutes are the routes of the routers below.
var bypassRoutes = []string{"/login", "/users/{id}", "/files/*", "/public/*", "/{page}/x", "/admin", "/"}

// reached remembers which routes were, and by which method their handlers took
// the request.
type reached struct {
	mu     sync.Mutex
	routes []string
}

func (g *reached) handler(route string) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.routes = append(g.routes, r.Method+" "+route)
	}
}

func (g *reached) take() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	routes := g.routes
	g.routes = nil
	return routes
}

// bypassRouters are routers with a limiter before them, in them or behind them.
// Those that read paths beneath a prefix have it as a name's first word.
var bypassRouters = map[string]func(g *reached, limit wrap) http.Handler{
	"ServeMux": func(g *reached, limit wrap) http.Handler { return limit(serveMux(g, none)) },
	"ServeMux, its handlers": func(g *reached, limit wrap) http.Handler {
		return serveMux(g, limit)
	},
	"chi":         func(g *reached, limit wrap) http.Handler { return chiRouter(g, none, limit) },
	"chi, routes": func(g *reached, limit wrap) http.Handler { return chiRouter(g, limit) },
	"before chi":  func(g *reached, limit wrap) http.Handler { return limit(chiRouter(g, none)) },
	"chi, then CleanPath": func(g *reached, limit wrap) http.Handler {
		return chiRouter(g, none, limit, chimiddleware.CleanPath)
	},
	"CleanPath": func(g *reached, limit wrap) http.Handler {
		return chiRouter(g, none, chimiddleware.CleanPath, limit)
	},
	"CleanPath, routes": func(g *reached, limit wrap) http.Handler {
		return chiRouter(g, limit, chimiddleware.CleanPath)
	},
	"chi, then StripSlashes": func(g *reached, limit wrap) http.Handler {
		return chiRouter(g, none, limit, chimiddleware.StripSlashes)
	},
	"StripSlashes": func(g *reached, limit wrap) http.Handler {
		return chiRouter(g, none, chimiddleware.StripSlashes, limit)
	},
	"StripSlashes, routes": func(g *reached, limit wrap) http.Handler {
		return chiRouter(g, limit, chimiddleware.StripSlashes)
	},
	"before StripSlashes and ServeMux": func(g *reached, limit wrap) http.Handler {
		return limit(chimiddleware.StripSlashes(serveMux(g, none)))
	},
	"CleanPath and StripSlashes": func(g *reached, limit wrap) http.Handler {
		return chiRouter(g, none, chimiddleware.CleanPath, chimiddleware.StripSlashes, limit)
	},
	"chi, then StripSlashes and CleanPath": func(g *reached, limit wrap) http.Handler {
		return chiRouter(g, none, limit, chimiddleware.StripSlashes, chimiddleware.CleanPath)
	},
	"/v1 before StripPrefix and chi": func(g *reached, limit wrap) http.Handler {
		return limit(http.StripPrefix("/v1", chiRouter(g, none, chimiddleware.CleanPath, chimiddleware.StripSlashes)))
	},
	"StripPrefix and chi": func(g *reached, limit wrap) http.Handler {
		return anyPrefix(limit(chiRouter(g, none, chimiddleware.CleanPath)))
	},
	"/v1 before StripPrefix and ServeMux": func(g *reached, limit wrap) http.Handler {
		return limit(http.StripPrefix("/v1", serveMux(g, none)))
	},
	"/v1 Mount": func(g *reached, limit wrap) http.Handler {
		r := chi.NewRouter()
		r.Mount("/v1", chiRouter(g, none, limit))
		return r
	},
	"/v1 before CleanPath and Mount": func(g *reached, limit wrap) http.Handler {
		r := chi.NewRouter()
		r.Use(limit, chimiddleware.CleanPath)
		r.Mount("/v1", chiRouter(g, none))
		return r
	},
	"/v1 suffixes": func(g *reached, limit wrap) http.Handler {
		r := chi.NewRouter()
		r.Use(cutSuffix, limit)
		r.Mount("/v1", chiRouter(g, none))
		return r
	},
	"/v1 suffixes, mounted": func(g *reached, limit wrap) http.Handler {
		r := chi.NewRouter()
		r.Use(cutSuffix)
		r.Mount("/v1", chiRouter(g, none, limit))
		return r
	},
	"/v1 suffixes, routes": func(g *reached, limit wrap) http.Handler {
		r := chi.NewRouter()
		r.Use(cutSuffix)
		r.Mount("/v1", chiRouter(g, limit))
		return r
	},
	"folds, lower": func(g *reached, limit wrap) http.Handler {
		return limit(foldPath(strings.ToLower)(chiRouter(g, none, chimiddleware.CleanPath)))
	},
	"folds, lower, ServeMux": func(g *reached, limit wrap) http.Handler {
		return limit(foldPath(strings.ToLower)(serveMux(g, none)))
	},
	"folds, upper": func(g *reached, limit wrap) http.Handler {
		return limit(foldPath(func(p string) string { return strings.ToLower(strings.ToUpper(p)) })(chiRouter(g, none)))
	},
	"folds, chi alone": func(g *reached, limit wrap) http.Handler {
		return chiRouter(g, none, limit, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				chi.RouteContext(r.Context()).RoutePath = strings.ToLower(r.URL.Path)
				next.ServeHTTP(w, r)
			})
		})
	},
	"folds, equal": func(g *reached, limit wrap) http.Handler {
		return limit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for path, route := range map[string]string{"/login": "/login", "/admin": "/admin", "/": "/", "/users/7": "/users/{id}", "/files/7": "/files/*", "/public/x": "/public/*", "/y/x": "/{page}/x"} {
				if strings.EqualFold(r.URL.Path, path) {
					g.handler(route)(w, r)
				}
			}
		}))
	},
	"overrides behind, ServeMux": func(g *reached, limit wrap) http.Handler { return limit(overrideMethod(serveMux(g, none))) },
	"overrides behind, chi":      func(g *reached, limit wrap) http.Handler { return chiRouter(g, none, limit, overrideMethod) },
	"overrides before, chi":      func(g *reached, limit wrap) http.Handler { return chiRouter(g, none, overrideMethod, limit) },
	"overrides before, ServeMux": func(g *reached, limit wrap) http.Handler { return overrideMethod(limit(serveMux(g, none))) },
	"/v1 StripSlashes and Mount, routes": func(g *reached, limit wrap) http.Handler {
		r := chi.NewRouter()
		r.Use(chimiddleware.StripSlashes)
		r.Mount("/v1", chiRouter(g, limit))
		return r
	},
}

func none(next http.Handler) http.Handler { return next }

// cutSuffix has chi alone route by another path, as chi's URLFormat does.
func cutSuffix(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chi.RouteContext(r.Context()).RoutePath = strings.TrimSuffix(r.URL.Path, ".json")
		next.ServeHTTP(w, r)
	})
}

// foldPath is a router's that takes paths in any case.
func foldPath(fold func(string) string) wrap {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			u := *r.URL
			r = r.Clone(r.Context())
			u.Path, u.RawPath = fold(u.Path), fold(u.RawPath)
			r.URL = &u
			next.ServeHTTP(w, r)
		})
	}
}

const overrideField = "X-HTTP-Method-Override"

// overrideMethod takes the method from a header field, in any case.
func overrideMethod(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if method := strings.TrimSpace(r.Header.Get(overrideField)); method != "" {
			r = r.Clone(r.Context()) // net/http answers by the method that was sent
			r.Method = strings.ToUpper(method)
		}
		next.ServeHTTP(w, r)
	})
}

// overridesOf are the header fields to send to a router: none, and where methods
// are overridden also those that do.
func overridesOf(name string) [][]string {
	all := [][]string{nil}
	if strings.HasPrefix(name, "overrides") {
		for _, method := range []string{"GET", "POST", "post", "brew"} {
			all = append(all, []string{overrideField + ": " + method})
		}
		if underRace {
			return all[:3]
		}
		all = append(all, []string{overrideField + ": ", overrideField + ": POST"}, []string{overrideField + ":  head ", "x-http-method-override: GET"})
	}
	return all
}

// anyPrefix strips /v1, if there is one.
func anyPrefix(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			http.StripPrefix("/v1", next).ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func serveMux(g *reached, inside wrap) http.Handler {
	mux := http.NewServeMux()
	for _, route := range bypassRoutes {
		pattern := strings.Replace(route, "*", "{rest...}", 1)
		if route == "/" {
			pattern = "/{$}"
		}
		if route == "/{page}/x" { // a ServeMux takes it for a conflict
			continue
		}
		mux.Handle(pattern, inside(g.handler(route)))
	}
	return mux
}

func chiRouter(g *reached, inside wrap, outside ...wrap) chi.Router {
	r := chi.NewRouter()
	for _, middleware := range outside {
		r.Use(middleware)
	}
	for _, route := range bypassRoutes {
		r.With(inside).Handle(route, g.handler(route))
	}
	return r
}

// spellings are all the ways to write a path.
func spellings(path string) []string {
	cut := strings.LastIndexByte(path, '/')
	dir, base := path[:cut], path[cut+1:]
	if base == "" {
		base = "x"
	}
	targets := []string{
		path, "/" + path, "//" + path, dir + "//" + base, "/." + path, dir + "/./" + base,
		"/a/.." + path, "/../" + path, "/a/b/../.." + path, "/a/../b/.." + path, "/../.." + path, dir + "/a/../" + base,
		path + "/", path + "//", path + "///", path + "/.", path + "/./", path + "/x/..", path + "/x/../", "/" + path + "//",
		strings.ToUpper(path), strings.Replace(path, base[:1], strings.ToUpper(base[:1]), 1),
		dir + "/%" + hex(base[0]) + base[1:], dir + "/%" + strings.ToUpper(hex(base[0])) + base[1:], "/%" + hex(base[0]) + path[min(2, len(path)):],
		dir + "%2F" + base, dir + "%2f" + base, "/%2F" + path[1:], path + "%2F", path + "%2f/", path + "%2F%2F",
		dir + "/%2e/" + base, "/a/%2e%2e" + path, "/a/%2E." + path, "/a%2F.." + path, "/a%2f%2e%2E%2F" + path[1:], "/%2e%2e" + path,
		path + "/%2e", path + "/%2e%2e" + path, path + "/..%2F" + path, path + "/..%2F" + base, path + "%2f..%2F" + base,
		path + ";x", path + ";x=1", "/;x" + path, path + "/;x", dir + "/;/" + base, path + "/..;" + path,
		path + ".json", "/admin.json", path + "/.json", path + "%00", path + "%00x", path + "\x00", "/%00" + path, path + "%20", path + "%0a", path + "?x=/public/", path + "?/..", path + "#x",
		`/\` + path[1:], path + `\`, "/a\\.." + path, "/public/.." + path, "/public/../" + path, "/public/%2e%2e" + path, "/public%2F.." + path,
		strings.ReplaceAll(path, "i", "%C4%B1"), strings.ReplaceAll(path, "i", "%C4%B0"), strings.ReplaceAll(path, "s", "%C5%BF"), "/publ%C4%B1c/x", "/publ%C4%B0c/x", "/PUBLIC/x", "/Public%2F..%2F" + path,
		"/public/..%2f" + path[1:], "/public//.." + path, "/PUBLIC/.." + path, "/users/.." + path, "/files/.." + path, path + "/../public/x", path + "/../../public/x",
		"/%75sers/a%2Fb", "/%70ublic/.." + path, "/%70ublic/x", "/public%2Fx", "//public/x", "/public//x", "//x", "/./x", "/../x",
		"http://example.com" + path, "http://example.com/" + path, "http://EXAMPLE.com:80" + path, "HTTP://example.com/a/.." + path, "http://example.com/public/.." + path, "http://example.com", "http://example.com?x",
		"https://example.com" + path, "http://user@example.com" + path, "*", "example.com:443", "example.com" + path, path[1:], "",
		"/" + strings.Repeat("a/../", 2000) + path[1:], strings.Repeat("/a", 100) + strings.Repeat("/..", 100) + path, "/public" + strings.Repeat("/../public", 1000) + "/.." + path,
		strings.Repeat("/.", 3000) + path, strings.Repeat("/", 3000) + path, path + strings.Repeat("/", 3000), path + "/" + strings.Repeat("x", 100_000),
		strings.Repeat("%2F", 1000) + path,
	}
	return slices.Compact(targets)
}

func hex(c byte) string { return string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]) }

// No spelling that reaches a handler escapes the rules of the handler's route, and
// what is excluded in one reading only is not excluded.
func TestNoSpellingPasses(t *testing.T) {
	t.Parallel()
	// Rules, and what they must count.
	tables := []struct {
		name       string
		on, except []string
		counts     func(method, route string) bool
	}{
		{"login", []string{"/login"}, nil, is("/login")},
		{"users", []string{"/users/{id}"}, nil, is("/users/{id}")},
		{"files", []string{"/files/"}, nil, is("/files/*")},
		{"page", []string{"/{page}/x"}, nil, is("/{page}/x")},
		{"root", []string{"/{$}"}, nil, is("/")},
		{"writes", []string{"POST,PUT,DELETE /"}, nil, func(method, _ string) bool { return method == "POST" }},
		{"reads", []string{"GET /login", "GET /admin"}, nil, func(method, route string) bool {
			return (method == "GET" || method == "HEAD") && (route == "/login" || route == "/admin")
		}},
		{"not_public", nil, []string{"/public/"}, func(_, route string) bool { return route != "/public/*" }},
		{"not_read_files", nil, []string{"GET /files/"}, func(method, route string) bool {
			return route != "/files/*" || method != "GET" && method != "HEAD"
		}},
		{"not_login", nil, []string{"/login", "/login/"}, func(_, route string) bool { return route != "/login" }},
	}
	for name, router := range bypassRouters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prefix := ""
			if strings.HasPrefix(name, "/v1 ") {
				prefix = "/v1"
			}
			var rules []ratelimit.Rule
			for _, table := range tables {
				rules = append(rules, ratelimit.Rule{
					Name: table.name, Key: fixed("all"), Limits: []policy.Limit{policy.PerDay(1_000_000)},
					On: prefixed(prefix, table.on), Except: prefixed(prefix, table.except),
				})
			}
			c := ratelimit.Config{Rules: rules, Style: respond.Style{Fields: []respond.FieldWriter{rulesField{}}}, FoldCase: strings.HasPrefix(name, "folds")}
			if strings.HasPrefix(name, "overrides behind") {
				c.MethodOverride = overrideField
			}
			l := limiter(t, c)
			g := new(reached)
			server := httptest.NewServer(router(g, l.Handler))
			defer server.Close()
			d := dialer{t: t, addr: server.Listener.Addr().String()}
			defer d.hangUp()

			counted, passed := map[string]int{}, map[string]int{}
			for _, path := range []string{"/login", "/users/7", "/files/7", "/admin", "/y/x", "/"} {
				for _, target := range spellings(path) {
					switch {
					case prefix != "" && strings.HasPrefix(target, "/"):
						target = prefix + target
					case prefix != "":
						target = strings.Replace(target, "example.com/", "example.com"+prefix+"/", 1)
					}
					for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "CONNECT", "BREW"} {
						if len(target) > 2000 && method != "GET" {
							continue
						}
						for _, override := range overridesOf(name) {
							_, h := d.send(method, target, override...)
							met := h.Values("X-Rules")
							for _, route := range g.take() {
								for _, table := range tables {
									switch in := slices.Contains(met, table.name); {
									case in:
										counted[table.name]++
									case table.counts(cut(route)):
										t.Errorf("%s %.200q %s reaches %s without %s", method, target, override, route, table.name)
									default:
										passed[table.name]++
									}
								}
							}
						}
					}
				}
			}
			for _, table := range tables {
				if table.name != "page" || !strings.Contains(name, "ServeMux") {
					assert.Greater(t, counted[table.name], 10, table.name)
				}
				assert.Positive(t, passed[table.name], table.name)
			}
		})
	}
}

// rulesField writes the rules that counted a request.
type rulesField struct{}

func (rulesField) WriteFields(h http.Header, r *respond.Report) {
	for i := range r.Standings {
		h.Add("X-Rules", r.Standings[i].Rule)
	}
}

func is(route string) func(string, string) bool {
	return func(_, got string) bool { return got == route }
}

func cut(route string) (method, path string) {
	method, path, _ = strings.Cut(route, " ")
	return method, path
}

func prefixed(prefix string, patterns []string) []string {
	var all []string
	for _, p := range patterns {
		i := strings.IndexByte(p, '/')
		all = append(all, p[:i]+prefix+p[i:])
	}
	return all
}

// A dialer sends requests as they are written.
type dialer struct {
	t      *testing.T
	addr   string
	conn   net.Conn
	reader *bufio.Reader
}

// send returns the status, or 0 if the server did not answer, and the header.
func (d *dialer) send(method, target string, header ...string) (int, http.Header) {
	if d.conn == nil {
		conn, err := (&net.Dialer{}).DialContext(d.t.Context(), "tcp", d.addr)
		require.NoError(d.t, err)
		d.conn, d.reader = conn, bufio.NewReader(conn)
	}
	var b strings.Builder
	b.WriteString(method + " " + target + " HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n")
	for _, field := range header {
		b.WriteString(field + "\r\n")
	}
	require.NoError(d.t, d.conn.SetDeadline(time.Now().Add(30*time.Second)))
	_, err := d.conn.Write([]byte(b.String() + "\r\n"))
	require.NoError(d.t, err)
	// A CONNECT that is answered with 200 has no body for clients, but one here.
	w, err := http.ReadResponse(d.reader, &http.Request{Method: strings.Replace(method, "CONNECT", "GET", 1)})
	if err != nil {
		d.hangUp()
		return 0, nil
	}
	_ = w.Body.Close()
	if w.Close || w.StatusCode == http.StatusBadRequest {
		d.hangUp()
	}
	return w.StatusCode, w.Header
}

func (d *dialer) hangUp() {
	if d.conn != nil {
		_ = d.conn.Close()
		d.conn = nil
	}
}
