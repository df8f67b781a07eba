package middleware_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

func post(body io.Reader) *http.Request {
	r := httptest.NewRequest("POST", "/v1/events", body)
	r.Header.Set("X-API-Key", "a")
	return r
}

// reasonOf returns the reason of a CostError.
func reasonOf(err error) respond.Reason {
	if e, ok := errors.AsType[*ratelimit.CostError](err); ok {
		return e.Reason
	}
	return ""
}

func TestItems(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	const invalid, tooLarge = respond.InvalidBatch, respond.BatchTooLarge
	type want = any // how many, or the reason
	for _, field := range []struct {
		name  string
		batch ratelimit.Batch
		cases map[string]want
	}{
		{"a field", ratelimit.Batch{Field: "events", Max: 3}, map[string]want{
			`{"events":[]}`:      0,
			`{"events":[1]}`:     1,
			`{"events":[1,2,3]}`: 3,
			"\r\n\t {\n\"events\" : [ 1 ,\t2\r] , \"v\" : 1 } \n":                            2,
			`{"a":[1,2,3,4],"events":[{"events":[1,2,3,4]},[1,2,3,4]],"b":{"events":[1,2]}}`: 2,
			`{"b":{"events":[1,2]},"events":[[],{}]}`:                                        2,
			`{"a":"\"events\":[1,2,3]","events":["],[","\\","\"",{}][0]}`:                    invalid,
			`{"a":"\"events\":[1,2,3]","events":["],[","\\","\""]}`:                          3,
			`{"events":[1],"event":[1,2],"eventss":1,"events ":2}`:                           1,
			`{"\u0065vent\u0073":[1,2]}`:                                                     2,
			`{"a":"` + "\xff\xfe" + `","events":["` + "\xc3\x28" + `"]}`:                     1, // encoding/json puts U+FFFD in their place
			`{"events":["\ud800","\ud83d\ude00"]}`:                                           2,
			`{"events":[1e999999999,` + strings.Repeat("9", 1000) + `,-0.0E-1]}`:             3,
			`{"events":[` + nested(9_998) + `]}`:                                             1, // within an object and an array: 10,000
			`{"events":[` + nested(9_999) + `]}`:                                             invalid,

			`{"events":[1,2,3,4]}`:   tooLarge,
			`{"events":[[],{},"",0]`: invalid,

			``: invalid, ` `: invalid, `1`: invalid, `null`: invalid, `"events"`: invalid, `[1]`: invalid, `{}`: invalid, `{"a":[1]}`: invalid,
			`{"events":null}`: invalid, `{"events":{}}`: invalid, `{"events":"[]"}`: invalid, `{"events":1}`: invalid,
			`{"data":{"events":[1]}}`: invalid,
			`{"events":[1]}{}`:        invalid, `{"events":[1]} x`: invalid, `{"events":[1]},`: invalid, `{"events":[1]}]`: invalid, "{\"events\":[1]}\x00": invalid,
			"\ufeff" + `{"events":[1]}`: invalid, "\x00" + `{"events":[1]}`: invalid, "\v" + `{"events":[1]}`: invalid, "\u00a0" + `{"events":[1]}`: invalid,
			`{"events":[1,]}`: invalid, `{"events":[,1]}`: invalid, `{"events":[1 2]}`: invalid, `{"events":[1}]`: invalid, `{"events":[1]`: invalid, `{"events":[`: invalid,
			`{"events":[1],}`: invalid, `{,"events":[1]}`: invalid, `{"events"[1]}`: invalid, `{"events":}`: invalid, `{events:[1]}`: invalid, `{'events':[1]}`: invalid,
			`{"events":[01]}`: invalid, `{"events":[-]}`: invalid, `{"events":[1.]}`: invalid, `{"events":[.1]}`: invalid, `{"events":[1e]}`: invalid, `{"events":[+1]}`: invalid, `{"events":[0x1]}`: invalid,
			`{"events":[tru]}`: invalid, `{"events":[True]}`: invalid, `{"events":[nul`: invalid, `{"events":[NaN]}`: invalid,
			`{"events":["\x"]}`: invalid, `{"events":["\u12g4"]}`: invalid, `{"events":["\u12`: invalid, `{"events":["\u123`: invalid, `{"events":["\`: invalid, `{"events":["`: invalid, "{\"events\":[\"\n\"]}": invalid, `{"events":["\'"]}`: invalid,
			"{\"events\":[\"\x00\"]}": invalid, `{"events":[1]/**/}`: invalid,

			// Handlers differ in which of two they read.
			`{"events":[1],"events":[1,2]}`:           invalid,
			`{"events":[1],"\u0065vents":[1,2]}`:      invalid,
			`{"Events":[1]}`:                          invalid,
			`{"events":[1],"EVENTS":null}`:            invalid,
			`{"events":[1],"event\u017f":[1,2]}`:      invalid,
			`{"events":[1],"eventſ":[1,2]}`:           invalid,
			`{"events":[1],"event\u0053":[1,2]}`:      invalid,
			`{"\u0045\u0056\u0045\u004e\u0054ſ":[1]}`: invalid,
		}},
		{"another field", ratelimit.Batch{Field: "kéy😀"}, map[string]want{
			`{"kéy😀":[1,2,3,4]}`:                    4,
			`{"\u006b\u00e9y\ud83d\ude00":[1]}`:     1,
			"{\"\u212aéy😀\":[1]}":                   invalid, // the sign of kelvin
			`{"kéy😀":[1],"\u212aÉy\uD83D\uDE00":1}`: invalid,
			`{"kéy😀":[1],"kéy\ud83d\u0041":1,"kéy\ud83d":1,"kéy\ud83d\n":1,"\b\f\n\r\t\"\/\\":1}`: 1,
		}},
		{"an odd field", ratelimit.Batch{Field: "\b\f\n\r\t\"/\\\ufffdA"}, map[string]want{
			`{"\b\f\n\r\t\"\/\\\ud83d\u0041":[1,2]}`: 2,
			`{"\b\f\n\r\t\"/\\\ud83dA":[1,2]}`:       2,
			`{"\b\f\n\r\t\"/\\\udc00\u0061":[1,2]}`:  invalid,
			`{"\b\f\n\r\t\"/\\\ud83d\ud83d":[1,2]}`:  invalid,
		}},
		{"the body", ratelimit.Batch{Max: 3}, map[string]want{
			`[]`: 0, ` [ ] `: 0, `[[]]`: 1, `[1,[2,3,4,5],{"":[6]}]`: 3, `[null,null,null,null]`: tooLarge,
			nested(10_000): 1, nested(10_001): invalid,
			`{}`: invalid, `{"":[1]}`: invalid, `1`: invalid, `null`: invalid, ``: invalid, `[`: invalid, `[1,]`: invalid, `[1][2]`: invalid, `[1]]`: invalid,
		}},
		{"a field, or one item", ratelimit.Batch{Field: "events", Max: 3, Single: true}, map[string]want{
			`{"events":[1,2]}`: 2, `{"events":[]}`: 0, `{}`: 1, `{"name":"click","tags":[1,2,3,4]}`: 1, `{"event":{"events":[1,2]}}`: 1,
			`{"Events":[1,2]}`: invalid, `{"events":null}`: invalid, `{"events":{}}`: invalid, `{"name":1,"events":[1],"events":[2]}`: invalid,
			`[]`: invalid, `[{}]`: invalid, `null`: invalid, `1`: invalid, `{"name"}`: invalid, `{"name":1}{}`: invalid, `{"name":1`: invalid,
			`{"events":[1,2,3,4]}`: tooLarge,
		}},
		{"the body, or one item", ratelimit.Batch{Single: true}, map[string]want{
			`[1,2]`: 2, `{}`: 1, `{"a":[1,2]}`: 1, `{"a":1,"a":2}`: 1, `{"a"}`: invalid, `"a"`: invalid, `{}{}`: invalid, ``: invalid,
		}},
	} {
		for body, want := range field.cases {
			t.Run(field.name+"/"+strconv.Quote(body[:min(60, len(body))]), func(t *testing.T) {
				t.Parallel()
				r := post(strings.NewReader(body))
				n, err := field.batch.Cost(r)
				if reason, refused := want.(respond.Reason); refused {
					assert.Equal(t, reason, reasonOf(err), "%d, %v", n, err)
				} else {
					require.NoError(t, err)
					assert.EqualValues(t, want, n)
				}
				rest, err := io.ReadAll(r.Body)
				assert.NoError(t, err)
				assert.Equal(t, body, string(rest))
			})
		}
	}
}

func TestItemsTellsTheClient(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		batch       ratelimit.Batch
		body        string
		reason      respond.Reason
		status      int
		detail, err string
	}{
		{ratelimit.Batch{Field: "events", Max: 2}, `{"events":[1,2,3]}`, "batch_too_large", 400, "A batch has at most 2 items.", "batch_too_large: 3 items"},
		{ratelimit.Batch{Field: "events"}, `{}`, "invalid_batch", 400, `The body must be a JSON object with one array "events".`, "invalid_batch: it is an object without the field"},
		{ratelimit.Batch{Field: "events", Single: true}, `[]`, "invalid_batch", 400, `The body must be a JSON object with one array "events", or without it.`, "invalid_batch: it is neither a batch nor an object"},
		{ratelimit.Batch{}, `[1`, "invalid_batch", 400, "The body must be a JSON array.", "invalid_batch: it is not JSON"},
		{ratelimit.Batch{Single: true}, `1`, "invalid_batch", 400, "The body must be a JSON array, or an object that is one item.", "invalid_batch: it is neither a batch nor an object"},
		{ratelimit.Batch{MaxBytes: 3}, `[12]`, "body_too_large", 413, "The body may have at most 3 bytes.", "body_too_large: a Content-Length of 4"},
	} {
		_, err := test.batch.Cost(post(strings.NewReader(test.body)))
		e, ok := errors.AsType[*ratelimit.CostError](err)
		require.True(t, ok, test.body)
		assert.Equal(t, test.reason, e.Reason)
		assert.Equal(t, test.status, e.Reason.Status())
		assert.Equal(t, test.detail, e.Detail)
		assert.EqualError(t, err, test.err)
	}
}

func TestItemsWithoutABody(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]io.ReadCloser{"nil": nil, "NoBody": http.NoBody, "empty": io.NopCloser(strings.NewReader(""))} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Body = body
		_, err := ratelimit.Items("", 1)(r)
		assert.Equal(t, respond.InvalidBatch, reasonOf(err), name)
		if name != "empty" {
			assert.EqualError(t, err, "invalid_batch: there is no body")
			assert.Equal(t, body, r.Body)
		}
	}
}

func TestItemsBounds(t *testing.T) {
	t.Parallel()
	array := func(size int) string { return "[" + strings.Repeat(" ", size-2) + "]" }
	tests := []struct {
		name          string
		max           int64
		size          int
		contentLength int64
		reason        respond.Reason
		read          int // of the body
	}{
		{"the default", 0, 1 << 20, 1 << 20, "", 1 << 20},
		{"one byte more", 0, 1<<20 + 1, -1, respond.BodyTooLarge, 1<<20 + 1},
		{"many more", 0, 3 << 20, -1, respond.BodyTooLarge, 1<<20 + 1},
		{"as its length says", 0, 1<<20 + 1, 1<<20 + 1, respond.BodyTooLarge, 0},
		{"a length that lies low", 0, 1<<20 + 1, 5, respond.BodyTooLarge, 1<<20 + 1},
		{"a length that lies high", 0, 700_000, 1 << 20, "", 700_000},
		{"negative is the default", -1, 1 << 20, -1, "", 1 << 20},
		{"few", 100, 100, -1, "", 100},
		{"few and one", 100, 101, -1, respond.BodyTooLarge, 101},
		{"more than memory", 1<<63 - 1, 2 << 20, -1, "", 2 << 20},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			body := array(test.size)
			from := &counter{r: strings.NewReader(body)}
			r := post(from)
			r.ContentLength = test.contentLength
			n, err := ratelimit.Batch{MaxBytes: test.max}.Cost(r)
			assert.Zero(t, n)
			assert.Equal(t, test.reason, reasonOf(err))
			assert.Equal(t, test.reason == "", err == nil, err)
			assert.Equal(t, test.read, from.n)
			assert.Equal(t, test.contentLength, r.ContentLength)
			rest, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			assert.True(t, body == string(rest), "the body is not as it was")
		})
	}
}

// counter counts what is read through it.
type counter struct {
	r      io.Reader
	n      int
	closed int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func (c *counter) Close() error { c.closed++; return nil }

func TestItemsUnderMaxBytesReader(t *testing.T) {
	t.Parallel()
	r := post(strings.NewReader(`[1,2,3]`))
	r.Body = http.MaxBytesReader(nil, r.Body, 5)
	_, err := ratelimit.Items("", 10)(r)
	assert.Equal(t, respond.BodyTooLarge, reasonOf(err))
	e, _ := errors.AsType[*ratelimit.CostError](err)
	assert.Equal(t, "The body may have at most 5 bytes.", e.Detail)
	_, isTooLong := errors.AsType[*http.MaxBytesError](err)
	assert.True(t, isTooLong)

	rest, err := io.ReadAll(r.Body)
	assert.Equal(t, `[1,2,`, string(rest))
	_, isTooLong = errors.AsType[*http.MaxBytesError](err)
	assert.True(t, isTooLong, "the handler sees what it would have seen")
}

// However the bytes arrive, and however the handler asks for them.
func TestItemsLeavesTheBody(t *testing.T) {
	t.Parallel()
	body := `{"events":[` + strings.Repeat(`{"n":1},`, 5000) + `{}]}`
	for name, from := range map[string]func(io.Reader) io.Reader{
		"at once":            func(r io.Reader) io.Reader { return r },
		"byte by byte":       iotest.OneByteReader,
		"by halves":          iotest.HalfReader,
		"with the end":       iotest.DataErrReader,
		"nothing in between": func(r io.Reader) io.Reader { return &hesitant{r: r} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			below := &counter{r: from(strings.NewReader(body))}
			r := post(below)
			r.ContentLength = int64(len(body))
			n, err := ratelimit.Items("events", 5001)(r)
			require.NoError(t, err)
			assert.EqualValues(t, 5001, n)
			assert.EqualValues(t, len(body), r.ContentLength)

			require.NoError(t, iotest.TestReader(r.Body, []byte(body)))
			_, err = r.Body.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
			require.NoError(t, r.Body.Close())
			assert.Equal(t, 1, below.closed)
			_, err = r.Body.Read(make([]byte, 1))
			require.ErrorIs(t, err, http.ErrBodyReadAfterClose)
		})
	}
}

// hesitant reads nothing every other time.
type hesitant struct {
	r io.Reader
	n int
}

func (h *hesitant) Read(p []byte) (int, error) {
	if h.n++; h.n%2 == 1 {
		return 0, nil
	}
	return h.r.Read(p)
}

func TestItemsOfABodyThatBreaks(t *testing.T) {
	t.Parallel()
	gone := errors.New("the client has gone")
	below := &counter{r: io.MultiReader(strings.NewReader(`[1,2]`), iotest.ErrReader(gone))}
	r := post(below)
	for range 2 { // rules
		_, err := ratelimit.Items("", 10)(r)
		require.ErrorIs(t, err, gone)
		assert.Empty(t, reasonOf(err), "it is no fault of the batch")
	}
	rest, err := io.ReadAll(r.Body)
	assert.Equal(t, `[1,2]`, string(rest))
	require.ErrorIs(t, err, gone)
}

// A slow body is not waited for longer than the request lasts.
func TestItemsOfARequestThatEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	below := &counter{r: iotest.OneByteReader(io.MultiReader(strings.NewReader(`[1`), onRead(cancel), strings.NewReader(`,2]`)))}
	r := post(below).WithContext(ctx)
	_, err := ratelimit.Items("", 10)(r)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 3, below.n)

	n, err := ratelimit.Items("", 10)(r.WithContext(t.Context()))
	require.NoError(t, err, "the body is not to blame")
	assert.EqualValues(t, 2, n)
}

// onRead calls a function when it is read, and is empty.
type onRead func()

func (f onRead) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

// A body is read once and counted once for each field, whichever rules ask, of
// whichever copy of the request.
func TestItemsCountsOnce(t *testing.T) {
	t.Parallel()
	body := `{"a":[1,2],"b":[1,2,3],"c":` + `"` + strings.Repeat("x", 900_000) + `"}`
	below := &counter{r: strings.NewReader(body)}
	r := post(below)
	took := func(b ratelimit.Batch, want int64) time.Duration {
		start := time.Now()
		n, err := b.Cost(r)
		took := time.Since(start)
		require.NoError(t, err)
		assert.Equal(t, want, n)
		return took
	}
	a, b := ratelimit.Batch{Field: "a", Max: 10}, ratelimit.Batch{Field: "b"}
	first := took(a, 2)
	r = r.WithContext(context.WithValue(r.Context(), counter{}, 1))
	first = min(first, took(b, 3))
	again := time.Hour
	for range 10 {
		again = min(again, took(a, 2), took(b, 3))
	}
	assert.Less(t, again, first/10, "it was counted again")
	assert.Equal(t, len(body), below.n)

	_, err := ratelimit.Batch{Field: "a", Max: 1}.Cost(r)
	assert.Equal(t, respond.BatchTooLarge, reasonOf(err), "each rule has a maximum of its own")
	_, err = ratelimit.Batch{Field: "a", MaxBytes: 100}.Cost(r)
	assert.Equal(t, respond.BodyTooLarge, reasonOf(err), "and a length")
	_, err = ratelimit.Batch{Field: "d"}.Cost(r)
	assert.Equal(t, respond.InvalidBatch, reasonOf(err))
	n, err := ratelimit.Batch{Field: "d", Single: true}.Cost(r)
	require.NoError(t, err)
	assert.EqualValues(t, 1, n)
	rest, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	assert.Len(t, rest, len(body))
	took(a, 2) // also after the handler
}

// The rule with the longer bodies may come second.
func TestItemsOfTwoLengths(t *testing.T) {
	t.Parallel()
	body := `[` + strings.Repeat(`1,`, 1000) + `1]`
	small, large := ratelimit.Batch{MaxBytes: 100}, ratelimit.Batch{MaxBytes: 10_000}

	r := post(iotest.HalfReader(strings.NewReader(body)))
	_, err := small.Cost(r)
	assert.Equal(t, respond.BodyTooLarge, reasonOf(err))
	n, err := large.Cost(r)
	require.NoError(t, err)
	assert.EqualValues(t, 1001, n)
	rest, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	assert.Equal(t, body, string(rest))

	// But not after the handler: what it has read beyond the shorter is not kept.
	below := &counter{r: iotest.HalfReader(strings.NewReader(body))}
	r = post(below)
	_, err = small.Cost(r)
	assert.Equal(t, respond.BodyTooLarge, reasonOf(err))
	_, err = io.ReadFull(r.Body, make([]byte, 200))
	require.NoError(t, err)
	for range 2 {
		read := below.n
		_, err = large.Cost(r)
		assert.Equal(t, read, below.n)
		require.ErrorContains(t, err, "the handler has read of it already")
		_, err = small.Cost(r)
		assert.Equal(t, respond.BodyTooLarge, reasonOf(err))
		rest, err = io.ReadAll(r.Body)
		require.NoError(t, err)
	}
	assert.Empty(t, rest)
	require.NoError(t, r.Body.Close())
	assert.Equal(t, 1, below.closed, "it was read to its end, by the handler")
}

func TestItemsOfACodedBody(t *testing.T) {
	t.Parallel()
	const gzip = "\x1f\x8b\x08\x00\x00\x00"
	for _, test := range []struct {
		coding []string
		coded  bool
	}{
		{nil, false}, {[]string{""}, false}, {[]string{"identity"}, false}, {[]string{"Identity, identity ", "identity"}, false},
		{[]string{"gzip"}, true}, {[]string{"identity", "GZIP"}, true}, {[]string{"identity,br"}, true}, {[]string{"x"}, true},
	} {
		r := post(strings.NewReader(`[1,2]`))
		r.Header["Content-Encoding"] = test.coding
		n, err := ratelimit.Items("", 2)(r)
		require.NoError(t, err)
		assert.EqualValues(t, 2, n, "whatever it says it is: %q", test.coding)

		r = post(strings.NewReader(gzip))
		r.Header["Content-Encoding"] = test.coding
		n, err = ratelimit.Items("", 2)(r)
		if test.coded {
			require.NoError(t, err)
			assert.EqualValues(t, 1, n, test.coding)
		} else {
			assert.Equal(t, respond.InvalidBatch, reasonOf(err))
		}
		rest, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		assert.Equal(t, gzip, string(rest), "it is left as it is")
	}
}

// A batch is one request for the rate and n items for the quota; the next
// Limiter counts the same body.
func TestItemsOfLimiters(t *testing.T) {
	t.Parallel()
	store := newSpy()
	rate, quota, sessions := policy.PerMinute(100), policy.PerDay(1000), policy.PerHour(1000)
	outer := limiter(t, ratelimit.Config{Store: store, Rules: []ratelimit.Rule{
		{Name: "requests", Key: apiKey, Limits: []policy.Limit{rate}},
		{Name: "events", Key: apiKey, Limits: []policy.Limit{quota}, Cost: ratelimit.Items("events", 100)},
	}})
	inner := limiter(t, ratelimit.Config{Name: "inner", Store: store, Rules: []ratelimit.Rule{
		{Name: "events", Key: apiKey, Limits: []policy.Limit{quota}, Cost: ratelimit.Items("events", 100)},
		{Name: "sessions", Key: apiKey, Limits: []policy.Limit{sessions}, Cost: ratelimit.Batch{Field: "sessions", Single: true}.Cost},
	}})
	var got string
	router := chi.NewRouter()
	router.Use(outer.Handler)
	router.With(inner.Handler).Post("/v1/events", func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		got = string(body)
	})
	send := func(body string) int {
		w := httptest.NewRecorder()
		router.ServeHTTP(w, post(strings.NewReader(body)))
		return w.Code
	}
	const batch = `{"events":[{},{},{}],"sessions":["s","t"]}`
	require.Equal(t, 200, send(batch))
	assert.Equal(t, batch, got)
	require.Equal(t, 200, send(`{"events":[{}]}`))
	require.Equal(t, 200, send(`{"events":[]}`))
	require.Equal(t, 400, send(`{"events":[`+strings.Repeat(`1,`, 100)+`1]}`))
	assert.EqualValues(t, 4, used(t, store, "api", "events", hashed("a"), quota))
	assert.EqualValues(t, 4, used(t, store, "inner", "events", hashed("a"), quota))
	assert.EqualValues(t, 4, used(t, store, "inner", "sessions", hashed("a"), sessions))
	assert.GreaterOrEqual(t, used(t, store, "api", "requests", hashed("a"), rate), int64(3))
}

// Two Checks of one request may run at once, behind a Limiter that has read it.
func TestItemsAtOnce(t *testing.T) {
	t.Parallel()
	r := post(strings.NewReader(`{"a":[1,2],"b":[1]}`))
	_, err := ratelimit.Items("a", 10)(r)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			n, err := ratelimit.Items(string(rune('a'+i%2)), 10)(r)
			assert.NoError(t, err)
			assert.EqualValues(t, 2-i%2, n)
		})
	}
	body, err := io.ReadAll(r.Body)
	assert.NoError(t, err)
	assert.Len(t, body, 19)
	wg.Wait()
}

// overServer asks for a cost as a server's request comes in, and answers with
// it, or with why it is refused, and the body.
func overServer(batch ratelimit.Batch) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, err := batch.Cost(r)
		if err != nil {
			reason := reasonOf(err)
			if reason == "" {
				reason = respond.InvalidCost
			}
			w.WriteHeader(reason.Status())
			_, _ = io.WriteString(w, err.Error())
			return
		}
		body, err := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%d %d %d %v", n, r.ContentLength, len(body), err)
	}
}

func TestItemsOverServers(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewUnstartedServer(overServer(ratelimit.Batch{Field: "events", Max: 50_000, MaxBytes: 100_000}))
			srv.EnableHTTP2 = proto == "HTTP/2.0"
			srv.StartTLS()
			defer srv.Close()
			client := srv.Client()
			client.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
			send := func(body io.Reader, expect string) (int, string) {
				r, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL, body)
				require.NoError(t, err)
				if expect != "" {
					r.Header.Set("Expect", expect)
				}
				res, err := client.Do(r)
				require.NoError(t, err)
				defer res.Body.Close()
				assert.Equal(t, proto, res.Proto)
				answer, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				return res.StatusCode, string(answer)
			}
			batch := `{"events":[` + strings.Repeat(`1,`, 40_000) + `1]}` // 80,014 bytes
			for _, expect := range []string{"", "100-continue"} {
				code, answer := send(strings.NewReader(batch), expect)
				assert.Equal(t, 200, code)
				assert.Equal(t, "40001 80014 80014 <nil>", answer)
				code, answer = send(io.MultiReader(strings.NewReader(batch)), expect) // chunked
				assert.Equal(t, 200, code)
				assert.Equal(t, "40001 -1 80014 <nil>", answer)
				code, answer = send(io.MultiReader(strings.NewReader(batch+strings.Repeat(" ", 19_987))), expect)
				assert.Equal(t, 413, code, answer)
				code, _ = send(http.NoBody, expect)
				assert.Equal(t, 400, code)
				code, _ = send(strings.NewReader(`{"events":[`), expect)
				assert.Equal(t, 400, code)
			}
			// Who asks before sending has not sent what is refused by its length.
			large := &counter{r: strings.NewReader(batch + batch)}
			r, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL, large)
			require.NoError(t, err)
			r.ContentLength = int64(2 * len(batch))
			r.Header.Set("Expect", "100-continue")
			res, err := client.Do(r)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			assert.Equal(t, 413, res.StatusCode)
			assert.Zero(t, large.n)
		})
	}
}

// A Content-Length that promises more than comes, and one that promises less:
// what is beyond it is the next request.
func TestItemsOfALengthThatLies(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(overServer(ratelimit.Batch{}))
	defer srv.Close()
	send := func(text string) (answers []string) {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, text)
		require.NoError(t, err)
		require.NoError(t, c.(*net.TCPConn).CloseWrite())
		from := bufio.NewReader(c)
		for {
			res, err := http.ReadResponse(from, nil)
			if err != nil {
				return answers
			}
			body, _ := io.ReadAll(res.Body)
			answers = append(answers, strconv.Itoa(res.StatusCode)+" "+string(body))
		}
	}
	assert.Equal(t, []string{"400 the body could not be read: unexpected EOF"},
		send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n[1,2]"))
	answers := send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n[1],2]\r\n\r\n")
	require.Len(t, answers, 2)
	assert.Equal(t, "200 1 3 3 <nil>", answers[0])
	assert.Equal(t, "400", answers[1][:3])
	assert.Equal(t, []string{"200 2 -1 5 <nil>"},
		send("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n3\r\n,2]\r\n0\r\n\r\n"))
}

// What is left of a body that was refused, but handled and closed all the same,
// is not taken for the next request on the connection.
func TestItemsLeavesNoRequestBehind(t *testing.T) {
	t.Parallel()
	paths := make(chan string, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		paths <- r.URL.Path
		_, err := ratelimit.Batch{MaxBytes: 9}.Cost(r)
		assert.Equal(t, respond.BodyTooLarge, reasonOf(err))
		assert.NoError(t, r.Body.Close())
		_, err = r.Body.Read(make([]byte, 1))
		assert.ErrorIs(t, err, http.ErrBodyReadAfterClose)
	}))
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	// After an early Close net/http reads 256 KiB more. The next request is there.
	body := strings.Repeat("x", 10+256*1024) + strings.Repeat("GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", 10)
	_, err = fmt.Fprintf(c, "POST /first HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	_, _ = io.Copy(io.Discard, c)
	srv.Close()
	close(paths)
	for path := range paths {
		assert.Equal(t, "/first", path)
	}
}

// A hundred megabytes cost a client as much memory as one.
func TestItemsMemory(t *testing.T) {
	allocated := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	for _, contentLength := range []int64{-1, 100 << 20, 1 << 20} {
		r := post(nil)
		r.Body, r.ContentLength = io.NopCloser(io.LimitReader(spaces{}, 100<<20)), contentLength
		assert.Less(t, allocated(func() {
			_, err := ratelimit.Items("events", 100)(r)
			assert.Equal(t, respond.BodyTooLarge, reasonOf(err))
		}), uint64(8<<20), contentLength)
		assert.Less(t, allocated(func() {
			n, err := io.Copy(io.Discard, r.Body)
			assert.NoError(t, err)
			assert.EqualValues(t, 100<<20, n)
		}), uint64(1<<20), "what is beyond the limit is not kept")
	}
	// Who only says that much will come has not sent it.
	r := post(nil)
	r.Body, r.ContentLength = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF)), 1<<20
	assert.Less(t, allocated(func() {
		_, err := ratelimit.Items("events", 100)(r)
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}), uint64(64<<10))
}

// spaces is JSON without an end.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) { return copy(p, manySpaces), nil }

var manySpaces = strings.Repeat(" ", 64<<10)

func TestCostError(t *testing.T) {
	t.Parallel()
	assert.EqualError(t, &ratelimit.CostError{}, "invalid_cost")
	assert.EqualError(t, &ratelimit.CostError{Reason: respond.BatchTooLarge, Detail: "A sentence."}, "batch_too_large")
	err := error(&ratelimit.CostError{Reason: respond.BodyTooLarge, Err: io.ErrUnexpectedEOF})
	assert.EqualError(t, err, "body_too_large: unexpected EOF")
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// Pieces of JSON in any order: more of them come near to a batch than a fuzzer's
// bytes do.
func TestItemsOfPieces(t *testing.T) {
	t.Parallel()
	pieces := strings.Split(`{ } [ ] , : "events" "events":[ {"events":[ "Events" "event\u017f" "\u0065vents" "" "a": "\" "\ " \u -0 01 1.5e+3 1. e true false null [] {} [1,2]`, " ")
	pieces = append(pieces, " ", "\n", "\xff", "\x00", "]}", "]}", "],", `}`, `]`)
	rapid.Check(t, func(t *rapid.T) {
		body := strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 12).Draw(t, "pieces"), "")
		matchOracle(t, body, rapid.Bool().Draw(t, "single"))
	})
}

// FuzzItems holds the count to encoding/json: what is accepted has as many items
// for a handler, and all is accepted that two handlers cannot read in two ways.
func FuzzItems(f *testing.F) {
	for _, seed := range []string{
		`{"events":[1,2,{"a":"\u00e9\n"}],"a":null}`, `[true,false,null,-1.5e+3,""]`, `{"\u0065vents":[[]]}`, `{"Events":[1],"eventſ":[1]}`,
		`{"events":[1],"events":[]}`, `{"a":{"events":[1]}}`, "\ufeff[]", "[\"\xff\"]", `{"events":["\ud83d\ude00"]}`, ` { "events" : [ ] } `, `{"Events":0}`,
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, body string, single bool) { matchOracle(t, body, single) })
}

func matchOracle(t interface{ Fatalf(string, ...any) }, body string, single bool) {
	for _, field := range []string{"events", ""} {
		r := &http.Request{Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}
		n, err := ratelimit.Batch{Field: field, Single: single}.Cost(r)
		want, ok := oracle(body, field, single)
		if ok != (err == nil) || n != want {
			t.Fatalf("%q, field %q: counted %d, %v; want %d, %v", body, field, n, err, want, ok)
		}
		if err != nil {
			if reasonOf(err) != respond.InvalidBatch {
				t.Fatalf("%q, field %q: %v", body, field, err)
			}
			continue
		}
		if found, err := unmarshaled(body, field, single); err != nil || found != n {
			t.Fatalf("%q, field %q: counted %d, and a handler found %d, %v", body, field, n, found, err)
		}
	}
}

// unmarshaled is how many items a handler finds.
func unmarshaled(body, field string, single bool) (int64, error) {
	var array []json.RawMessage
	var object struct{ Events []json.RawMessage }
	into, isArray := any(&object), strings.HasPrefix(strings.TrimLeft(body, " \t\r\n"), "[")
	switch {
	case field == "" && isArray:
		into = &array
	case field == "":
		into = &map[string]json.RawMessage{} // one item, whatever is in it
	}
	err := json.Unmarshal([]byte(body), into)
	n := len(array) + len(object.Events)
	if single && !isArray && (field == "" || object.Events == nil) {
		n = 1
	}
	return int64(n), err
}

// oracle is how many items a batch has, by encoding/json's tokens, and whether
// it is one.
func oracle(body, field string, single bool) (n int64, ok bool) {
	if !json.Valid([]byte(body)) {
		return 0, false
	}
	d := json.NewDecoder(strings.NewReader(body))
	skip := func() int64 {
		var items []json.RawMessage
		var value json.RawMessage
		_ = d.Decode(&value)
		if !bytes.HasPrefix(value, []byte("[")) || json.Unmarshal(value, &items) != nil {
			return -1
		}
		return int64(len(items))
	}
	if field == "" {
		if n := skip(); n >= 0 {
			return n, true
		}
		one := single && strings.HasPrefix(strings.TrimSpace(body), "{")
		return map[bool]int64{true: 1}[one], one
	}
	if root, _ := d.Token(); root != json.Delim('{') {
		return 0, false
	}
	n = -1
	for d.More() {
		key, _ := d.Token()
		items := skip()
		switch {
		case !strings.EqualFold(key.(string), field):
		case key != field, items < 0, n >= 0:
			return 0, false
		default:
			n = items
		}
	}
	if n < 0 && single {
		return 1, true
	}
	return max(0, n), n >= 0
}

// BenchmarkItems counts the items of a request's body. "again" is a second rule
// of the same request, and "unmarshal" what the handler does with the same body.
func BenchmarkItems(b *testing.B) {
	for _, items := range []int{1, 100, 6000} {
		var text strings.Builder
		text.WriteString(`{"source":"web","events":[`)
		for i := range items {
			if i > 0 {
				text.WriteByte(',')
			}
			fmt.Fprintf(&text, `{"id":"%032x","kind":"page_view","at":%d,"props":{"path":"/items/%d","ref":null,"tags":["a","b"],"w":%d.5}}`, i, 1768213860+i, i, i)
		}
		text.WriteString(`]}`)
		body := []byte(text.String())
		cost := ratelimit.Items("events", 10_000)
		request := func() *http.Request {
			r := post(nil)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			return r
		}
		run := func(name string, f func() (int64, error)) {
			b.Run(fmt.Sprintf("bytes=%d/%s", len(body), name), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(body)))
				for b.Loop() {
					if n, err := f(); err != nil || n != int64(items) {
						b.Fatal(n, err)
					}
				}
			})
		}
		fresh, asked := request(), request()
		reader := bytes.NewReader(body)
		run("first", func() (int64, error) {
			reader.Reset(body)
			fresh.Body = io.NopCloser(reader)
			return cost(fresh)
		})
		_, _ = cost(asked)
		run("again", func() (int64, error) { return cost(asked) })
		run("unmarshal", func() (int64, error) { return unmarshaled(string(body), "events", false) })
	}
}
