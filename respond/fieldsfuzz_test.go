package respond_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dunglas/httpsfv"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// FuzzFields has every kind of fields tell of limits whose names, scopes and parts
// are any bytes, under any names of fields that a style accepts. A response holds
// these fields, none more, and no control characters; structured fields are what
// RFC 9651 says, and tell of each limit once; numbers are those of the report.
func FuzzFields(f *testing.F) {
	for _, name := range []string{
		"per_key", "", "a\r\nX-Evil: 1", "\"\\", "naïve", "\x00\x7f\xff", "a,b;c=d", strings.Repeat("x", 300), "per_key/window-1m", "per_key-2", " ", ":",
	} {
		f.Add(name, name, "scope "+name, name, "X-Limit", "x-limit-cost", int64(7), int64(0), []byte{0, 1, 2, 3, 4, 5, 6})
		f.Add("api", "per_key", name, name, name, "", int64(-3), int64(1)<<62, []byte{17, 17, 99})
		f.Add(name, "per_key", "", "products", "Retry-After", "Content-Length", int64(1)<<50, int64(-1), []byte{255, 128, 64, 32, 5})
	}
	limits := []policy.Limit{
		policy.PerMinute(60), policy.TokenBucket(10_000, time.Second).WithBurst(20_000), policy.SlidingLog(5, time.Hour), policy.FixedWindow(3, 1500*time.Millisecond),
		policy.Concurrency(2).WithQueue(3, time.Second), policy.Quota(100, policy.Monthly), policy.Quota(policy.Unlimited, policy.Daily), policy.Lockout(2, time.Minute, time.Hour),
		policy.PerDay(1), policy.SlidingWindow(7, 90*time.Second),
	}
	f.Fuzz(func(t *testing.T, limiter, rule, scope, part, name, other string, cost, points int64, kinds []byte) {
		const most = 1 << 60 // so that sums are exact
		cost, points = cost%most, points%most
		if len(kinds) > 24 || len(rule) > 2000 || len(scope) > 2000 || len(limiter) > 2000 {
			t.Skip()
		}
		r := &respond.Report{Now: now, Details: true}
		for i, kind := range kinds {
			l := limits[int(kind)%len(limits)]
			st := named(taken(l, min(l.Capacity(), int64(kind)/32)), limiter, rule)
			if kind&16 != 0 {
				st = named(refused(l, 1), limiter, rule)
			}
			if kind&32 != 0 {
				st.Rule += strconv.Itoa(i)
			}
			if kind&64 != 0 {
				st.Limiter = strconv.Itoa(i)
			}
			st.Scope, st.Cost = scope, cost
			if kind&128 != 0 {
				st.Parts = respond.Costs{{Name: part, Points: points}, {Name: part + rule, Points: 1}, {Name: "products", Points: cost}}
				for j := range kind % 32 {
					st.Parts.Add(strconv.Itoa(int(j))+part, points%1000)
				}
				st.Cost = st.Parts.Sum()
			}
			r.Standings = append(r.Standings, st)
		}
		writers := []respond.FieldWriter{
			respond.XRateLimit, respond.XRateLimitPerWindow, respond.RateLimit, respond.Points{Status: "X-Points", Details: "X-Points-Details"},
			respond.Fields{Limit: name, Scope: other}, respond.Fields{Scope: name, Used: other, ResetAfter: name + "-After", PerWindow: true, SkipQuotas: true}, respond.Fields{Reset: other, ResetAs: respond.HTTPDate, Scope: name},
			respond.Points{Status: name, Details: other, Rule: rule, Cost: part}, respond.Points{Details: other},
		}
		style := respond.Style{Header: http.Header{name: {scope}}, DetailsOn: other, ExposeFields: true, ReasonPhrase: part}
		if style.Validate() != nil {
			style = respond.Style{ExposeFields: true}
		}
		style.Fields = slices.DeleteFunc(writers, func(w respond.FieldWriter) bool {
			v, ok := w.(interface{ Validate() error })
			return ok && v.Validate() != nil
		})
		require.GreaterOrEqual(t, len(style.Fields), 4)
		require.NoError(t, style.Validate())

		for _, refuse := range []bool{false, true} {
			w := httptest.NewRecorder()
			if refuse {
				style.Refuse(w, nil, r)
			} else {
				style.WriteFields(w.Header(), r)
			}
			requireSameWhenSent(t, w.Result())
			requireStructured(t, w.Result().Header, r)
			if refuse {
				require.True(t, utf8.Valid(w.Body.Bytes()))
				require.True(t, json.Valid(w.Body.Bytes()))
			}
			requirePoints(t, w.Result().Header, r)
		}
	})
}

// requireSameWhenSent requires that who reads the response finds the same fields
// in it.
func requireSameWhenSent(t *testing.T, resp *http.Response) {
	t.Helper()
	for name, values := range resp.Header {
		require.Len(t, values, 1, name)
		require.Equal(t, http.CanonicalHeaderKey(name), name)
		if i := strings.IndexFunc(values[0], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }); i >= 0 {
			t.Fatalf("%s: %q", name, values[0])
		}
	}
	var sent bytes.Buffer
	require.NoError(t, resp.Header.Write(&sent))
	sent.WriteString("\r\n")
	got, err := textproto.NewReader(bufio.NewReader(&sent)).ReadMIMEHeader()
	require.NoError(t, err)
	for name, values := range resp.Header {
		require.Equal(t, strings.Trim(values[0], " \t"), got.Get(name), name)
	}
	require.Len(t, got, len(resp.Header))
}

// requireStructured requires that the draft's fields are lists with an item for
// each limit that binds somebody, under names of which there are no two.
func requireStructured(t *testing.T, h http.Header, r *respond.Report) {
	t.Helper()
	want := 0
	for _, st := range r.Standings {
		if st.Limit.N() != policy.Unlimited {
			want++
		}
	}
	var names [2][]string
	for i, field := range []string{"Ratelimit-Policy", "Ratelimit"} {
		if want == 0 {
			require.Empty(t, h.Values(field))
			continue
		}
		list, err := httpsfv.UnmarshalList(h.Values(field))
		require.NoError(t, err, h.Get(field))
		require.Len(t, list, want)
		for _, member := range list {
			item, ok := member.(httpsfv.Item)
			require.True(t, ok)
			name, ok := item.Value.(string)
			require.True(t, ok)
			require.NotContains(t, names[i], name)
			names[i] = append(names[i], name)
			for _, parameter := range item.Params.Names() {
				require.Contains(t, []string{"q", "w", "r", "t"}, parameter)
				v, _ := item.Params.Get(parameter)
				n, ok := v.(int64)
				require.True(t, ok)
				require.GreaterOrEqual(t, n, int64(0))
			}
		}
	}
	require.Equal(t, names[0], names[1])
}

// requirePoints requires that the parts that are told add up to the cost that is.
func requirePoints(t *testing.T, h http.Header, r *respond.Report) {
	t.Helper()
	text := h.Get("X-Points")
	if text == "" {
		require.Empty(t, h.Get("X-Points-Details"))
		return
	}
	var numbers map[string]json.Number
	require.NoError(t, json.Unmarshal([]byte(text), &numbers), text)
	require.Len(t, numbers, 4)
	cost, err := numbers["requestCost"].Int64()
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(r.Standings, func(st respond.Standing) bool { return st.Cost == cost }))
	details := h.Get("X-Points-Details")
	require.LessOrEqual(t, len(details), 1024)
	var told respond.Costs
	for part := range strings.SplitSeq(details, ",") {
		if part == "" {
			continue
		}
		name, points, _ := strings.Cut(part, "=")
		require.LessOrEqual(t, len(name), 64)
		require.Empty(t, strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:"))
		n, err := strconv.ParseInt(points, 10, 64)
		require.NoError(t, err, details)
		told = append(told, respond.Part{Name: name, Points: n})
	}
	if len(told) > 0 {
		require.Equal(t, cost, told.Sum(), details)
	}
}
