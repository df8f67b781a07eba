package middleware_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// A handClock is set by hand.
type handClock struct{ micros atomic.Int64 }

func newHandClock() *handClock {
	c := &handClock{}
	c.micros.Store(time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC).UnixMicro())
	return c
}

func (c *handClock) now() time.Time          { return time.UnixMicro(c.micros.Load()) }
func (c *handClock) advance(d time.Duration) { c.micros.Add(d.Microseconds()) }

// onBothStores runs a test in memory and on Redis, each under a clock that is set
// by hand.
func onBothStores(t *testing.T, test func(t *testing.T, store policy.Store, clock *handClock)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		clock := newHandClock()
		test(t, memstore.New(memstore.Options{Now: clock.now}), clock)
	})
	t.Run("redis", func(t *testing.T) {
		srv := redistest.Start(t)
		clock := newHandClock()
		client := redis.NewClient(&redis.Options{Addr: srv.Addr()})
		defer client.Close()
		store := redisstore.Options{Now: clock.now, Timeout: 5 * time.Second}.New(client)
		defer store.Close()
		test(t, store, clock)
	})
}

// passwords is a login route: 200 for the right one, 401 for others.
func passwords(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Password") != "right" {
		w.WriteHeader(http.StatusUnauthorized)
	}
}

func accountOf(r *http.Request) (string, error) { return r.Header.Get("Account"), nil }

// tryLogin sends a login from an address.
func tryLogin(h http.Handler, ip, account, password string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/login", nil)
	r.RemoteAddr = ip
	if !strings.Contains(ip, "]") && !strings.Contains(ip, ".") {
		r.RemoteAddr = "[" + ip + "]:1234"
	}
	r.Header.Set("Account", account)
	r.Header.Set("Password", password)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func guarded(t *testing.T, store policy.Store, g ratelimit.Guard, handler http.HandlerFunc) (*ratelimit.Limiter, http.Handler) {
	t.Helper()
	g.Name = "login"
	l := limiter(t, ratelimit.Config{Store: store, Rules: g.Rules(), Budget: 5 * time.Second})
	return l, l.Handler(handler)
}

func code(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var problem struct{ Code, Type string }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &problem), w.Body.String())
	if problem.Code == "blocked" {
		assert.Contains(t, problem.Type, "#abnormal-usage-detected")
	}
	return problem.Code
}

// Ten failures, a block, the right password refused; time passes, free; the second
// block is longer.
func TestGuardBlocks(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, store policy.Store, clock *handClock) {
		for _, after := range []bool{false, true} {
			name := map[bool]string{false: "at the door", true: "after the response"}[after]
			t.Run(name, func(t *testing.T) {
				ip := map[bool]string{false: "192.0.2.1:99", true: "192.0.2.2:99"}[after]
				_, h := guarded(t, store, ratelimit.Guard{PerIP: policy.Lockout(10, time.Hour, time.Hour, 4*time.Hour), AfterResponse: after}, passwords)
				for _, length := range []time.Duration{time.Hour, 4 * time.Hour, 4 * time.Hour} {
					for i := range 10 {
						require.Equal(t, 200, tryLogin(h, ip, "a", "right").Code, "in between")
						w := tryLogin(h, ip, "a", "wrong")
						require.Equal(t, 401, w.Code, "failure %d is answered", i+1)
						require.Empty(t, w.Header().Get("X-RateLimit-Remaining"), "nobody needs to know how often he may fail")
					}
					w := tryLogin(h, ip, "a", "right")
					require.Equal(t, 429, w.Code)
					require.Equal(t, "blocked", code(t, w))
					seconds, err := strconv.Atoi(w.Header().Get("Retry-After"))
					require.NoError(t, err)
					wait := time.Duration(seconds) * time.Second
					require.GreaterOrEqual(t, wait, length)
					require.LessOrEqual(t, wait, length+length/32+time.Second)
					require.Equal(t, 200, tryLogin(h, "198.51.100.7:1", "a", "right").Code, "from another address")
					clock.advance(wait - 2*time.Second)
					require.Equal(t, "blocked", code(t, tryLogin(h, ip, "a", "wrong")))
					clock.advance(2 * time.Second)
					require.Equal(t, 200, tryLogin(h, ip, "a", "right").Code)
				}
			})
		}
	})
}

// A thousand addresses of one /64 count as one; those of another do not.
func TestGuardCountsNetworks(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, store policy.Store, clock *handClock) {
		_, h := guarded(t, store, ratelimit.Guard{PerIP: policy.Lockout(20, time.Hour)}, passwords)
		got := map[int]int{}
		for i := range 1000 {
			got[tryLogin(h, fmt.Sprintf("2001:db8:0:1:%x::%x", i*7, i), "a", "wrong").Code]++
		}
		require.Equal(t, map[int]int{401: 20, 429: 980}, got)
		require.Equal(t, 401, tryLogin(h, "2001:db8:0:2::1", "a", "wrong").Code)
	})
}

// An account that is attacked from 10,000 addresses stays usable for its owner, on
// a device that is known and from an address of its own.
func TestGuardLeavesTheOwnerIn(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, store policy.Store, clock *handClock) {
		_, h := guarded(t, store, ratelimit.Guard{
			Account: accountOf,
			Known: func(r *http.Request) bool {
				return r.Header.Get("Device") == "alice's" || r.RemoteAddr == "192.0.2.200:1"
			},
		}, passwords)
		guesses := 0
		for i := range 10_000 {
			ip := fmt.Sprintf("10.%d.%d.1:5", i/256, i%256)
			if tryLogin(h, ip, "alice", "wrong").Code == 401 {
				guesses++
			}
		}
		require.Equal(t, 100, guesses, "all together try as often as one account may fail")
		require.Equal(t, "blocked", code(t, tryLogin(h, "192.0.2.9:1", "alice", "right")))
		require.Equal(t, 200, tryLogin(h, "192.0.2.9:1", "alice", "right", "Device", "alice's").Code)
		require.Equal(t, 200, tryLogin(h, "192.0.2.200:1", "alice", "right").Code, "from where she is known")
		require.Equal(t, 200, tryLogin(h, "192.0.2.9:1", "bob", "right").Code)

		// Without Known there is no such block: nobody locks her out.
		_, h = guarded(t, store, ratelimit.Guard{Account: accountOf}, passwords)
		for i := range 200 {
			tryLogin(h, fmt.Sprintf("10.200.%d.1:5", i), "carol", "wrong")
		}
		require.Equal(t, 200, tryLogin(h, "192.0.2.9:1", "carol", "right").Code)
	})
}

// One network does not try a few passwords on each of many accounts, and no
// spelling of an account is another.
func TestGuardPairsAndNetworks(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, store policy.Store, clock *handClock) {
		_, h := guarded(t, store, ratelimit.Guard{Account: accountOf}, passwords)
		got := map[int]int{}
		for i := range 400 {
			got[tryLogin(h, "192.0.2.1:1", fmt.Sprint("user", i), "wrong").Code]++
		}
		require.Equal(t, map[int]int{401: 100, 429: 300}, got)
		got = map[int]int{}
		for i := range 40 {
			got[tryLogin(h, "192.0.2.2:1", []string{"alice", "ALICE", " Alice "}[i%3], "wrong").Code]++
		}
		require.Equal(t, map[int]int{401: 10, 429: 30}, got)
		require.Equal(t, 200, tryLogin(h, "192.0.2.2:1", "bob", "right").Code, "the pair is blocked, not the network")
		require.Equal(t, 200, tryLogin(h, "192.0.2.3:1", "alice", "right").Code)
	})
}

// A success lets its own pair forget its failures, and nobody else's.
func TestGuardSuccessClearsThePair(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, store policy.Store, clock *handClock) {
		_, h := guarded(t, store, ratelimit.Guard{
			Account: accountOf, PerPair: policy.Lockout(3, time.Hour), PerIP: policy.Lockout(8, time.Hour),
		}, passwords)
		for range 3 {
			require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", "alice", "wrong").Code)
			require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", "alice", "wrong").Code)
			require.Equal(t, 200, tryLogin(h, "192.0.2.1:1", "alice", "right").Code)
		}
		// Six of its eight failures are used, whatever succeeded.
		require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", "bob", "wrong").Code)
		require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", "bob", "wrong").Code)
		require.Equal(t, "blocked", code(t, tryLogin(h, "192.0.2.1:1", "alice", "right")))
	})
}

// What says nothing of a password clears no pair: an answer that was never written
// since the context had ended, a panic, a form that is shown.
func TestGuardSilenceIsNoSuccess(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config ratelimit.Config
		inner  http.HandlerFunc
		change func(r *http.Request) *http.Request
		want   int
	}{
		"the client has gone": {
			inner: func(_ http.ResponseWriter, r *http.Request) { r.Context().Value(hangUp{}).(context.CancelFunc)() },
			change: func(r *http.Request) *http.Request {
				ctx, cancel := context.WithCancel(r.Context())
				return r.WithContext(context.WithValue(ctx, hangUp{}, cancel))
			},
			want: 200, // that httptest assumes
		},
		"a time-out outside": {
			inner: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			want:  504,
		},
		"a panic":                   {inner: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, want: 200},
		"a panic behind the status": {inner: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200); panic(http.ErrAbortHandler) }, want: 200},
		"GET":                       {inner: ok, change: method("GET"), want: 200},
		"HEAD":                      {inner: ok, change: method("HEAD"), want: 200},
		"OPTIONS":                   {inner: ok, change: method("OPTIONS"), want: 200},
		"BREW":                      {inner: ok, change: method("BREW"), want: 200},
		"overridden": {
			config: ratelimit.Config{MethodOverride: "x-http-method"},
			inner:  ok,
			change: func(r *http.Request) *http.Request {
				r.Header["X-Http-Method"] = []string{"POST", "Get"}
				return r
			},
			want: 200,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.config.Rules = ratelimit.Guard{Name: "login", Account: accountOf, PerPair: policy.Lockout(4, time.Hour)}.Rules()
			l := limiter(t, test.config)
			r := chi.NewRouter()
			if test.want == 504 {
				r.Use(chimiddleware.Timeout(50 * time.Millisecond))
			}
			r.Use(l.Handler)
			r.HandleFunc("/login", passwords)
			r.HandleFunc("/other", test.inner)
			if name == "BREW" {
				r.MethodNotAllowed(test.inner)
			}
			for i := range 6 {
				want := 401
				if i > 3 {
					want = 429
				}
				require.Equal(t, want, tryLogin(r, "192.0.2.1:1", "alice", "wrong").Code, "guess %d", i)
				other := httptest.NewRequest("POST", "/other", nil)
				other.RemoteAddr = "192.0.2.1:1"
				other.Header.Set("Account", "alice")
				if test.change != nil {
					other = test.change(other)
				}
				w := httptest.NewRecorder()
				func() {
					defer func() { _ = recover() }()
					r.ServeHTTP(w, other)
				}()
				if i < 3 {
					require.Equal(t, test.want, w.Code, "it has its try back")
				}
			}
		})
	}
}

type hangUp struct{}

func method(m string) func(*http.Request) *http.Request {
	return func(r *http.Request) *http.Request {
		r.Method = m
		return r
	}
}

// A handler's word makes a success of any request.
func TestGuardSucceedsByWord(t *testing.T) {
	t.Parallel()
	_, h := guarded(t, nil, ratelimit.Guard{Account: accountOf, PerPair: policy.Lockout(2, time.Hour)}, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			assert.NoError(t, ratelimit.Succeeded(r.Context()))
			return
		}
		w.WriteHeader(401)
	})
	for range 3 {
		require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", "alice", "wrong").Code)
		r := httptest.NewRequest("GET", "/login", nil)
		r.RemoteAddr = "192.0.2.1:1"
		r.Header.Set("Account", "alice")
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}

// All spellings of an account are one that strings.EqualFold says are.
func TestGuardSpellings(t *testing.T) {
	t.Parallel()
	for _, spellings := range [][]string{
		{"jesse", "JESSE", " Jesse\t", "je\u017f\u017fe", "jes\u017fe"}, {"\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c2", "\u03bf\u03b4\u03bf\u03c3"}, {"\u212a", "k", "K"}, {"\u00b5", "\u03bc", "\u039c"},
	} {
		l, h := guarded(t, nil, ratelimit.Guard{Account: accountOf, PerPair: policy.Lockout(int64(len(spellings)), time.Hour)}, passwords)
		for i, one := range spellings {
			require.True(t, strings.EqualFold(strings.TrimSpace(one), spellings[0]))
			require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", one, "wrong").Code, "%d: %q", i, one)
		}
		for _, one := range spellings {
			require.Equal(t, 429, tryLogin(h, "192.0.2.1:1", one, "wrong").Code, "%q", one)
			until, err := l.Blocked(t.Context(), "login.pair", "192.0.2.1", one)
			require.NoError(t, err)
			require.NotZero(t, until)
		}
		require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", "je\u00dfe", "wrong").Code)
		for range spellings { // what has a dot is not i, under simple folding
			require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", "\u0130", "wrong").Code)
		}
		require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", "i", "wrong").Code)
	}
}

// Logins that name nobody share no count, and do not pass the network's.
func TestGuardWithoutAnAccount(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, store policy.Store, clock *handClock) {
		for _, account := range []ratelimit.KeyFunc{
			accountOf,
			func(*http.Request) (string, error) { return "", ratelimit.ErrNoKey },
		} {
			l, h := guarded(t, store, ratelimit.Guard{
				Account: account, Known: func(*http.Request) bool { return false },
				PerIP: policy.Lockout(5, time.Hour), PerPair: policy.Lockout(1, time.Hour), PerAccount: policy.Lockout(1, time.Hour),
			}, passwords)
			for _, ip := range []string{"192.0.2.1", "192.0.2.2"} {
				for range 5 {
					require.Equal(t, 401, tryLogin(h, ip+":1", " ", "wrong").Code)
				}
				require.Equal(t, "blocked", code(t, tryLogin(h, ip+":1", " ", "right")))
				require.NoError(t, l.Unblock(t.Context(), "login.ip", ip))
			}
		}
		_, h := guarded(t, store, ratelimit.Guard{Account: func(*http.Request) (string, error) { return "", errors.New("a broken form") }}, passwords)
		require.Equal(t, "no_key", code(t, tryLogin(h, "192.0.2.9:1", "", "right")))
	})
}

// Of a thousand guesses at once, as many reach the handler as failures are allowed.
func TestGuardAtOnce(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, store policy.Store, clock *handClock) {
		enough, finish := make(chan struct{}, 1000), make(chan struct{})
		_, h := guarded(t, store, ratelimit.Guard{PerIP: policy.Lockout(10, time.Hour)}, func(w http.ResponseWriter, r *http.Request) {
			enough <- struct{}{}
			<-finish
			passwords(w, r)
		})
		var mu sync.Mutex
		got, busy := map[int]int{}, 0
		var all sync.WaitGroup
		refused := make(chan struct{}, 1000)
		for range 1000 {
			all.Go(func() {
				w := tryLogin(h, "192.0.2.1:1", "a", "wrong")
				mu.Lock()
				defer mu.Unlock()
				if got[w.Code]++; w.Code == 429 {
					if code(t, w) == "concurrency_exceeded" && w.Header().Get("Retry-After") == "1" {
						busy++
					}
					refused <- struct{}{}
				}
			})
		}
		for range 10 {
			<-enough
		}
		for range 990 {
			<-refused
		}
		close(finish)
		all.Wait()
		require.Equal(t, map[int]int{401: 10, 429: 990}, got)
		require.Equal(t, 990, busy, "none of them was blocked yet")
		require.Equal(t, "blocked", code(t, tryLogin(h, "192.0.2.1:1", "a", "right")))
	})
}

// A handler's word goes before the status.
func TestGuardHandlersWord(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, store policy.Store, clock *handClock) {
		for _, after := range []bool{false, true} {
			ip := map[bool]string{false: "192.0.2.1:99", true: "192.0.2.2:99"}[after]
			l, h := guarded(t, store, ratelimit.Guard{PerIP: policy.Lockout(2, time.Hour), AfterResponse: after}, func(w http.ResponseWriter, r *http.Request) {
				switch r.Header.Get("Password") {
				case "wrong":
					assert.NoError(t, ratelimit.Failed(r.Context()))
				case "expired":
					assert.NoError(t, ratelimit.Failed(r.Context()))
					assert.NoError(t, ratelimit.Succeeded(r.Context()))
					w.WriteHeader(http.StatusForbidden)
				case "panic":
					panic(http.ErrAbortHandler)
				}
			})
			for range 5 {
				require.Equal(t, 403, tryLogin(h, ip, "a", "expired").Code)
				require.Panics(t, func() { tryLogin(h, ip, "a", "panic") })
			}
			require.Equal(t, 200, tryLogin(h, ip, "a", "wrong").Code)
			require.Equal(t, 200, tryLogin(h, ip, "a", "wrong").Code)
			require.Equal(t, 429, tryLogin(h, ip, "a", "right").Code)
			require.NoError(t, l.Unblock(t.Context(), "login.ip", strings.TrimSuffix(ip, ":99")))

			// A Check, which no response follows.
			check := ratelimit.Must(ratelimit.New(ratelimit.Config{Name: "inner", Store: store, Budget: 5 * time.Second, Rules: ratelimit.Guard{Name: "login", PerIP: policy.Lockout(2, time.Hour)}.Rules()}))
			r := httptest.NewRequest("POST", "/", nil)
			r.RemoteAddr = ip
			for range 3 { // an unsettled one would fill it
				report, err := check.Check(r)
				require.NoError(t, err)
				require.Nil(t, report.Denial)
			}
			for range 2 {
				ctx := ratelimit.NewLedger(context.Background())
				report, err := check.Check(r.WithContext(ctx))
				require.NoError(t, err)
				require.Nil(t, report.Denial)
				require.NoError(t, ratelimit.Failed(ctx))
			}
			report, err := check.Check(r)
			require.NoError(t, err)
			require.EqualValues(t, "blocked", report.Denial.Reason)
			require.NoError(t, check.Unblock(t.Context(), "login.ip", strings.TrimSuffix(ip, ":99")))
		}
		require.ErrorContains(t, ratelimit.Failed(context.Background()), "no Limiter")
		var late context.Context
		_, h := guarded(t, store, ratelimit.Guard{}, func(_ http.ResponseWriter, r *http.Request) { late = r.Context() })
		tryLogin(h, "192.0.2.1:1", "a", "right")
		require.ErrorContains(t, ratelimit.Succeeded(late), "has returned")
	})
}

// A block is decided with the other limits: what it refuses takes nothing of them,
// and what they refuse is no try.
func TestGuardIsJoint(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, store policy.Store, clock *handClock) {
		rate := policy.PerHour(5)
		key := func(*http.Request) (string, error) { return "all", nil }
		rules := ratelimit.Guard{Name: "login", PerIP: policy.Lockout(2, time.Hour)}.Rules()
		l := limiter(t, ratelimit.Config{
			Store: store, Budget: 5 * time.Second,
			Rules: append(rules, ratelimit.Rule{Name: "rate", Key: key, Limits: []policy.Limit{rate}}),
		})
		h := l.Handler(http.HandlerFunc(passwords))
		require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", "a", "wrong").Code)
		require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", "a", "wrong").Code)
		for range 3 {
			require.Equal(t, "blocked", code(t, tryLogin(h, "192.0.2.1:1", "a", "right")))
		}
		require.EqualValues(t, 2, used(t, store, "api", "rate", "all", rate))
		for range 3 {
			require.Equal(t, 200, tryLogin(h, "192.0.2.2:1", "a", "right").Code)
		}
		for range 3 {
			require.Equal(t, "rate_limit_exceeded", code(t, tryLogin(h, "192.0.2.2:1", "a", "wrong")))
		}
		require.Zero(t, used(t, store, "api", "login.ip", "192.0.2.2", policy.Lockout(2, time.Hour)))
		w := tryLogin(h, "192.0.2.1:1", "a", "right") // both refuse
		require.Equal(t, "blocked", code(t, w))
	})
}

func TestUnblock(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, store policy.Store, clock *handClock) {
		l, h := guarded(t, store, ratelimit.Guard{
			Account: accountOf, Known: func(*http.Request) bool { return false },
			PerIP: policy.Lockout(9, time.Hour), PerPair: policy.Lockout(3, time.Hour), PerAccount: policy.Lockout(6, time.Hour),
		}, passwords)
		guess := func(n, ip int) {
			for range n {
				require.Equal(t, 401, tryLogin(h, fmt.Sprintf("2001:db8::%x:1:2:3:4", ip), "alice", "wrong").Code)
			}
		}
		blocked := func(want bool, rule string, key ...string) {
			t.Helper()
			until, err := l.Blocked(t.Context(), rule, key...)
			require.NoError(t, err)
			if !want {
				require.Zero(t, until)
				return
			}
			require.GreaterOrEqual(t, until.Sub(clock.now()), time.Hour)
		}
		unblock := func(rule string, key ...string) {
			t.Helper()
			require.NoError(t, l.Unblock(t.Context(), rule, key...))
			blocked(false, rule, key...)
		}
		guess(3, 1)
		blocked(true, "login.pair", "2001:db8:0:1::9", "ALICE")
		blocked(true, "login.pair", "2001:db8:0:1:ffff::", "alice")
		blocked(false, "login.pair", "2001:db8:0:2::9", "alice")
		blocked(false, "login.ip", "2001:db8:0:1::9")
		require.Equal(t, 429, tryLogin(h, "2001:db8:0:1::1", "alice", "right").Code)
		unblock("login.pair", "2001:db8:0:1::9", "Alice")
		guess(3, 1)
		blocked(true, "login.account", " alice ")
		unblock("login.account", "alice")
		unblock("login.pair", "2001:db8:0:1::9", "alice")
		guess(3, 1)
		blocked(true, "login.ip", "2001:db8:0:1::9")
		blocked(true, "login.ip", "2001:db8:0:1::/64")
		unblock("login.pair", "2001:db8:0:1::9", "alice")
		unblock("login.ip", "2001:db8:0:1::9")
		require.Equal(t, 200, tryLogin(h, "2001:db8:0:1::1", "alice", "right").Code)

		for _, rule := range []string{"none", ""} {
			require.ErrorContains(t, l.Unblock(t.Context(), rule, "x"), "no rule")
		}
		_, err := l.Blocked(t.Context(), "login.ip")
		require.ErrorContains(t, err, "no key")
		require.ErrorIs(t, l.Unblock(t.Context(), "login.ip", ""), ratelimit.ErrNoKey)
		for rule, key := range map[string][]string{"login.pair": {"alice"}, "login.account": {"192.0.2.1", "alice"}} {
			require.ErrorContains(t, l.Unblock(t.Context(), rule, key...), "parts: write ")
		}
	})
}

// Operators name an address as it is, whatever networks a guard counts by. Of
// lock-outs that a request chooses they are told that nothing is known.
func TestUnblockByOtherKeys(t *testing.T) {
	t.Parallel()
	byHeader := func(r *http.Request) (string, error) {
		if r.Header.Get("X-Network") == "" {
			return "", ratelimit.ErrNoKey
		}
		return r.Header.Get("X-Network"), nil
	}
	byUser := func(r *http.Request) (string, error) { return r.Context().Value(hangUp{}).(string), nil }
	for name, test := range map[string]struct {
		ip             ratelimit.KeyFunc
		change         func(*http.Request) *http.Request
		blocked, other string
	}{
		"by /56": {ip: ratelimit.IPOptions{Bits: 56}.ClientIP(), blocked: "2001:db8:0:ff:7::", other: "2001:db8:0:100::"},
		"by header, or else the peer": {ip: ratelimit.FirstOf(byHeader, ratelimit.ClientIP), blocked: "2001:db8:7::7", other: "2001:db8:7::8", change: func(r *http.Request) *http.Request {
			r.Header.Set("X-Network", "2001:db8:7::7")
			return r
		}},
		"by the peer, where there is no header": {ip: ratelimit.FirstOf(byHeader, ratelimit.ClientIP), blocked: "2001:db8::9", other: "2001:db8:0:1::9"},
		"all unknown": {
			ip:      func(*http.Request) (string, error) { return "unknown", nil },
			blocked: "unknown", other: "2001:db8::1",
		},
		"all of one network": {
			ip:      func(*http.Request) (string, error) { return "192.0.2.0/24", nil },
			blocked: "192.0.2.9", other: "2001:db8::1",
		},
		"by header": {ip: byHeader, blocked: "192.0.2.7", other: "192.0.2.8", change: func(r *http.Request) *http.Request {
			r.Header.Set("X-Network", "192.0.2.7")
			return r
		}},
		"by context": {ip: byUser, blocked: "192.0.2.7", other: "192.0.2.8", change: func(r *http.Request) *http.Request {
			return r.WithContext(context.WithValue(r.Context(), hangUp{}, "192.0.2.7"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, h := guarded(t, nil, ratelimit.Guard{IP: test.ip, Account: accountOf, PerIP: policy.Lockout(2, time.Hour), PerPair: policy.Lockout(2, time.Hour)}, passwords)
			send := func() int {
				r := httptest.NewRequest("POST", "/login", nil)
				r.RemoteAddr = "[2001:db8::1]:1234"
				r.Header.Set("Account", "bob")
				if test.change != nil {
					r = test.change(r)
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				return w.Code
			}
			require.Equal(t, []int{401, 401, 429}, []int{send(), send(), send()})
			for rule, account := range map[string][]string{"login.ip": nil, "login.pair": {"bob"}} {
				until, err := l.Blocked(t.Context(), rule, append([]string{test.blocked}, account...)...)
				require.NoError(t, err)
				require.NotZero(t, until)
				until, err = l.Blocked(t.Context(), rule, append([]string{test.other}, account...)...)
				require.NoError(t, err)
				require.Zero(t, until)
				require.NoError(t, l.Unblock(t.Context(), rule, append([]string{test.blocked}, account...)...))
			}
			require.Equal(t, 401, send())
		})
	}
	l := limiter(t, ratelimit.Config{Rules: []ratelimit.Rule{{
		Name: "login", Key: accountOf, Limits: []policy.Limit{policy.Lockout(10, time.Hour)},
		LimitsFor: func(*http.Request) ([]policy.Limit, error) {
			return []policy.Limit{policy.Lockout(2, time.Minute)}, nil
		},
	}}})
	_, err := l.Blocked(t.Context(), "login", "bob")
	require.ErrorContains(t, err, "LimitsFor")
	require.ErrorContains(t, l.Unblock(t.Context(), "login", "bob"), "LimitsFor")
}

// A guard of some routes leaves the others alone.
func TestGuardOn(t *testing.T) {
	t.Parallel()
	_, h := guarded(t, memstore.New(memstore.Options{}), ratelimit.Guard{
		PerIP: policy.Lockout(1, time.Hour), On: []string{"POST /"}, Except: []string{"/free"},
	}, passwords)
	ask := func(method, path string) int {
		r, w := httptest.NewRequest(method, path, nil), httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for range 2 {
		require.Equal(t, 401, ask("GET", "/login"))
		require.Equal(t, 401, ask("POST", "/free"))
	}
	require.Equal(t, 401, ask("POST", "/login"))
	require.Equal(t, 429, ask("POST", "/login"))
	require.Equal(t, 401, ask("GET", "/login"))
}

// Lock-outs are shown to nobody.
func TestGuardIsNotShown(t *testing.T) {
	t.Parallel()
	l, h := guarded(t, memstore.New(memstore.Options{}), ratelimit.Guard{PerIP: policy.Lockout(1, time.Hour)}, passwords)
	tryLogin(h, "192.0.2.1:1", "a", "wrong")
	r := httptest.NewRequest("GET", "/", nil)
	w := httptest.NewRecorder()
	l.Limits().ServeHTTP(w, r)
	require.Equal(t, 200, w.Code)
	require.JSONEq(t, "{}", w.Body.String())
}

func TestLockoutRules(t *testing.T) {
	t.Parallel()
	key := func(*http.Request) (string, error) { return "k", nil }
	for want, rule := range map[string]ratelimit.Rule{
		"a Lockout beside other limits": {Name: "a", Key: key, Limits: []policy.Limit{policy.Lockout(1, time.Hour), policy.PerHour(1)}},
		"no Lockout":                    ratelimit.Guard{Name: "login", PerIP: policy.PerHour(3)}.Rules()[0],
		"zero Limit":                    {Name: "a", Key: key, Limits: []policy.Limit{{}}},
		"MinCost with a Lockout":        {Name: "a", Key: key, Limits: []policy.Limit{policy.Lockout(1, time.Hour)}, MinCost: 1},
		"name":                          ratelimit.Guard{Name: "log in"}.Rules()[0],
	} {
		_, err := ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{rule}})
		require.ErrorContains(t, err, want)
	}

	// A rule of its own, without a Guard.
	store := memstore.New(memstore.Options{})
	chosen := []policy.Limit{policy.Lockout(3, time.Hour)}
	l := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{{
		Name: "a", Key: key, Limits: []policy.Limit{policy.Lockout(2, time.Hour)},
		LimitsFor: func(*http.Request) ([]policy.Limit, error) { return chosen, nil },
	}}})
	h := l.Handler(http.HandlerFunc(passwords))
	for range 3 {
		require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", "a", "wrong").Code)
	}
	require.Equal(t, 429, tryLogin(h, "192.0.2.1:1", "a", "right").Code)
	chosen = []policy.Limit{policy.PerHour(1)}
	require.Equal(t, "misconfigured", code(t, tryLogin(h, "192.0.2.1:1", "a", "right")))
}

// A request that is refused for its cost was no try.
func TestLockoutBesideACostError(t *testing.T) {
	t.Parallel()
	store, lockout := memstore.New(memstore.Options{}), policy.Lockout(2, time.Hour)
	rules := ratelimit.Guard{Name: "login", PerIP: lockout}.Rules()
	rules = append(rules, ratelimit.Rule{
		Name: "items", Key: ratelimit.ClientIP, Limits: []policy.Limit{policy.PerHour(10)},
		Cost: func(*http.Request) (int64, error) { return 0, &ratelimit.CostError{Err: errors.New("no")} },
	})
	h := limiter(t, ratelimit.Config{Store: store, Rules: rules}).Handler(http.HandlerFunc(passwords))
	for range 5 {
		require.Equal(t, "invalid_cost", code(t, tryLogin(h, "192.0.2.1:1", "a", "wrong")))
	}
	require.Zero(t, used(t, store, "api", "login.ip", "192.0.2.1", lockout))
}

// A Check in a handler holds its try until that has returned. It is no failure if
// nobody says so, whatever else is settled.
func TestGuardInACheck(t *testing.T) {
	t.Parallel()
	store, lockout := memstore.New(memstore.Options{}), policy.Lockout(2, time.Hour)
	key := func(*http.Request) (string, error) { return "k", nil }
	outer := limiter(t, ratelimit.Config{Name: "outer", Store: store, Rules: []ratelimit.Rule{{Name: "all", Key: key, Limits: []policy.Limit{policy.PerHour(100)}}}})
	inner := limiter(t, ratelimit.Config{Name: "inner", Store: store, Rules: append(
		ratelimit.Guard{Name: "login", PerIP: lockout}.Rules(),
		ratelimit.Rule{Name: "rate", Key: key, Limits: []policy.Limit{policy.PerHour(100)}},
	)})
	counted := func() int64 { return used(t, store, "inner", "login.ip", "192.0.2.1", lockout) }
	h := outer.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before := counted()
		report, err := inner.Check(r)
		assert.NoError(t, err)
		assert.Nil(t, report.Denial)
		assert.Equal(t, before+1, counted(), "it is held")
		switch r.Header.Get("Password") {
		case "costly":
			assert.NoError(t, ratelimit.SetCost(r.Context(), "rate", 3))
		case "wrong":
			assert.NoError(t, ratelimit.Failed(r.Context()))
		}
	}))
	for _, password := range []string{"right", "costly", "right", "costly"} {
		tryLogin(h, "192.0.2.1:1", "a", password)
		require.Zero(t, counted(), password)
	}
	tryLogin(h, "192.0.2.1:1", "a", "wrong")
	require.EqualValues(t, 1, counted())
}

// What a guard's Failed says goes before the status: also of what is no success then.
func TestGuardFailed(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, store policy.Store, clock *handClock) {
		_, h := guarded(t, store, ratelimit.Guard{
			Account: accountOf, PerPair: policy.Lockout(3, time.Hour),
			Failed: func(r *http.Request, o ratelimit.Outcome) bool {
				return r.Header.Get("Password") != "right" && o.Status == 200
			},
		}, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Password") == "expired" {
				w.WriteHeader(http.StatusUnauthorized)
			}
		})
		for range 5 {
			require.Equal(t, 401, tryLogin(h, "192.0.2.1:1", "alice", "expired").Code)
		}
		for range 3 {
			require.Equal(t, 200, tryLogin(h, "192.0.2.1:1", "alice", "wrong").Code)
		}
		require.Equal(t, "blocked", code(t, tryLogin(h, "192.0.2.1:1", "alice", "right")))
	})
}
