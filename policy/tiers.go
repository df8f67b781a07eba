package policy

import (
	"fmt"
	"maps"
	"slices"
)

// Tiers gives each plan its limits, by the plan's name. It is a plain value:
// write it as a literal, print it, compare two versions of it.
//
//	policy.Tiers{
//		"basic":   {policy.PerMinute(60), policy.PerHour(600)},
//		"premium": {policy.PerMinute(300), policy.PerHour(3000)},
//	}
//
// Tiers are for reading once they are in use. An empty list means no limit.
type Tiers map[string][]Limit

// Overrides gives single subjects limits of their own, by the subject's key.
// Subjects it does not name have none.
type Overrides = Tiers

// Validate returns an error that names the tier and the limit at fault.
func (t Tiers) Validate() error {
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if err := ValidateLimits(t[name]); err != nil {
			return fmt.Errorf("tier %q: %w", name, err)
		}
	}
	return nil
}

// ValidateLimits returns an error if one of the limits is invalid, or if two
// have one name and so would share their state.
func ValidateLimits(limits []Limit) error {
	for i := range limits {
		if err := limits[i].Validate(); err != nil {
			return err
		}
		for j := range i {
			if limits[i].Name() == limits[j].Name() {
				return fmt.Errorf("policy: two limits named %q (%s and %s): tell them apart with Named",
					limits[i].Name(), limits[j], limits[i])
			}
		}
	}
	return nil
}
