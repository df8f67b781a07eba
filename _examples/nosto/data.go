package main

import (
	"fmt"
	"strconv"
)

// An object is one that a query can select of: the name of its type, and what its
// fields are.
type object struct {
	kind  string
	field func(name string, args map[string]any) any
}

// query is the root of all that can be asked.
var query = object{"Query", func(name string, args map[string]any) any {
	switch name {
	case "search", "autocomplete":
		return hits(matching(text(args["query"])))
	case "category":
		return hits(matching(text(args["name"])))
	case "vectorSearch":
		return hits(nearest(text(args["query"])))
	case "session":
		return session
	case "node":
		return node(text(args["id"]))
	}
	return nil
}}

var session = object{"Session", func(name string, args map[string]any) any {
	switch name {
	case "segments":
		return firstSegments(number(args["first"]))
	case "normal", "personalized":
		return object{"Recommendation", func(string, map[string]any) any { return objects(first(number(args["limit"]))) }}
	}
	return nil
}}

func hits(found []product) object {
	return object{"Hits", func(name string, _ map[string]any) any {
		if name == "total" {
			return len(found)
		}
		return objects(found)
	}}
}

// node returns what has the id, or nil.
func node(id string) any {
	if p, ok := withID(id); ok {
		return objectOf(p)
	}
	for _, s := range segments {
		if s.field("id", nil) == id {
			return s
		}
	}
	return nil
}

func objects(products []product) []object {
	all := make([]object, len(products))
	for i, p := range products {
		all[i] = objectOf(p)
	}
	return all
}

func objectOf(p product) object {
	return object{"Product", func(name string, _ map[string]any) any {
		switch name {
		case "id":
			return p.ID
		case "name":
			return p.Name
		case "category":
			return p.Category
		default:
			return p.Price
		}
	}}
}

// segments are the active custom segments of any session.
var segments = []object{segment(1, "Returning"), segment(2, "Likes hats"), segment(3, "Spends much")}

func firstSegments(n int64) []object { return segments[:min(n, int64(len(segments)))] }

func segment(n int, title string) object {
	return object{"Segment", func(name string, _ map[string]any) any {
		if name == "id" {
			return fmt.Sprintf("s%d", n)
		}
		return title
	}}
}

// text and number read arguments, which variables may bring in types of their own.
func text(v any) string { return fmt.Sprint(v) }

func number(v any) int64 {
	n, _ := strconv.ParseInt(fmt.Sprint(v), 10, 64) // 0 for null
	return max(0, n)
}
