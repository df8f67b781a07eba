package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy/memstore"
)

// FuzzSessions asks for any page of sessions: it is refused as the client's fault, or
// it has what was asked for, in order, and the next page begins behind it.
func FuzzSessions(f *testing.F) {
	for _, query := range []string{
		"", "limit=1", "limit=200", "limit=201", "limit=0", "limit=-1", "limit=1e2", "limit=+5", "limit=%31", "cursor=eyJpZCI6InNlc3NfMDAwNCJ9", "cursor=eyJpZCI6InNlc3NfMDAwNCJ9&limit=3", "cursor=e30", "cursor=bnVsbA",
		"cursor=eyJpZCI6bnVsbH0", "cursor=eyJpZCI6InpeIn0", "cursor=!", "from=2026-01-02&to=2026-01-03", "from=2026-01-02T03:04:05Z", "from=2026-01-03&to=2026-01-02", "from=0000-01-01&to=9999-12-31T23:59:59-23:59", "from=2026-02-30", "limit=1&limit=2", "%zz", "limit=1;to=2",
	} {
		f.Add(query)
	}
	h, n := routes(memstore.New(memstore.Options{})), 0
	get := func(query string) *httptest.ResponseRecorder {
		n++ // a key of its own has a limit of its own
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/v1/sessions", RawQuery: query}, Header: http.Header{"Authorization": {"Bearer sk_live_" + strconv.Itoa(n)}}}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	f.Fuzz(func(t *testing.T, query string) {
		w := get(query)
		if w.Code == http.StatusBadRequest {
			requireError(t, w, "BadRequest")
			return
		}
		require.Equal(t, 200, w.Code)
		var p page
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
		asked := (&url.URL{RawQuery: query}).Query()
		limit := 50
		if text := asked.Get("limit"); text != "" {
			var err error
			limit, err = strconv.Atoi(text)
			require.NoError(t, err)
		}
		require.LessOrEqual(t, limit, 200)
		require.LessOrEqual(t, len(p.Data), limit)
		after := ""
		if text := asked.Get("cursor"); text != "" {
			raw, err := base64.RawURLEncoding.DecodeString(text)
			require.NoError(t, err)
			var c struct{ ID string }
			require.NoError(t, json.Unmarshal(raw, &c))
			require.NotEmpty(t, c.ID)
			after = c.ID
		}
		for _, s := range p.Data {
			require.Greater(t, s.ID, after)
			after = s.ID
			if from := asked.Get("from"); len(from) == len("2026-01-02") {
				require.GreaterOrEqual(t, s.StartedAt.Format("2006-01-02"), from)
			}
			if to := asked.Get("to"); len(to) == len("2026-01-02") {
				require.Less(t, s.StartedAt.Format("2006-01-02"), to)
			}
		}
		if p.NextCursor == nil {
			return
		}
		require.Len(t, p.Data, limit)
		asked.Set("cursor", *p.NextCursor)
		var next page
		require.NoError(t, json.Unmarshal(get(asked.Encode()).Body.Bytes(), &next))
		require.NotEmpty(t, next.Data)
		require.Greater(t, next.Data[0].ID, after)
	})
}

// FuzzEvents sends any batch under any key: what is accepted is what a decoder finds
// in it, and is what it costs.
func FuzzEvents(f *testing.F) {
	for _, body := range []string{
		`{"events":[{},{}]}`, `{"events":[]}`, `{"events":[1,"a",null,[{}]],"x":{"events":[1]}}`, `{"events":[1],"events":[2]}`, `{"Events":[1]}`, `{}`, `[]`, `{"events":{}}`, `{"events":[1]}x`, `{"events":[1`, "", `{"events":[1,]}`, `{"\u0065vents":[1]}`,
		`{"events":[` + strings.Repeat("1,", 10_000) + `1]}`,
	} {
		f.Add(body, "site_a", "Bearer sk_live_a")
	}
	f.Add("", "", "")
	f.Add(`{"events":[1]}`, "site_\u00e9", "Basic x")
	f.Add(`{"events":[1]}`, " site_a ", "bearer  sk_live_a ")
	f.Add(`{"events":[1]}`, "site_a\r\n", "Bearer sk_live_a b")
	sites, keys := regexp.MustCompile(`^[ \t\r\n]*site_[A-Za-z0-9_.-]+[ \t\r\n]*$`), regexp.MustCompile(`^[ \t\r\n]*[Bb][Ee][Aa][Rr][Ee][Rr] [ \t\r\n]*sk_live_[A-Za-z0-9_.-]+[ \t\r\n]*$`)
	f.Fuzz(func(t *testing.T, body, site, authorization string) {
		h := routes(memstore.New(memstore.Options{}))
		send := func(method, path string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.Header["X-Site-Key"], r.Header["Authorization"] = []string{site}, []string{authorization}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		w := send("GET", "/v1/sessions?limit=1")
		require.Equal(t, keys.MatchString(authorization), w.Code == 200)
		if w.Code != 200 {
			requireError(t, w, "Unauthorized")
		}
		w = send("POST", "/v1/events")
		if !sites.MatchString(site) {
			require.Equal(t, 401, w.Code)
			requireError(t, w, "Unauthorized")
			return
		}
		var batch struct{ Events []json.RawMessage }
		left, err := strconv.Atoi(w.Header().Get("X-RateLimit-Remaining"))
		require.NoError(t, err)
		switch w.Code {
		case 200:
			require.NoError(t, json.Unmarshal([]byte(body), &batch))
			require.JSONEq(t, fmt.Sprintf(`{"accepted":%d}`, len(batch.Events)), w.Body.String())
			require.Equal(t, maxEvents-len(batch.Events), left)
		case 400:
			requireError(t, w, "BadRequest")
			require.Equal(t, maxEvents, left)
		default:
			require.Equal(t, 413, w.Code)
			requireError(t, w, "BatchTooLarge")
			require.Equal(t, maxEvents, left)
		}
	})
}

func requireError(t *testing.T, w *httptest.ResponseRecorder, code string) {
	t.Helper()
	var e apiError
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e), w.Body.String())
	require.Equal(t, code, e.Error)
}
