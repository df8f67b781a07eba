package middleware_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/go-chi/httprate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	ratelimit "github.com/stint-go/stint/middleware"
)

type contextKey string

var errTest = errors.New("test error")

func fixed(key string) ratelimit.KeyFunc {
	return func(*http.Request) (string, error) { return key, nil }
}

func failing(err error) ratelimit.KeyFunc {
	return func(*http.Request) (string, error) { return "", err }
}

// hashed is what a secret becomes: 128 bits of its SHA-256.
func hashed(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func TestKeyFuncs(t *testing.T) {
	t.Parallel()
	other := errors.New("some other error")
	long := strings.Repeat("k", 1<<20)
	mac := hmac.New(sha256.New, []byte("pepper"))
	mac.Write([]byte("alice"))
	tests := []struct {
		name   string
		key    ratelimit.KeyFunc
		header http.Header
		ctx    any // value of contextKey("account")
		want   string
		err    error // errTest stands for any error that is not ErrNoKey
	}{
		{name: "header", key: ratelimit.Header("x-api-key"), header: http.Header{"X-Api-Key": {"s3cret"}}, want: hashed("s3cret")},
		{name: "header with spaces around", key: ratelimit.Header("X-API-Key"), header: http.Header{"X-Api-Key": {" s3cret\t"}}, want: hashed("s3cret")},
		{name: "header of a megabyte", key: ratelimit.Header("X-API-Key"), header: http.Header{"X-Api-Key": {long}}, want: hashed(long)},
		{name: "header missing", key: ratelimit.Header("X-API-Key"), err: ratelimit.ErrNoKey},
		{name: "header empty", key: ratelimit.Header("X-API-Key"), header: http.Header{"X-Api-Key": {""}}, err: ratelimit.ErrNoKey},
		{name: "header blank", key: ratelimit.Header("X-API-Key"), header: http.Header{"X-Api-Key": {" "}}, err: ratelimit.ErrNoKey},
		{name: "header twice, equal", key: ratelimit.Header("X-API-Key"), header: http.Header{"X-Api-Key": {"a", "a"}}, want: hashed("a")},
		{name: "header twice, different", key: ratelimit.Header("X-API-Key"), header: http.Header{"X-Api-Key": {"a", "b"}}, err: errTest},
		{name: "bearer", key: ratelimit.Bearer(), header: http.Header{"Authorization": {"Bearer t0ken"}}, want: hashed("t0ken")},
		{name: "bearer in lower case", key: ratelimit.Bearer(), header: http.Header{"Authorization": {"bearer   t0ken "}}, want: hashed("t0ken")},
		{name: "bearer without token", key: ratelimit.Bearer(), header: http.Header{"Authorization": {"Bearer "}}, err: ratelimit.ErrNoKey},
		{name: "bearer of another scheme", key: ratelimit.Bearer(), header: http.Header{"Authorization": {"Basic dTpw"}}, err: ratelimit.ErrNoKey},
		{name: "bearer without scheme", key: ratelimit.Bearer(), header: http.Header{"Authorization": {"t0ken"}}, err: ratelimit.ErrNoKey},
		{name: "bearer twice, different", key: ratelimit.Bearer(), header: http.Header{"Authorization": {"Bearer a", "Bearer b"}}, err: errTest},
		{name: "context, string", key: ratelimit.FromContext(contextKey("account")), ctx: "acme", want: "acme"},
		{name: "context, stringer", key: ratelimit.FromContext(contextKey("account")), ctx: netip.MustParseAddr("192.0.2.1"), want: "192.0.2.1"},
		{name: "context, missing", key: ratelimit.FromContext(contextKey("account")), err: ratelimit.ErrNoKey},
		{name: "context, empty", key: ratelimit.FromContext(contextKey("account")), ctx: "", err: ratelimit.ErrNoKey},
		{name: "context, other type", key: ratelimit.FromContext(contextKey("account")), ctx: 42, err: errTest},
		{name: "join", key: ratelimit.Join(fixed("alice"), ratelimit.Method), want: "5:alice3:GET"},
		{name: "join with a missing part", key: ratelimit.Join(fixed("alice"), failing(ratelimit.ErrNoKey)), err: ratelimit.ErrNoKey},
		{name: "join with an empty part", key: ratelimit.Join(fixed("alice"), fixed("")), err: ratelimit.ErrNoKey},
		{name: "join of six long parts", key: ratelimit.Join(fixed("a"), fixed("b"), fixed("c"), fixed("d"), fixed("e"), fixed(long)), want: "1:a1:b1:c1:d1:e1048576:" + long},
		{name: "first", key: ratelimit.FirstOf(fixed("a"), fixed("b")), want: "a"},
		{name: "second", key: ratelimit.FirstOf(failing(ratelimit.ErrNoKey), fixed("b")), want: "b"},
		{name: "second after an empty one", key: ratelimit.FirstOf(fixed(""), fixed("b")), want: "b"},
		{name: "none of them", key: ratelimit.FirstOf(fixed(""), failing(ratelimit.ErrNoKey)), err: ratelimit.ErrNoKey},
		{name: "first fails", key: ratelimit.FirstOf(failing(other), fixed("b")), err: errTest},
		{name: "hmac", key: ratelimit.HMAC([]byte("pepper"), fixed("alice")), want: base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])},
		{name: "hmac without a key", key: ratelimit.HMAC([]byte("pepper"), fixed("")), err: ratelimit.ErrNoKey},
		{name: "httprate's own", key: httprate.JoinKeys(httprate.Key("a"), httprate.Key("b")), want: "a:b:"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest("GET", "/", nil)
			if test.header != nil {
				r.Header = test.header
			}
			if test.ctx != nil {
				r = r.WithContext(context.WithValue(r.Context(), contextKey("account"), test.ctx))
			}
			for range 2 { // the second time with what the first one pooled
				key, err := test.key(r)
				switch {
				case test.err == nil:
					require.NoError(t, err)
				case errors.Is(test.err, errTest):
					require.Error(t, err)
					require.NotErrorIs(t, err, ratelimit.ErrNoKey)
				default:
					require.ErrorIs(t, err, test.err)
				}
				assert.Equal(t, test.want, key)
			}
		})
	}
}

// Key functions and httprate's are one type, both ways.
var (
	_ ratelimit.KeyFunc = httprate.KeyByEndpoint
	_ ratelimit.KeyFunc = httprate.KeyFunc(nil)
	_ httprate.KeyFunc  = ratelimit.Header("X-API-Key")
	_                   = ratelimit.Join(httprate.KeyFunc(httprate.KeyByEndpoint), ratelimit.Method)
)

func TestHeaderAndBearerAgree(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-API-Key", "s3cret")
	r.Header.Set("Authorization", "Bearer s3cret")
	a, err := ratelimit.Header("X-API-Key")(r)
	require.NoError(t, err)
	b, err := ratelimit.Bearer()(r)
	require.NoError(t, err)
	assert.Equal(t, a, b, "a client that sends its secret another way must not get a second count")
	assert.NotContains(t, a, "s3cret")
}

// Two combinations of parts have one key only if they are equal.
func TestJoinIsInjective(t *testing.T) {
	t.Parallel()
	part := rapid.OneOf(rapid.StringMatching(`[0-9:a]{1,6}`), rapid.StringN(1, 200, -1))
	joined := func(t *rapid.T, parts []string) string {
		keys := make([]ratelimit.KeyFunc, len(parts))
		for i, p := range parts {
			keys[i] = fixed(p)
		}
		key, err := ratelimit.Join(keys...)(nil)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(part, 1, 5).Draw(t, "a")
		b := rapid.SliceOfN(part, 1, 5).Draw(t, "b")
		// Shift the border between two parts, which is where joins go wrong.
		if rapid.Bool().Draw(t, "shift") && len(a) > 1 {
			cut := rapid.IntRange(1, len(a[0]+a[1])-1).Draw(t, "cut")
			b = append([]string{(a[0] + a[1])[:cut], (a[0] + a[1])[cut:]}, a[2:]...)
		}
		if equal := strings.Join(quoted(a), ",") == strings.Join(quoted(b), ","); equal != (joined(t, a) == joined(t, b)) {
			t.Fatalf("%q and %q: equal is %v, but keys are %q and %q", a, b, equal, joined(t, a), joined(t, b))
		}
	})
}

func quoted(parts []string) []string {
	q := make([]string, len(parts))
	for i, p := range parts {
		q[i] = base64.StdEncoding.EncodeToString([]byte(p))
	}
	return q
}

func TestKeyFuncsPanicAtWiring(t *testing.T) {
	t.Parallel()
	for name, wire := range map[string]func(){
		"Header without a name": func() { ratelimit.Header("") },
		"FromContext of nil":    func() { ratelimit.FromContext(nil) },
		"Join of nothing":       func() { ratelimit.Join() },
		"Join of nil":           func() { ratelimit.Join(ratelimit.Method, nil) },
		"FirstOf of nothing":    func() { ratelimit.FirstOf() },
		"HMAC without secret":   func() { ratelimit.HMAC(nil, ratelimit.Method) },
		"HMAC of nil":           func() { ratelimit.HMAC([]byte("pepper"), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Panics(t, wire)
		})
	}
}

func TestMethod(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]string{
		"GET": "GET", "HEAD": "GET", "": "GET", "POST": "POST", "PUT": "PUT", "PATCH": "PATCH", "DELETE": "DELETE",
		"OPTIONS": "OPTIONS", "TRACE": "TRACE", "CONNECT": "CONNECT", "QUERY": "QUERY",
		"get": "_OTHER", "BREW": "_OTHER", "PROPFIND": "_OTHER",
	} {
		key, err := ratelimit.Method(&http.Request{Method: method})
		require.NoError(t, err)
		assert.Equal(t, want, key, "method %q", method)
	}
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	preflight := http.Header{"Origin": {"https://example.com"}, "Access-Control-Request-Method": {"PUT"}}
	tests := []struct {
		name string
		r    *http.Request
		want bool
	}{
		{"preflight", &http.Request{Method: "OPTIONS", Header: preflight}, true},
		{"other method", &http.Request{Method: "GET", Header: preflight}, false},
		{"no origin", &http.Request{Method: "OPTIONS", Header: http.Header{"Access-Control-Request-Method": {"PUT"}}}, false},
		{"plain OPTIONS", &http.Request{Method: "OPTIONS", Header: http.Header{"Origin": {"https://example.com"}}}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, ratelimit.Preflight(test.r))
		})
	}
}
