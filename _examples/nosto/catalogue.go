package main

import (
	"cmp"
	"slices"
	"strings"
)

// A product is one of the shop's.
type product struct {
	ID       string  `json:"id"`
	Name     string  `json:"name"`
	Category string  `json:"category"`
	Price    float64 `json:"price"`
}

// catalogue is all that there is to recommend.
var catalogue = []product{
	{"p1", "Red shirt", "shirts", 29},
	{"p2", "Blue shirt", "shirts", 31.5},
	{"p3", "Running shoes", "shoes", 89},
	{"p4", "Red boots", "shoes", 120},
	{"p5", "Straw hat", "hats", 18},
	{"p6", "Wool hat", "hats", 22},
	{"p7", "Umbrella", "rain", 15},
}

// first returns at most n products.
func first(n int64) []product { return catalogue[:min(n, int64(len(catalogue)))] }

// matching returns the products whose name or category has the words.
func matching(words string) []product {
	found := []product{}
	for _, p := range catalogue {
		if strings.Contains(strings.ToLower(p.Name+" "+p.Category), strings.ToLower(words)) {
			found = append(found, p)
		}
	}
	return found
}

// nearest returns all products, those first that share the most letters with the
// words: as near to a vector search as a demo needs.
func nearest(words string) []product {
	shared := func(p product) (n int) {
		for _, letter := range strings.ToLower(words) {
			n += min(1, strings.Count(strings.ToLower(p.Name), string(letter)))
		}
		return n
	}
	return slices.SortedStableFunc(slices.Values(catalogue), func(a, b product) int { return cmp.Compare(shared(b), shared(a)) })
}

// withID returns the product of an id.
func withID(id string) (product, bool) {
	i := slices.IndexFunc(catalogue, func(p product) bool { return p.ID == id })
	if i < 0 {
		return product{}, false
	}
	return catalogue[i], true
}
