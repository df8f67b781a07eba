package main

import (
	"net/http"
	"strings"
)

type brand struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// listBrands lists the demo's brands, or those of ?ids=a,b: many in one request.
func listBrands(w http.ResponseWriter, r *http.Request) {
	ids := []string{"brand1", "brand2", "brand3"}
	if asked := r.URL.Query().Get("ids"); asked != "" {
		ids = strings.Split(asked, ",")
	}
	brands := []brand{}
	for _, id := range ids {
		if id = strings.TrimSpace(id); id != "" {
			brands = append(brands, brand{ID: id, Name: "Brand " + id})
		}
	}
	writeJSON(w, http.StatusOK, success{Success: true, Data: brands})
}

func showDashboard(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, success{Success: true, Data: map[string]any{"visibility": 0.42, "mentions": 1280, "brands": 3}})
}
