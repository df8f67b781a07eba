package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/respond"
)

func byVersion(r *http.Request) string { return r.Header.Get("API-Version") }

// A request is answered in its own style, allowed or refused, by whatever makes
// the answer; all are counted together.
func TestStyleIsChosenByRequest(t *testing.T) {
	t.Parallel()
	old := respond.Style{Status: http.StatusConflict, Refusal: respond.Empty, Fields: []respond.FieldWriter{}}
	styles := map[string]respond.Style{"2": {Fields: []respond.FieldWriter{respond.RateLimit}}}
	limits := func(name string, n int64) *ratelimit.Limiter {
		return ratelimit.Must(ratelimit.New(ratelimit.Config{
			Name: name, Store: memstore.New(memstore.Options{}), Style: old, Styles: styles, StyleFor: byVersion,
			Rules: []ratelimit.Rule{{Name: "per_key", Key: apiKey, Limits: []policy.Limit{policy.PerDay(n)}}},
		}))
	}
	api := limits("api", 2)
	wider := ratelimit.Must(api.With(ratelimit.Rule{Name: "more", Key: apiKey, Limits: []policy.Limit{policy.PerDay(100)}}))
	styles["2"] = respond.Style{Status: 409} // too late: New has copied it
	outer := limits("outer", 1000)
	for name, h := range map[string]http.Handler{
		"one": api.Handler(http.HandlerFunc(ok)), "With": wider.Handler(http.HandlerFunc(ok)), "stacked": outer.Handler(api.Handler(http.HandlerFunc(ok))),
	} {
		get := func(version, key string) *httptest.ResponseRecorder {
			r := httptest.NewRequest("GET", "/", nil)
			if key != "" {
				r.Header.Set("X-API-Key", key)
			}
			r.Header.Set("API-Version", version)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		plain, modern := get("", name), get("2", name)
		assert.Equal(t, 200, plain.Code)
		assert.NotContains(t, plain.Header(), "Ratelimit")
		assert.NotContains(t, plain.Header(), "X-Ratelimit-Limit")
		assert.Equal(t, 200, modern.Code)
		assert.Contains(t, modern.Header().Get("Ratelimit"), "r=0;t=")
		for _, version := range []string{"", "1", "3"} {
			w := get(version, name)
			assert.Equal(t, 409, w.Code, "version %q", version)
			assert.Zero(t, w.Body.Len())
			assert.NotContains(t, w.Header(), "Ratelimit")
		}
		w := get("2", name)
		assert.Equal(t, 429, w.Code)
		assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		assert.Contains(t, w.Header().Get("Ratelimit"), "r=0;t=")
		assert.Equal(t, "application/problem+json", get("2", "").Header().Get("Content-Type"), "other refusals")
		assert.Empty(t, get("", "").Header().Get("Content-Type"))
	}

	shown := httptest.NewRequest("GET", "/", nil) // without a key
	w := httptest.NewRecorder()
	api.Limits().ServeHTTP(w, shown)
	assert.Empty(t, w.Body.String())
	shown.Header.Set("API-Version", "2")
	w = httptest.NewRecorder()
	api.Limits().ServeHTTP(w, shown)
	assert.Contains(t, w.Body.String(), "no_key")
}

func TestStylesAreValidated(t *testing.T) {
	t.Parallel()
	rules := []ratelimit.Rule{{Name: "per_key", Key: apiKey, Limits: []policy.Limit{policy.PerDay(1)}}}
	for want, c := range map[string]ratelimit.Config{
		"ratelimit: Styles without StyleFor: write which requests have which":                              {Styles: map[string]respond.Style{"2": {}}},
		"ratelimit: StyleFor without Styles: write the styles that it names":                               {StyleFor: byVersion},
		`ratelimit: Styles[""]: write it as Style, or under a name`:                                        {StyleFor: byVersion, Styles: map[string]respond.Style{"": {}}},
		`ratelimit: Styles["2"]: respond: Status 404: write 429, or 409 for clients that were promised it`: {StyleFor: byVersion, Styles: map[string]respond.Style{"2": {Status: 404}}},
	} {
		c.Rules = rules
		_, err := ratelimit.New(c)
		require.EqualError(t, err, want)
	}
}
