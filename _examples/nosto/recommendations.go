package main

import (
	"net/http"
	"strconv"

	ratelimit "github.com/stint-go/stint/middleware"
)

// A recommendationRequest is what a request for recommendations asks for, in the
// URL or in a body: {"type":"normal","limit":20,"segments":2}.
type recommendationRequest struct {
	Type     string `json:"type"`     // normal or personalized
	Limit    int64  `json:"limit"`    // products at most
	Segments int64  `json:"segments"` // active custom segments
}

// recommendationPreset is what a request asks for that does not say.
var recommendationPreset = recommendationRequest{Type: "normal", Limit: 20}

func (q recommendationRequest) check() error {
	if q.Type != "normal" && q.Type != "personalized" {
		return invalid("unknown_type", "Write the type as normal or personalized.")
	}
	if err := checkNumber("limit", q.Limit); err != nil {
		return err
	}
	return checkNumber("segments", q.Segments)
}

// costs are 10 for the session, 50 for normal and 100 for personalized
// recommendations, 1 for each product and 2 for each segment.
func (q recommendationRequest) costs(products int64) ratelimit.Costs {
	var c ratelimit.Costs
	c.Add("session", 10)
	if q.Type == "personalized" {
		c.Add(q.Type, 100)
	} else {
		c.Add(q.Type, 50)
	}
	c.Add("products", products)
	c.Add("segments", 2*q.Segments)
	return c
}

func readRecommendation(r *http.Request) (recommendationRequest, error) {
	if r.Method == http.MethodPost {
		return read(r, recommendationPreset)
	}
	q := recommendationPreset
	values, err := urlValues(r)
	if err != nil {
		return q, err
	}
	if values.Has("type") {
		q.Type = values.Get("type")
	}
	for name, n := range map[string]*int64{"limit": &q.Limit, "segments": &q.Segments} {
		if !values.Has(name) {
			continue
		}
		if *n, err = strconv.ParseInt(values.Get(name), 10, 64); err != nil {
			*n = -1 // is none
		}
	}
	return q, q.check()
}

// costOfRecommendations reserves as many products as are asked for.
func costOfRecommendations(r *http.Request) (ratelimit.Costs, error) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		return nil, nil // the minimum
	}
	asked, err := readRecommendation(r)
	if err != nil {
		return nil, err
	}
	return asked.costs(asked.Limit), nil
}

// recommend settles as many products as there are.
func recommend(w http.ResponseWriter, r *http.Request) {
	asked, err := readRecommendation(r)
	if err != nil { // the limiter has read it before
		writeError(w, r, http.StatusBadRequest, "invalid_json", "The request could not be read.")
		return
	}
	products := first(asked.Limit)
	settle(r, recommendationsBudget, asked.costs(int64(len(products))))
	writeJSON(w, http.StatusOK, map[string]any{"type": asked.Type, "products": products})
}
