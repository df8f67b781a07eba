package middleware

import (
	"context"
	"errors"
	"fmt"

	"github.com/stint-go/stint/policy"
)

// A Usage is what a subject has used of one quota.
type Usage struct {
	Rule  string       // the rule's name
	Limit policy.Limit // the quota
	policy.Usage
}

// Usage returns what a subject has used of its quotas, in this period and in the
// one before, for billing. The subject is whose count it is: what the rules' Key
// says of its requests, a digest where that is a secret. There is an entry for
// each [policy.Quota] among the rules' Limits, whether the subject was ever seen
// or not. Of a rule with LimitsFor these are the default; what was used under
// another quota of the same name and period is the same count.
//
// The store must be a [policy.Meter], as stint's are. Rules with a Partition are
// left out: ask the store.
func (l *Limiter) Usage(ctx context.Context, subject string) ([]Usage, error) {
	meter, err := l.meter()
	if err != nil {
		return nil, err
	}
	var usages []Usage
	var charges []policy.Charge
	for _, r := range l.rules {
		if r.Partition != nil {
			continue
		}
		for _, limit := range r.Limits {
			if isQuota(&limit) {
				usages = append(usages, Usage{Rule: r.Name, Limit: limit})
				charges = append(charges, policy.Charge{Limit: limit, Scope: r.scope, Key: subject})
			}
		}
	}
	if len(charges) == 0 {
		return nil, nil
	}
	used, err := meter.Usage(ctx, charges)
	if err != nil {
		return nil, err
	}
	for i := range used {
		usages[i].Usage = used[i]
	}
	return usages, nil
}

// SetUsage sets what a subject has used of a rule's quotas in this period: for an
// import, or after a reconciliation. Rule and subject are as in [Limiter.Usage].
func (l *Limiter) SetUsage(ctx context.Context, rule, subject string, used int64) error {
	meter, err := l.meter()
	if err != nil {
		return err
	}
	found := false
	for _, r := range l.rules {
		if r.Name != rule || r.Partition != nil {
			continue
		}
		for _, limit := range r.Limits {
			if !isQuota(&limit) {
				continue
			}
			found = true
			if err := meter.SetUsage(ctx, policy.Charge{Limit: limit, Scope: r.scope, Key: subject}, used); err != nil {
				return err
			}
		}
	}
	if !found {
		return fmt.Errorf("ratelimit: SetUsage: no rule %q with a Quota among its Limits and without a Partition", rule)
	}
	return nil
}

func (l *Limiter) meter() (policy.Meter, error) {
	meter, ok := l.store.(policy.Meter)
	if !ok {
		return nil, errors.New("ratelimit: the Store is no policy.Meter: it does not tell usage")
	}
	return meter, nil
}
