package middleware

import (
	"fmt"
	"net/http"

	"github.com/stint-go/stint/policy"
)

// ByTier chooses limits by the plan of a request's client, for
// [Rule.LimitsFor]. A tier without limits means no limit.
//
// A plan that tiers do not name gets the rule's default Limits; a rule without
// them refuses such requests with 500 and an [Event] that names the plan. So
// give the rule the limits of the smallest plan as default, or none to have
// unknown plans noticed.
//
// ByTier copies the tiers. It panics, at wiring, if they are invalid.
func ByTier(plan func(*http.Request) string, tiers policy.Tiers) LimitsFunc {
	if plan == nil {
		panic("ratelimit: ByTier: no plan: write a function that tells a request's plan")
	}
	if len(tiers) == 0 {
		panic(`ratelimit: ByTier: no tiers: write at least one, such as policy.Tiers{"basic": {policy.PerMinute(60)}}`)
	}
	tiers = copied("ByTier", tiers)
	return func(r *http.Request) ([]policy.Limit, error) {
		name := plan(r)
		limits, ok := tiers[name]
		if !ok {
			return nil, unknownTierError(name)
		}
		return limits, nil
	}
}

// ByOverride gives single subjects limits of their own, for [Rule.LimitsFor].
// Requests of subjects that overrides do not name are left to otherwise, such as
// a [ByTier], or get the rule's default Limits if it is nil. An override without
// limits means no limit.
//
// ByOverride copies the overrides. It panics, at wiring, if they are invalid.
func ByOverride(subject func(*http.Request) string, overrides policy.Overrides, otherwise LimitsFunc) LimitsFunc {
	if subject == nil {
		panic("ratelimit: ByOverride: no subject: write a function that tells whose request it is")
	}
	overrides = copied("ByOverride", overrides)
	return func(r *http.Request) ([]policy.Limit, error) {
		if limits, ok := overrides[subject(r)]; ok {
			return limits, nil
		}
		if otherwise == nil {
			return nil, nil
		}
		return otherwise(r)
	}
}

type unknownTierError string

func (e unknownTierError) Error() string { return fmt.Sprintf("unknown tier %.80q", string(e)) }

// copied returns valid tiers whose lists are never nil, since nil would mean
// the default.
func copied(caller string, tiers policy.Tiers) policy.Tiers {
	if err := tiers.Validate(); err != nil {
		panic(fmt.Sprintf("ratelimit: %s: %v", caller, err))
	}
	c := make(policy.Tiers, len(tiers))
	for name, limits := range tiers {
		c[name] = append(make([]policy.Limit, 0, len(limits)), limits...)
	}
	return c
}
