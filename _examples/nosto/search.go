package main

import (
	"net/http"

	ratelimit "github.com/stint-go/stint/middleware"
)

// A searchRequest is the body of POST /search: {"query":"shirt","vector":true}.
type searchRequest struct {
	Type   string `json:"type"` // search, category or autocomplete
	Query  string `json:"query"`
	Vector bool   `json:"vector"`
}

func (s searchRequest) check() error {
	switch s.Type {
	case "search", "category", "autocomplete":
	default:
		return invalid("unknown_type", "Write the type as search, category or autocomplete.")
	}
	if s.Query == "" {
		return invalid("invalid_query", "Say what to search for, as query.")
	}
	return nil
}

func readSearch(r *http.Request) (searchRequest, error) {
	return read(r, searchRequest{Type: "search"})
}

// costOfSearch is 600 for search, category merchandising and autocomplete, and 1500
// for a vector search.
func costOfSearch(r *http.Request) (ratelimit.Costs, error) {
	if r.Method != http.MethodPost {
		return nil, nil // the minimum
	}
	asked, err := readSearch(r)
	if err != nil {
		return nil, err
	}
	if asked.Vector {
		return ratelimit.Costs{{Name: "vector", Points: 1500}}, nil
	}
	return ratelimit.Costs{{Name: asked.Type, Points: 600}}, nil
}

func search(w http.ResponseWriter, r *http.Request) {
	asked, err := readSearch(r)
	if err != nil { // the limiter has read it before
		writeError(w, r, http.StatusBadRequest, "invalid_json", "The body could not be read.")
		return
	}
	found := matching(asked.Query)
	if asked.Vector {
		found = nearest(asked.Query)
	}
	writeJSON(w, http.StatusOK, map[string]any{"query": asked.Query, "products": found})
}
