package respond

import (
	"net/http"
	"strings"
)

// expose adds names to Access-Control-Expose-Headers, beside those that are
// there, and each one once.
func expose(h http.Header, names ...string) {
	const field = "Access-Control-Expose-Headers"
	list := strings.Join(h[field], ", ")
	before := len(list)
	for _, name := range names {
		if !listHas(list, name) {
			if list != "" {
				list += ", "
			}
			list += name
		}
	}
	if len(list) > before {
		h[field] = []string{list}
	}
}

func listHas(list, name string) bool {
	for member := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(member), name) {
			return true
		}
	}
	return false
}
