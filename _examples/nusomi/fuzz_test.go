package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy/memstore"
)

// FuzzBearer sends any Authorization: it is 401, or that of a workspace, whose
// bucket and nobody else's it takes from.
func FuzzBearer(f *testing.F) {
	for _, line := range []string{
		"Bearer nus_acme_1", "bearer nus_scale_1", "BEARER  nus_scaleup-2_a.b_c ", "Bearer nus_acme_", "Bearer nus__1", "Bearer nus_custom_1", "Basic nus_acme_1", "nus_acme_1", "", "Bearer nus_acme_1 2", "Bearer nus_acm\u00e9_1", "Bearer\tnus_acme_1", "Bearer nus_a_b_c",
	} {
		f.Add(line, line)
		f.Add(line, "Bearer nus_acme_2")
	}
	form := regexp.MustCompile(`^[ \t\r\n]*[Bb][Ee][Aa][Rr][Ee][Rr] [ \t\r\n]*nus_([A-Za-z0-9-]+)_[A-Za-z0-9_.-]+[ \t\r\n]*$`)
	f.Fuzz(func(t *testing.T, one, other string) {
		h := routes(memstore.New(memstore.Options{}), defaults)
		var left, spaces [2]string
		for i, line := range []string{one, other} {
			r := &http.Request{Method: "GET", URL: &url.URL{Path: "/v1/limits"}, Header: http.Header{"Authorization": {line}}}
			if i == 0 { // takes one from each bucket of reads
				r.URL.Path = "/v1/sessions"
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			m := form.FindStringSubmatch(line)
			if m == nil {
				require.Equal(t, 401, w.Code)
				require.Equal(t, "unauthorized", errorOf(t, w).Code)
				return
			}
			require.Equal(t, 200, w.Code, w.Body.String())
			spaces[i], left[i] = m[1], w.Header().Get("X-RateLimit-Remaining")
			if i == 1 {
				var shown map[string]map[string]struct{ Limit, Remaining int }
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &shown))
				whole := shown["reads"]["per_workspace"].Remaining == 2*shown["reads"]["per_workspace"].Limit
				// Reads refill, 2,000 a second at least: what was taken may be back.
				require.True(t, whole || spaces[0] == spaces[1], "%q takes from %q", spaces[0], spaces[1])
			}
		}
	})
}

// FuzzBodies sends any body to every surface that reads one: what is accepted is what
// a decoder finds in it.
func FuzzBodies(f *testing.F) {
	for _, body := range []string{
		`{"events":[1,2]}`, `{"frames":[{},{}]}`, `{"rows":10}`, `{"type":"click"}`, `{"rows":-1}`, `{"rows":1.5}`, `{"rows":9223372036854775807}`, `{"frames":[` + strings.Repeat("1,", 50) + `1]}`, `{"events":[` + strings.Repeat("1,", 100) + `1]}`, "", "[]", "null", `{"events":[1],"frames":[1],"rows":1}`,
		`{"rows":1,"rows":2}`, `{"Rows":1}`, `{"events":[1]}{`, "{\"events\":[\"\xff\"]}",
	} {
		f.Add(body, "s")
	}
	f.Add("{}", "a\"b\x00\xff/../c")
	f.Add("{}", "%2F")
	f.Fuzz(func(t *testing.T, body, id string) {
		h := routes(memstore.New(memstore.Options{}), monthly{minutes: 99, rows: 1000})
		send := func(method, path string) (int, map[string]any) {
			r := httptest.NewRequest(method, "/", strings.NewReader(body))
			r.URL = &url.URL{Path: path}
			r.Header.Set("Authorization", "Bearer nus_acme_1")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Less(t, w.Code, 500, w.Body.String())
			var said map[string]any
			if w.Body.Len() > 0 {
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &said), w.Body.String())
			}
			return w.Code, said
		}
		var found struct{ Events, Frames []json.RawMessage }
		err := json.Unmarshal([]byte(body), &found)
		var rows struct{ Rows int64 }
		errRows := json.Unmarshal([]byte(body), &rows)
		if status, said := send("POST", "/v1/sessions/s/events"); status == 202 {
			require.True(t, json.Valid([]byte(body)))
			want := 1
			if err == nil && found.Events != nil {
				want = len(found.Events)
			}
			require.EqualValues(t, want, said["accepted"], body)
			require.LessOrEqual(t, want, 100)
		} else {
			require.Equal(t, 400, status)
		}
		if status, said := send("POST", "/v1/sessions/s/frames"); status == 202 {
			require.True(t, json.Valid([]byte(body)))
			require.EqualValues(t, len(found.Frames), said["accepted"], body)
			require.LessOrEqual(t, len(found.Frames), 50)
		} else {
			require.Equal(t, 400, status)
		}
		switch status, said := send("POST", "/v1/exports"); status {
		case 202:
			require.NoError(t, errRows)
			require.EqualValues(t, rows.Rows, said["rows"])
			require.LessOrEqual(t, rows.Rows, int64(1000))
		case 413:
			require.Greater(t, rows.Rows, int64(1000))
		default:
			require.Equal(t, 400, status)
		}
		if !strings.Contains(id, "/") && id != "" {
			if status, said := send("GET", "/v1/sessions/"+id); status == 200 {
				require.Equal(t, "session", said["object"])
			} else {
				require.Contains(t, []int{404, 405}, status, fmt.Sprint(said))
			}
		}
	})
}
