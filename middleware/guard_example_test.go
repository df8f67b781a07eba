package middleware_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/go-chi/chi/v5"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// login prints what becomes of a login.
func login(h http.Handler, account, password string) {
	w := tryLogin(h, "192.0.2.1:1234", account, password)
	fmt.Println(account, password, w.Code)
}

func Example_guard() {
	store := memstore.New(memstore.Options{})
	account := func(r *http.Request) (string, error) { return r.Header.Get("Account"), nil }
	hasDevice := func(*http.Request) bool { return false }
	logIn := passwords
	r := chi.NewRouter()

	login := ratelimit.Guard{
		Name:    "login",
		Account: account, // that the request wants to log in to
		Known: func(r *http.Request) bool { // a cookie that logins set, signed
			return hasDevice(r)
		},
		Fail: ratelimit.FailLocal, // guesses count while the store is away, too
	}
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{Store: store, Rules: login.Rules()}))
	r.With(limits.Handler).Post("/login", logIn)

	got := map[int]int{}
	for range 20 {
		got[tryLogin(r, "192.0.2.1:1234", "alice", "a guess").Code]++
	}
	fmt.Println(got)
	fmt.Println(tryLogin(r, "192.0.2.1:1234", "alice", "right").Code)
	fmt.Println(tryLogin(r, "198.51.100.7:1234", "alice", "right").Code)
	// Output:
	// map[401:10 429:10]
	// 429
	// 200
}

// A whole API: whoever has failed to authenticate three times is blocked, for ten
// minutes at first.
func ExampleGuard() {
	guard := ratelimit.Guard{
		Name:          "keys",
		PerIP:         policy.Lockout(3, time.Hour, 10*time.Minute, time.Hour),
		AfterResponse: true,
	}
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: guard.Rules()}))
	defer limits.Close()
	api := limits.Handler(http.HandlerFunc(passwords))

	login(api, "alice", "wrong")
	login(api, "alice", "right")
	login(api, "alice", "wrong")
	login(api, "bob", "wrong")
	login(api, "alice", "right")
	// Output:
	// alice wrong 401
	// alice right 200
	// alice wrong 401
	// bob wrong 401
	// alice right 429
}

func ExampleGuard_Rules() {
	guard := ratelimit.Guard{
		Name:    "login",
		Account: func(r *http.Request) (string, error) { return r.PostFormValue("email"), nil },
		Known:   func(*http.Request) bool { return false },
	}
	for _, rule := range guard.Rules() {
		fmt.Println(rule.Name, rule.Limits)
	}
	// Output:
	// login.ip [100 failures per 15 minutes, then blocked for 1h, 4h, 1d]
	// login.pair [10 failures per 15 minutes, then blocked for 1h, 4h, 1d]
	// login.account [100 failures per hour, then blocked for 1h, 4h, 1d]
}

// A form that is shown again, with 200, when the password was wrong.
func ExampleFailed() {
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Rules: ratelimit.Guard{Name: "login", PerIP: policy.Lockout(2, time.Hour)}.Rules(),
	}))
	defer limits.Close()
	form := limits.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Password") != "right" {
			if err := ratelimit.Failed(r.Context()); err != nil {
				fmt.Println(err)
			}
		}
	}))

	login(form, "alice", "wrong")
	login(form, "alice", "wrong")
	login(form, "alice", "right")
	// Output:
	// alice wrong 200
	// alice wrong 200
	// alice right 429
}

// A password that was right, but has expired: 403, and no failure.
func ExampleSucceeded() {
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Rules: ratelimit.Guard{Name: "login", PerIP: policy.Lockout(2, time.Hour)}.Rules(),
	}))
	defer limits.Close()
	expired := limits.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := ratelimit.Succeeded(r.Context()); err != nil {
			fmt.Println(err)
		}
		w.WriteHeader(http.StatusForbidden)
	}))

	login(expired, "alice", "old")
	login(expired, "alice", "old")
	login(expired, "alice", "old")
	// Output:
	// alice old 403
	// alice old 403
	// alice old 403
}

func ExampleLimiter_Unblock() {
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Rules: ratelimit.Guard{Name: "login", PerIP: policy.Lockout(1, time.Hour)}.Rules(),
	}))
	defer limits.Close()
	api := limits.Handler(http.HandlerFunc(passwords))

	login(api, "alice", "wrong")
	login(api, "alice", "right")
	until, err := limits.Blocked(context.Background(), "login.ip", "192.0.2.1")
	fmt.Println(time.Until(until) > 59*time.Minute, err)

	fmt.Println(limits.Unblock(context.Background(), "login.ip", "192.0.2.1"))
	login(api, "alice", "right")
	// Output:
	// alice wrong 401
	// alice right 429
	// true <nil>
	// <nil>
	// alice right 200
}

func ExampleLimiter_Blocked() {
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{
		Rules: ratelimit.Guard{
			Name:    "login",
			Account: func(r *http.Request) (string, error) { return r.Header.Get("Account"), nil },
			PerPair: policy.Lockout(1, time.Hour, 5*time.Second),
		}.Rules(),
	}))
	defer limits.Close()
	r := httptest.NewRecorder()
	limits.Handler(http.HandlerFunc(passwords)).ServeHTTP(r, func() *http.Request {
		r := httptest.NewRequest("POST", "/login", nil)
		r.RemoteAddr = "[2001:db8::1]:1234"
		r.Header.Set("Account", "Alice")
		return r
	}())

	for _, address := range []string{"2001:db8::2", "2001:db8:0:1::1"} {
		until, err := limits.Blocked(context.Background(), "login.pair", address, "alice")
		fmt.Println(address, !until.IsZero(), err)
	}
	// Output:
	// 2001:db8::2 true <nil>
	// 2001:db8:0:1::1 false <nil>
}
