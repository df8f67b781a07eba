package middleware

import (
	"net/http"
	"slices"

	"github.com/stint-go/stint/policy"
)

// PerKey returns a middleware that limits each key of a KeyFunc, by a rule
// "per_key" that is added to the Config's. Like all methods of Config that
// return a middleware it panics if the Config is wrong, and its Limiter is never
// closed: where limiters come and go, make them with [New].
func (c Config) PerKey(key KeyFunc, limits ...policy.Limit) func(http.Handler) http.Handler {
	return c.with(Rule{Name: "per_key", Key: key, Limits: limits})
}

// PerWorkspace is PerKey with a rule "per_workspace": for the account, team or
// tenant that many keys belong to.
func (c Config) PerWorkspace(workspace KeyFunc, limits ...policy.Limit) func(http.Handler) http.Handler {
	return c.with(Rule{Name: "per_workspace", Key: workspace, Limits: limits})
}

// PerIP limits each [ClientIP], by a rule "per_ip".
func (c Config) PerIP(limits ...policy.Limit) func(http.Handler) http.Handler {
	return c.with(Rule{Name: "per_ip", Key: ClientIP, Limits: limits})
}

// PerMethod limits each [Method] of each key, by a rule "per_method".
func (c Config) PerMethod(key KeyFunc, limits ...policy.Limit) func(http.Handler) http.Handler {
	return c.with(Rule{Name: "per_method", Key: joined(key, Method), Limits: limits})
}

// PerEndpoint limits each [Endpoint] of each key, by a rule "per_endpoint". For
// a limit that all clients of an endpoint share, write PerKey(Endpoint, …).
func (c Config) PerEndpoint(key KeyFunc, limits ...policy.Limit) func(http.Handler) http.Handler {
	return c.with(Rule{Name: "per_endpoint", Key: joined(key, Endpoint), Limits: limits})
}

// PerKey is [Config.PerKey] of the zero Config: one line, in memory.
func PerKey(key KeyFunc, limits ...policy.Limit) func(http.Handler) http.Handler {
	return Config{}.PerKey(key, limits...)
}

// PerWorkspace is [Config.PerWorkspace] of the zero Config.
func PerWorkspace(workspace KeyFunc, limits ...policy.Limit) func(http.Handler) http.Handler {
	return Config{}.PerWorkspace(workspace, limits...)
}

// PerIP is [Config.PerIP] of the zero Config.
func PerIP(limits ...policy.Limit) func(http.Handler) http.Handler {
	return Config{}.PerIP(limits...)
}

// PerMethod is [Config.PerMethod] of the zero Config.
func PerMethod(key KeyFunc, limits ...policy.Limit) func(http.Handler) http.Handler {
	return Config{}.PerMethod(key, limits...)
}

// PerEndpoint is [Config.PerEndpoint] of the zero Config.
func PerEndpoint(key KeyFunc, limits ...policy.Limit) func(http.Handler) http.Handler {
	return Config{}.PerEndpoint(key, limits...)
}

func (c Config) with(rule Rule) func(http.Handler) http.Handler {
	c.Rules = append(slices.Clip(c.Rules), rule)
	return Must(New(c)).Handler
}

// joined leaves a missing key for New to report.
func joined(key, dimension KeyFunc) KeyFunc {
	if key == nil {
		return nil
	}
	return Join(key, dimension)
}
