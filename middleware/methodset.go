package middleware

import (
	"net/http"
	"strings"
)

// A methodSet is a set of methods: one bit each, and one for all that HTTP does
// not know.
type methodSet uint16

const (
	methodGet methodSet = 1 << iota
	methodHead
	methodPost
	methodPut
	methodPatch
	methodDelete
	methodOptions
	methodTrace
	methodConnect
	methodQuery
	unknownMethod

	everyMethod = 1<<iota - 1
)

// methodNames are the methods in the order of their bits.
var methodNames = [...]string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
	http.MethodDelete, http.MethodOptions, http.MethodTrace, http.MethodConnect, "QUERY",
}

func methodOf(name string) methodSet {
	switch name {
	case "", http.MethodGet:
		return methodGet
	case http.MethodHead:
		return methodHead
	case http.MethodPost:
		return methodPost
	case http.MethodPut:
		return methodPut
	case http.MethodPatch:
		return methodPatch
	case http.MethodDelete:
		return methodDelete
	case http.MethodOptions:
		return methodOptions
	case http.MethodTrace:
		return methodTrace
	case http.MethodConnect:
		return methodConnect
	case "QUERY":
		return methodQuery
	}
	return unknownMethod
}

// String returns the names, as patterns have them.
func (s methodSet) String() string {
	if s == everyMethod {
		return "every method"
	}
	var names []string
	for i, name := range methodNames {
		// GET has HEAD with it.
		if s&(1<<i) != 0 && (name != http.MethodHead || s&methodGet == 0) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}
