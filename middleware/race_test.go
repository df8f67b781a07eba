//go:build race

package middleware_test

// underRace tells that the race detector is at work, which makes what only counts
// slow: there is less of it then.
const underRace = true
