package respond

import (
	"slices"
	"strconv"
)

// appendPolicyNames appends the names of the report's standings, as clients
// know them: the rule's name; with a slash and the limit's name if the rule has
// several limits; after the limiter's name and a slash if another limiter has a
// rule of that name. The names are printable, and no two are the same.
func appendPolicyNames(names []string, standings []Standing) []string {
	from := len(names)
	for i := range standings {
		name := policyName(standings, i)
		for n := 2; slices.Contains(names[from:], name); n++ {
			name = policyName(standings, i) + "-" + strconv.Itoa(n)
		}
		names = append(names, name)
	}
	return names
}

func policyName(standings []Standing, i int) string {
	s := &standings[i]
	several, elsewhere := false, false
	for j := range standings {
		if j == i || standings[j].Rule != s.Rule {
			continue
		}
		if standings[j].Limiter == s.Limiter {
			several = true
		} else {
			elsewhere = true
		}
	}
	name := s.Rule
	if several {
		name += "/" + s.Limit.Name()
	}
	if elsewhere {
		name = s.Limiter + "/" + name
	}
	for j := range len(name) {
		if printable(name[j]) != name[j] {
			return string(appendPrintable(nil, name))
		}
	}
	return name
}
