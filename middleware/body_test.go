package middleware_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

type wordsKey struct{}

// A body is read once, and once for each key, and left as it was.
func TestReadBody(t *testing.T) {
	t.Parallel()
	times := 0
	words := func(text []byte) (int, error) {
		times++
		if len(text) == 0 {
			return 0, errors.New("nothing")
		}
		return len(strings.Fields(string(text))), nil
	}
	r := post(strings.NewReader("one two three"))
	for range 3 {
		n, err := ratelimit.ReadBody(r, 100, wordsKey{}, words)
		assert.NoError(t, err)
		assert.Equal(t, 3, n)
	}
	assert.Equal(t, 1, times)
	n, err := ratelimit.ReadBody(r, 100, "another key", func([]byte) (int, error) { return 9, nil })
	assert.NoError(t, err)
	assert.Equal(t, 9, n)
	rest, err := io.ReadAll(r.Body)
	assert.NoError(t, err)
	assert.Equal(t, "one two three", string(rest))

	_, err = ratelimit.ReadBody(post(strings.NewReader("one two three")), 12, wordsKey{}, words)
	assert.Equal(t, respond.BodyTooLarge, reasonOf(err))
	long := post(io.MultiReader(strings.NewReader("one two "), strings.NewReader("three")))
	_, err = ratelimit.ReadBody(long, 12, wordsKey{}, words)
	assert.Equal(t, respond.BodyTooLarge, reasonOf(err))
	for range 2 {
		_, err = ratelimit.ReadBody(post(http.NoBody), 12, wordsKey{}, words)
		assert.EqualError(t, err, "nothing")
	}
}

// What a Cost returns beside a CostError is charged.
func TestCostErrorWithUnits(t *testing.T) {
	t.Parallel()
	wrong := func(*http.Request) (int64, error) {
		return 4, &ratelimit.CostError{Reason: respond.InvalidQuery}
	}
	limits := ratelimit.Must(ratelimit.New(ratelimit.Config{Rules: []ratelimit.Rule{
		{Name: "points", Key: apiKey, Limits: []policy.Limit{policy.FixedWindow(10, 24*time.Hour)}, Cost: wrong},
	}}))
	defer limits.Close()
	h := limits.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it is served") }))
	var codes []int
	for range 4 {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-API-Key", "a")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		codes = append(codes, w.Code)
		if w.Code == 400 {
			require.Contains(t, w.Body.String(), `"code":"invalid_query"`)
		}
	}
	assert.Equal(t, []int{400, 400, 429, 429}, codes, "4 and 8 of 10, and then there is no room for another")
}
