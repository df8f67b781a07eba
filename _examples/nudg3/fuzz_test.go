package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy/memstore"
)

// FuzzQueries asks for brands and for statistics in any way: what is asked for is
// answered, and what cannot be is the client's fault.
func FuzzQueries(f *testing.F) {
	for _, query := range []string{
		"", "ids=a,b", "ids=a, b ,,c", "ids=%22%00\xff", "ids=\x91\xea", "ids=a&ids=b", "ids=,", "from=2025-03-01&to=2025-04-01", "from=2025-04-01&to=2025-03-01", "from=2025-03-01T00:00:00Z", "to=2025-03-01T00:00:00%2B02:00",
		"from=0001-01-01&to=9999-12-31", "to=9999-12-31T23:59:59-23:59", "from=x", "from=2025-13-01", "%zz",
	} {
		f.Add(query)
	}
	h, n := routes(memstore.New(memstore.Options{})), 0
	f.Fuzz(func(t *testing.T, query string) {
		ask := func(path string, into any) int {
			n++
			r := &http.Request{Method: "GET", RemoteAddr: "192.0.2.1:1", URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{"Authorization": {basic + strconv.Itoa(n)}}}
			r.Header.Set("Authorization", "Bearer "+basic+strconv.Itoa(n))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), into), w.Body.String())
			return w.Code
		}
		asked := (&url.URL{RawQuery: query}).Query()
		var brands struct {
			Success bool
			Data    []brand
		}
		require.Equal(t, 200, ask("/api/v1/brands", &brands))
		require.True(t, brands.Success)
		i := 0
		for id := range strings.SplitSeq(asked.Get("ids"), ",") {
			if id = strings.TrimSpace(id); id != "" {
				require.Equal(t, string([]rune(id)), brands.Data[i].ID, "as JSON tells what is no text")
				i++
			}
		}
		if asked.Get("ids") != "" {
			require.Len(t, brands.Data, i)
		}
		var told struct {
			Success bool
			Data    statistics
			Error   problem
		}
		switch ask("/api/v1/exports/chat-responses/statistics", &told) {
		case 200:
			require.True(t, told.Success)
			require.GreaterOrEqual(t, told.Data.TotalRows, int64(0))
			require.LessOrEqual(t, told.Data.TotalRows, int64(allRows))
			require.Equal(t, asked.Get("from") == "" && asked.Get("to") == "", told.Data.TotalRows == allRows && asked.Get("from")+asked.Get("to") == "")
		case 400:
			require.Equal(t, "invalid_request", told.Error.Code)
			require.NotEmpty(t, asked.Get("from")+asked.Get("to"))
		default:
			t.Fatal("neither")
		}
	})
}

// FuzzExports asks for any export: it has as many rows as were asked for, numbered,
// each at an instant within the dates, until its client has had enough.
func FuzzExports(f *testing.F) {
	for _, body := range []string{
		"", `{}`, `{"rows":3}`, `{"rows":0}`, `{"rows":-1}`, `{"rows":100000000}`, `{"rows":100000001}`, `{"rows":1e3}`, `{"rows":"3"}`, `{"rows":null,"from":"2025-03-01","to":"2025-03-02"}`, `{"rows":5,"from":"2025-03-01","to":"2025-03-01"}`,
		`{"rows":7,"from":"0001-01-01","to":"9999-12-31"}`, `{"rows":2,"from":"9999-12-31","to":"9999-12-31T23:59:59-23:59"}`, `{"rows":2,"from":"0000-01-01T00:00:00+23:59"}`, `{"from":"x"}`, `[]`, `{"rows":3}{`, `{"rows":1500000}`, "{\"rows\":1,\"rows\":2}",
	} {
		f.Add(body)
	}
	h, n := routes(memstore.New(memstore.Options{})), 0
	f.Fuzz(func(t *testing.T, body string) {
		n++
		r := httptest.NewRequest("POST", "/api/v1/exports/chat-responses", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+basic+strconv.Itoa(n))
		w := &satiable{ResponseRecorder: httptest.NewRecorder()}
		h.ServeHTTP(w, r)
		if w.Code == 400 {
			var refused failure
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &refused))
			require.Equal(t, "invalid_request", refused.Error.Code)
			return
		}
		require.Equal(t, 200, w.Code)
		var asked export
		_ = json.NewDecoder(strings.NewReader(body)).Decode(&asked)
		parts, err := strconv.Atoi(w.Header().Get("X-Export-Parts"))
		require.NoError(t, err)
		require.GreaterOrEqual(t, parts, 1)
		lines := bytes.SplitAfter(w.Body.Bytes(), []byte("\n"))
		lines = lines[:len(lines)-1] // nothing, or half a line
		for i, line := range lines {
			var row struct {
				Row, Part int
				At        time.Time
			}
			require.NoError(t, json.Unmarshal(line, &row), "%s", line)
			require.Equal(t, i+1, row.Row)
			require.Equal(t, 1, row.Part)
			if len(asked.From) == len("2025-03-01") {
				require.GreaterOrEqual(t, row.At.Format(time.DateOnly), asked.From)
			}
			if len(asked.To) == len("2025-03-01") {
				require.LessOrEqual(t, row.At.Format(time.DateOnly), asked.To)
			}
		}
		switch {
		case w.full:
		case asked.Rows != nil:
			require.Len(t, lines, int(*asked.Rows))
		default:
			require.LessOrEqual(t, len(lines), allRows)
		}
	})
}

// A satiable client goes when it has had enough.
type satiable struct {
	*httptest.ResponseRecorder
	full bool
}

func (s *satiable) Write(p []byte) (int, error) {
	const enough = 64 << 10
	if s.Body.Len()+len(p) > enough {
		s.full = true
		return 0, errors.New("enough")
	}
	return s.ResponseRecorder.Write(p)
}
