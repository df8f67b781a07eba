package respond_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

func TestRefuseByTheZeroStyle(t *testing.T) {
	t.Parallel()
	for name, style := range map[string]*respond.Style{"zero": {}, "nil": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			style.Refuse(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody), report(refused(policy.FixedWindow(60, time.Minute), 1)))
			assert.Equal(t, http.StatusTooManyRequests, w.Code)
			assert.Equal(t, map[string]string{
				"Cache-Control":         "no-store",
				"Content-Length":        strconv.Itoa(w.Body.Len()),
				"Content-Type":          "application/problem+json",
				"Retry-After":           "13",
				"X-Ratelimit-Limit":     "60",
				"X-Ratelimit-Remaining": "0",
				"X-Ratelimit-Reset":     "1768213860",
			}, flat(t, w.Header()))
			assert.JSONEq(t, `{
				"type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
				"title": "Quota Exceeded",
				"status": 429,
				"detail": "Over the limit of 60 per minute.",
				"code": "rate_limit_exceeded",
				"retry_after": 13,
				"violated-policies": ["per_key"]
			}`, w.Body.String())
		})
	}
}

func TestRefuseStatus(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		style  respond.Style
		denial respond.Denial
		want   int
	}{
		{"of the reason", respond.Style{}, respond.Denial{Reason: respond.NoKey}, 400},
		{"of the denial", respond.Style{}, respond.Denial{Reason: respond.NoKey, Status: 401}, 401},
		{"409 instead of 429", respond.Style{Status: 409}, respond.Denial{Reason: respond.Blocked}, 409},
		{"409 instead of a denial's 429", respond.Style{Status: 409}, respond.Denial{Status: 429}, 409},
		{"409 instead of no other", respond.Style{Status: 409}, respond.Denial{Reason: respond.StoreUnavailable, Status: 503}, 503},
		{"not an error status", respond.Style{}, respond.Denial{Status: 200}, 429},
		{"one that net/http panics on", respond.Style{Status: 99}, respond.Denial{Status: 1000}, 429},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			tt.style.Refuse(w, nil, &respond.Report{Denial: &tt.denial})
			assert.Equal(t, tt.want, w.Code)
			var problem struct{ Status int }
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &problem))
			assert.Equal(t, tt.want, problem.Status, "the body says the status that was sent")
		})
	}
}

// A refusal speaks for itself: what others said of the response that is not
// sent is gone.
func TestRefuseRemovesWhatOthersSaid(t *testing.T) {
	t.Parallel()
	set := func(h http.Header) {
		for name, value := range map[string]string{
			"Content-Length": "5", "Content-Encoding": "gzip", "Content-Type": "image/png",
			"ETag": `"1"`, "Last-Modified": "Mon, 12 Jan 2026 10:31:00 GMT", "Expires": "Mon, 12 Jan 2027 10:31:00 GMT",
			"Cache-Control": "max-age=3600", "Retry-After": "7", "X-Request-Id": "kept",
		} {
			h.Set(name, value)
		}
		h.Add("Retry-After", "8")
	}
	tests := []struct {
		name   string
		style  respond.Style
		report *respond.Report
		want   map[string]string
	}{
		{
			"with a wait", respond.Style{Refusal: respond.Text}, report(refused(policy.FixedWindow(60, time.Minute), 1)),
			map[string]string{"Cache-Control": "no-store", "Content-Length": "54", "Content-Type": "text/plain; charset=utf-8", "Retry-After": "13", "X-Request-Id": "kept"},
		},
		{
			"without one, and without a body", respond.Style{Refusal: respond.Empty}, report(refused(policy.FixedWindow(60, time.Minute), 61)),
			map[string]string{"Cache-Control": "no-store", "Content-Length": "0", "X-Request-Id": "kept"},
		},
		{
			"fields of the style's own",
			respond.Style{Refusal: respond.Text, Header: http.Header{"cache-control": {"no-cache"}, "Content-Type": {"text/x-legacy"}, "X-Legacy": {"1"}}},
			report(refused(policy.FixedWindow(60, time.Minute), 1)),
			map[string]string{"Cache-Control": "no-cache", "Content-Length": "54", "Content-Type": "text/x-legacy", "Retry-After": "13", "X-Request-Id": "kept", "X-Legacy": "1"},
		},
		{
			"a style that was not validated cannot say them",
			respond.Style{Refusal: respond.Empty, Header: http.Header{"Retry-After": {"1"}, "Content-Length": {"99"}}},
			report(refused(policy.FixedWindow(60, time.Minute), 61)),
			map[string]string{"Cache-Control": "no-store", "Content-Length": "0", "X-Request-Id": "kept"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			set(w.Header())
			tt.style.Fields = []respond.FieldWriter{}
			tt.style.Refuse(w, nil, tt.report)
			assert.Equal(t, tt.want, flat(t, w.Header()))
			assert.Equal(t, tt.want["Content-Length"], strconv.Itoa(w.Body.Len()))
		})
	}
}

func TestStyleHeaderIsNotSharedByRequests(t *testing.T) {
	t.Parallel()
	values := append(make([]string, 0, 8), "a")
	style := respond.Style{Header: http.Header{"X-Legacy": values}}
	for range 2 {
		w := httptest.NewRecorder()
		style.Refuse(w, nil, nil)
		w.Header().Add("X-Legacy", "b")
	}
	assert.Equal(t, []string{"a", ""}, values[:2])
}

func TestRefuseOverTheWire(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			t.Run(proto+" "+method, func(t *testing.T) {
				t.Parallel()
				style := respond.Style{Fields: []respond.FieldWriter{respond.RateLimit, respond.XRateLimit}}
				server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					w.Header().Set("Content-Encoding", "gzip")
					style.Refuse(w, req, report(refused(policy.FixedWindow(60, time.Minute), 1)))
				}))
				server.EnableHTTP2 = proto == "HTTP/2.0"
				server.StartTLS()
				defer server.Close()

				req, err := http.NewRequestWithContext(t.Context(), method, server.URL, strings.NewReader("unread"))
				require.NoError(t, err)
				res, err := server.Client().Do(req)
				require.NoError(t, err)
				body, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				require.NoError(t, res.Body.Close())

				assert.Equal(t, proto, res.Proto)
				assert.Equal(t, http.StatusTooManyRequests, res.StatusCode)
				assert.Equal(t, []string{"13"}, res.Header["Retry-After"])
				assert.Equal(t, []string{"no-store"}, res.Header["Cache-Control"])
				assert.Equal(t, []string{`"per_key";r=0;t=13`}, res.Header["Ratelimit"])
				assert.Equal(t, []string{"0"}, res.Header["X-Ratelimit-Remaining"])
				assert.Equal(t, "application/problem+json", res.Header.Get("Content-Type"))
				assert.NotContains(t, res.Header, "Content-Encoding")
				if method == http.MethodHead {
					assert.Empty(t, body)
					assert.Positive(t, res.ContentLength)
					return
				}
				assert.Len(t, body, int(res.ContentLength))
				assert.True(t, json.Valid(body))
			})
		}
	}
}

func TestRefuseHeadWritesNoBody(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	new(respond.Style).Refuse(w, httptest.NewRequest(http.MethodHead, "/", http.NoBody), nil)
	assert.Zero(t, w.Body.Len())
	assert.NotEqual(t, "0", w.Header().Get("Content-Length"))
}

// Whatever the names and numbers: one Retry-After that is never before the
// truth, resets that are not before it either, bodies that say the same, and
// nothing that breaks a header.
func TestRefuseTellsTheTruth(t *testing.T) {
	t.Parallel()
	type body struct{ After int64 }
	rapid.Check(t, func(t *rapid.T) {
		r := anyReport(t)
		exact := *r.Denial
		style := respond.Style{
			Fields: []respond.FieldWriter{
				respond.XRateLimit, respond.XRateLimitPerWindow, respond.RateLimit,
				respond.Fields{Scope: "S", ResetAfter: "A", Reset: "D", ResetAs: respond.DeltaSeconds},
			},
			Refusal:      respond.JSON(func(d respond.Denial) any { return body{d.Seconds()} }),
			ExposeFields: rapid.Bool().Draw(t, "expose"),
			RetryJitter:  time.Duration(rapid.OneOf(rapid.Int64Range(0, int64(time.Minute)), rapid.Int64Min(0)).Draw(t, "jitter")),
		}
		require.NoError(t, style.Validate())
		w := httptest.NewRecorder()
		style.Refuse(w, nil, r)
		h := w.Header()
		assert.Equal(t, exact, *r.Denial, "the report is not changed")

		var said body
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &said))
		if exact.RetryAfter <= 0 {
			assert.NotContains(t, h, "Retry-After")
			assert.Zero(t, said.After)
		} else {
			require.Len(t, h["Retry-After"], 1)
			seconds, err := strconv.ParseInt(h.Get("Retry-After"), 10, 64)
			require.NoError(t, err)
			assert.Equal(t, seconds, said.After)
			assert.GreaterOrEqual(t, seconds, exact.Seconds())
			assert.LessOrEqual(t, int64(1), seconds)
			assert.LessOrEqual(t, seconds, int64(2_147_483))
		}
		if b := r.Binding(); b != nil && b.Result.Verdict == policy.Refused {
			reset, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64)
			require.NoError(t, err)
			assert.False(t, time.Unix(reset, 0).Before(r.Now.Add(b.Result.RetryAfter)), "not before the truth")
			delta, err := strconv.ParseInt(h.Get("D"), 10, 64)
			require.NoError(t, err)
			assert.GreaterOrEqual(t, delta, said.After, "not before Retry-After")
		}
		for name, values := range h {
			require.Len(t, values, 1, name)
			for _, c := range []byte(name + values[0]) {
				require.True(t, ' ' <= c && c <= '~', "%q: %q", name, values[0])
			}
		}

		var wire strings.Builder
		require.NoError(t, h.Write(&wire))
		parsed, err := http.ReadResponse(bufio.NewReader(strings.NewReader("HTTP/1.1 429 \r\n"+wire.String()+"\r\n")), nil)
		require.NoError(t, err)
		defer parsed.Body.Close()
		assert.Len(t, parsed.Header, len(h))
	})
}

func TestRetryJitter(t *testing.T) {
	t.Parallel()
	style := respond.Style{
		Fields:      []respond.FieldWriter{respond.Fields{Reset: "Reset", ResetAs: respond.DeltaSeconds}},
		Refusal:     respond.JSON(func(d respond.Denial) any { return d.RetryAfter }),
		RetryJitter: 10 * time.Second,
	}
	seen := make(map[string]bool)
	for range 200 {
		w := httptest.NewRecorder()
		style.Refuse(w, nil, report(refused(policy.FixedWindow(60, time.Minute), 1)))
		after := w.Header().Get("Retry-After")
		assert.Equal(t, after, w.Header().Get("Reset"), "the field says the same")
		var said time.Duration
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &said))
		assert.GreaterOrEqual(t, said, 12_500*time.Millisecond)
		assert.LessOrEqual(t, said, 22_500*time.Millisecond)
		assert.Equal(t, after, strconv.Itoa(int((said+time.Second-1)/time.Second)), "and so does the body")
		seen[after] = true
	}
	assert.GreaterOrEqual(t, len(seen), 5, "clients are spread")

	longest := refused(policy.FixedWindow(60, time.Minute), 1)
	longest.Result.RetryAfter = math.MaxInt64
	for range 20 {
		w := httptest.NewRecorder()
		style.Refuse(w, nil, report(longest))
		assert.Equal(t, "2147483", w.Header().Get("Retry-After"), "no overflow")
		assert.Equal(t, "9223372037", w.Header().Get("Reset"), "no overflow")
	}

	w := httptest.NewRecorder()
	style.Refuse(w, nil, report(refused(policy.FixedWindow(60, time.Minute), 61)))
	assert.NotContains(t, w.Header(), "Retry-After", "what waiting does not mend is not jittered into a wait")
}

func TestExposeFields(t *testing.T) {
	t.Parallel()
	const field = "Access-Control-Expose-Headers"
	const ours = "X-Ratelimit-Limit, X-Ratelimit-Remaining, X-Ratelimit-Reset"
	tests := []struct {
		name   string
		before []string
		want   string
	}{
		{"none before", nil, ours},
		{"others before", []string{"Link", "ETag"}, "Link, ETag, " + ours},
		{"some of them before", []string{"link,x-ratelimit-reset , X-RateLimit-Limit"}, "link,x-ratelimit-reset , X-RateLimit-Limit, X-Ratelimit-Remaining"},
		{"a wildcard, which means nothing with credentials", []string{"*"}, "*, " + ours},
	}
	style := respond.Style{ExposeFields: true}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			h := w.Header()
			if tt.before != nil {
				h[field] = tt.before
			}
			allowed := report(taken(policy.PerMinute(60), 12))
			style.WriteFields(h, allowed)
			style.WriteFields(h, allowed)
			assert.Equal(t, []string{tt.want}, h[field])
			style.Refuse(w, nil, report(refused(policy.PerMinute(60), 1)))
			assert.Equal(t, []string{tt.want + ", Retry-After"}, h[field])
		})
	}
	t.Run("nothing to tell", func(t *testing.T) {
		t.Parallel()
		h := make(http.Header)
		style.WriteFields(h, report())
		assert.Empty(t, h)
	})
}

func TestStyleValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		style respond.Style
		want  string
	}{
		{"zero", respond.Style{}, ""},
		{"429", respond.Style{Status: 429}, ""},
		{"409", respond.Style{Status: 409, Header: http.Header{"cache-control": {"no-cache"}}}, ""},
		{"no fields", respond.Style{Fields: []respond.FieldWriter{}}, ""},
		{"503", respond.Style{Status: 503}, "Status 503: write 429"},
		{"200", respond.Style{Status: 200}, "Status 200: write 429"},
		{"backwards", respond.Style{RetryJitter: -1}, "RetryJitter -1ns: write zero or more"},
		{"nil writer", respond.Style{Fields: []respond.FieldWriter{respond.RateLimit, nil}}, "Fields[1] is nil"},
		{"nil shape", respond.Style{Refusal: respond.JSON(nil)}, "JSON(nil)"},
		{"empty name", respond.Style{Header: http.Header{"": {"1"}}}, "empty field name"},
		{"name with a line break", respond.Style{Header: http.Header{"X\nY": {"1"}}}, `"X\nY": write letters`},
		{"value with a line break", respond.Style{Header: http.Header{"X-Note": {"a\r\nSet-Cookie: b"}}}, "field X-Note: value"},
		{"value with a control character", respond.Style{Header: http.Header{"X-Note": {"a\x7f"}}}, "field X-Note: value"},
		{"no value", respond.Style{Header: http.Header{"X-Note": nil}}, "X-Note without a value"},
		{"twice", respond.Style{Header: http.Header{"X-Note": {"1"}, "x-note": {"2"}}}, "X-Note twice"},
		{"Retry-After", respond.Style{Header: http.Header{"retry-after": {"1"}}}, `"Retry-After": it is not a style's`},
		{"Content-Length", respond.Style{Header: http.Header{"Content-Length": {"1"}}}, `"Content-Length": it is not a style's`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.style.Validate()
			if tt.want == "" {
				require.NoError(t, err)
				require.NoError(t, tt.style.Validate(), "again")
				return
			}
			require.ErrorContains(t, err, tt.want)
			assert.True(t, strings.HasPrefix(err.Error(), "respond: "), err)
			// A style that nobody validated still answers.
			tt.style.Refuse(httptest.NewRecorder(), nil, report(refused(policy.PerMinute(60), 1)))
		})
	}
	require.NoError(t, (*respond.Style)(nil).Validate())
}

func TestStyleValidateKeepsTheCallersSlices(t *testing.T) {
	t.Parallel()
	fields := []respond.FieldWriter{respond.Fields{Limit: "x-limit"}}
	header := http.Header{"x-note": {"1"}}
	style := respond.Style{Fields: fields, Header: header}
	require.NoError(t, style.Validate())
	assert.Equal(t, respond.Fields{Limit: "x-limit"}, fields[0])
	assert.Equal(t, http.Header{"x-note": {"1"}}, header)
	assert.Contains(t, fmt.Sprintf("%+v", style.Fields[0]), "Limit:X-Limit ")
	assert.Equal(t, http.Header{"X-Note": {"1"}}, style.Header)
	assert.Nil(t, new(respond.Style).Fields, "nil still means XRateLimit")
}
