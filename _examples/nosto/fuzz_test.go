package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzRecommendations asks for recommendations in any way: what is given costs what
// the page says, by what was asked for; and what is wrong costs the minimum.
func FuzzRecommendations(f *testing.F) {
	for _, asked := range []string{
		"type=normal&limit=20&segments=2", "type=personalized&limit=0", "", "type=", "type=other", "limit=-1", "limit=99999999999999999999", "limit=3&limit=4", "segments=%31", "limit=1;segments=2", "%zz", "limit=+3", "segments=5000",
		`{"type":"normal","limit":20,"segments":2}`, `{"limit":3}`, `{"Limit":3}`, `{"limit":"3"}`, `{"limit":3.0}`, `{"limit":1e1}`, `null`, `[]`, `{}x`, `{"segments":9007199254740993}`, `{"limit":1,"limit":2}`, "{\"type\":\"normal\x00\"}",
	} {
		f.Add(asked)
	}
	h, n := inMemory(), 0
	f.Fuzz(func(t *testing.T, asked string) {
		for _, method := range []string{"GET", "POST"} {
			n++
			a := ask(t, h, method, "/recommendations", asked, n)
			if a.Code != http.StatusOK {
				require.Contains(t, []int{400, 413, 429}, a.Code)
				require.NotEmpty(t, a.code(t))
				if a.Code == 400 {
					require.EqualValues(t, minimum, a.Cost)
				}
				continue
			}
			q := recommendationRequest{Type: "normal", Limit: 20}
			if method == "POST" {
				require.NoError(t, json.Unmarshal([]byte(asked), &q))
			} else {
				values, err := url.ParseQuery(asked)
				require.NoError(t, err)
				if values.Has("type") {
					q.Type = values.Get("type")
				}
				for name, v := range map[string]*int64{"limit": &q.Limit, "segments": &q.Segments} {
					if values.Has(name) {
						*v, err = strconv.ParseInt(values.Get(name), 10, 64)
						require.NoError(t, err)
					}
				}
			}
			var found struct {
				Type     string
				Products []product
			}
			require.NoError(t, json.Unmarshal(a.Body.Bytes(), &found))
			require.Equal(t, q.Type, found.Type)
			require.LessOrEqual(t, int64(len(found.Products)), q.Limit)
			require.Equal(t, 10+map[string]int64{"normal": 50, "personalized": 100}[q.Type]+int64(len(found.Products))+2*q.Segments, a.Cost)
		}
	})
}

// FuzzOthers sends any body to the other endpoints, and to the operators': whatever
// it is, the answer is no fault of the server's.
func FuzzOthers(f *testing.F) {
	for _, body := range []string{
		`{"query":"shirt","vector":true}`, `{"query":"shirt"}`, `{"query":""}`, `{"type":"category","query":"hat"}`, `{"query":"{ products { id } }"}`, `[{"query":"{ products { id name } }"},{"query":"{"}]`, `{"query":"query($n:Int){products(limit:$n){id}}","variables":{"n":2}}`,
		`{"factor":0.5}`, `{"factor":0.5,"seconds":1e300}`, `{"factor":1e-300}`, `{"factor":-0}`, `{"factor":0.5,"seconds":1.5}`, "", "null", `{"factor":"x"}`, "\xff",
	} {
		f.Add(body, "Bearer std_a", "127.0.0.1:1")
	}
	f.Add("{}", "Bearer _x", "192.0.2.1:1")
	f.Add(`{"factor":0.5}`, "", "[::1%lo]:1")
	h, n := inMemory(), 0
	f.Fuzz(func(t *testing.T, body, authorization, peer string) {
		n++
		for _, path := range []string{"/graphql", "/search"} {
			a := ask(t, h, "POST", path, body, n)
			require.True(t, json.Valid(a.Body.Bytes()))
			require.Contains(t, []int{200, 400, 413, 429}, a.Code, a.Body.String())
			require.GreaterOrEqual(t, a.Cost, int64(minimum))
			if a.Code == 400 {
				require.EqualValues(t, minimum, a.Cost, a.Body.String())
			}
		}
		r := httptest.NewRequest("PUT", "/_admin/scale", strings.NewReader(body))
		r.Host, r.RemoteAddr = "localhost", peer
		r.Header["Authorization"] = []string{authorization}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Contains(t, []int{200, 400, 403}, w.Code)
		if host := strings.Trim(peer[:max(0, strings.LastIndexByte(peer, ':'))], "[]"); w.Code != 403 {
			require.True(t, strings.HasPrefix(host, "127.") || strings.HasPrefix(host, "::") || strings.EqualFold(host, "localhost") ||
				strings.HasPrefix(peer, "127.") || strings.HasPrefix(peer, "0:") || strings.HasPrefix(host, "0:") || strings.Contains(peer, "::") || strings.EqualFold(strings.Trim(peer, "[]"), "localhost"), peer)
		}
		if w.Code == 200 {
			var set struct{ Factor float64 }
			require.NoError(t, json.Unmarshal([]byte(body), &set))
			require.True(t, set.Factor > 0 && set.Factor <= 1)
			r = httptest.NewRequest("PUT", "/_admin/scale", strings.NewReader(`{"factor":1}`))
			r.Host, r.RemoteAddr = "localhost", "127.0.0.1:1"
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
		r = httptest.NewRequest("GET", "/recommendations", nil)
		r.Header["Authorization"] = []string{authorization}
		w = httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Contains(t, []int{200, 401, 429}, w.Code)
		if w.Code != 401 {
			require.Regexp(t, `(?i)^[ \t\r\n]*bearer [ \t\r\n]*(?-i:std|adv|custom)_[!-~]+[ \t\r\n]*$`, authorization)
		}
	})
}

// ask sends what is asked for, as parameters or as a body, with a key of its own.
func ask(t *testing.T, h http.Handler, method, path, asked string, n int) answer {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(asked))
	if method == "GET" {
		r.URL.RawQuery = asked
	}
	r.Header.Set("Authorization", "Bearer std_"+strconv.Itoa(n))
	return deliver(t, h, r)
}
