package middleware

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/stint-go/stint/policy"
)

// A Rule says which requests are limited, under whose key, by which limits, at
// what cost, and what happens when the store fails.
//
// Its functions are called by many goroutines at once. If one panics, the panic
// goes the way of a handler's: nothing has been taken yet under the rule, and
// the request is not served.
type Rule struct {
	// Name names the rule in header fields and events, and in the store: counts
	// are kept under it. It is required, and one of its kind in a Limiter.
	Name string

	// Scope is what clients are told of whose count it is, such as per_workspace,
	// where several rules are about the same: in [respond.Fields] and refusals.
	// Empty means Name.
	Scope string

	// On says which requests meet the rule, by patterns of http.ServeMux and more:
	// "POST,PUT /orders/". See [Config.FoldCase] and "Endpoints" in the package's
	// documentation. A request that any of them matches in any reading meets the
	// rule. Nil or empty means every request.
	On []string

	// Except says which requests do not meet the rule all the same, by the same
	// patterns: those that they match in every reading. Nil means none.
	Except []string

	// Key says under whose key a request is counted. It is required.
	Key KeyFunc

	// Partition names a coarser owner of the key, such as an API key's
	// workspace, so that a store of many nodes keeps both in one place and asks
	// both at once. It must depend on the key alone, or one key would be counted
	// in two places. Nil means the key itself.
	Partition KeyFunc

	// Limits are the rule's limits, all of which must allow. With LimitsFor they
	// are the default. A [policy.Lockout] counts failures: it has a rule of its own,
	// mostly one of a [Guard].
	Limits []policy.Limit

	// LimitsFor chooses the limits of a request, as by [ByTier]. A nil slice
	// means Limits, an empty one that is not nil means none. If it answers an
	// error, or nil where there are no Limits, the request is refused with 500
	// and the reason misconfigured. The slice is kept until the request's end, so
	// it must not change. A nil LimitsFor means Limits always.
	//
	// State is kept under the limits' names, not their numbers: a request under
	// changed numbers finds the usage there is.
	LimitsFor LimitsFunc

	// Cost says how many units of each limit a request takes. What can never be
	// admitted is refused with 413; an error or a negative cost with 400 and the
	// reason invalid_cost. Nil means 1. A cost known only afterwards is
	// corrected with [SetCost].
	Cost func(*http.Request) (int64, error)

	// Costs says the same part by part, in place of Cost, as by [CostsBy]: a
	// request takes what the parts add up to. [respond.Points] tells clients of
	// them. Nil means Cost.
	Costs *Costing

	// MinCost is the least that a request costs, whatever Cost, Costs, Settle and
	// [SetCost] say. Among parts, what is missing is called minimum. A request
	// that Cost or Costs refuses with a [CostError] is charged it too. Zero means
	// that there is no minimum.
	MinCost int64

	// Settle says what a request has cost in the end, by its [Outcome], where that
	// differs from Cost: nothing if the server failed, say, or as much as was
	// written. It is called when the handler has returned, after any [SetCost],
	// and corrects the rule's count as that does: also in header fields, if none
	// were sent. Less than zero is zero. Nil means that the response does not
	// matter, but for lock-outs: of those it says how many failures there were, and
	// nil means one if the status is 401 or 403.
	Settle func(*http.Request, Outcome) int64

	// Skip lets a request pass the rule uncounted, as [Preflight] does for CORS
	// or an allow-list for partners. Nil means that it skips none.
	Skip func(*http.Request) bool

	// Fail says what happens when the store fails. The rules of a Limiter are asked
	// in one call: on one node they fail together. Where a store has several, rules
	// that can be decided are decided, and each of the others fails as it says: one
	// FailClosed refuses the request.
	Fail FailMode

	// Scale reduces the rule's rates and bursts while it is below 1. Nil means
	// that [Config].Scale alone does.
	Scale *Scale

	// Critical rules are scaled last by an [Adaptive]: only when all others are at
	// its floor. A factor that was set by hand makes no difference between them.
	Critical bool

	guards   bool                    // a Guard's: it locks out
	optional bool                    // passes a request without key
	clears   bool                    // forgets failures at a success
	parts    []func(string) []string // of a key: how an operator's are read
}

// LimitsFunc chooses limits by request, for [Rule.LimitsFor].
type LimitsFunc = func(*http.Request) ([]policy.Limit, error)

// A FailMode says what happens to a request whose limits cannot be asked,
// because the store failed or did not answer within the budget.
type FailMode uint8

const (
	// FailOpen serves the request, without header fields, and tells of it with
	// a [Bypassed] event. It is the zero value.
	FailOpen FailMode = iota

	// FailClosed refuses the request with 503, Retry-After: 1 and the reason
	// store_unavailable.
	FailClosed

	// FailLocal counts in memory until the store is back: this process admits an
	// equal share of each limit, rounded down, among the [Config.Instances] or as many
	// as the store has counted. A share that rounds to nothing, or is less than what
	// the request costs, or among a number that is not known yet, is FailClosed.
	// Limiters over one Store that count together do so in memory, too. Header fields
	// tell of the share. Slots are shared as well; what holds one of the store's is not
	// counted among them. A Quota cannot be shared: among Limits it is an error of New,
	// and one that LimitsFor chooses is FailClosed.
	FailLocal
)

// String returns "open", "closed" or "local".
func (m FailMode) String() string {
	switch m {
	case FailOpen:
		return "open"
	case FailClosed:
		return "closed"
	case FailLocal:
		return "local"
	}
	return fmt.Sprintf("FailMode(%d)", uint8(m))
}

// A rule is a Rule that was validated and copied.
type rule struct {
	Rule
	limiter string
	scope   policy.Scope
	hold    meanHold
	scales  bool         // a Scale may reduce its limits
	scaled  atomic.Int64 // by how much less than Whole they were last
	lockout bool         // its limits are lock-outs

	on, except []pattern // parsed
}

// add appends rules to the limiter's.
func (l *Limiter) add(rules []Rule) error {
	for _, r := range rules {
		position := len(l.rules) + 1
		if err := l.checkRule(&r); err != nil {
			return fmt.Errorf("ratelimit: rule %d (%q): %w", position, r.Name, err)
		}
		on, except, err := l.patterns(&r)
		if err != nil {
			return fmt.Errorf("ratelimit: rule %d (%q): %w", position, r.Name, err)
		}
		r.Limits, r.Scope = slices.Clone(r.Limits), cmp.Or(r.Scope, r.Name)
		lockout, _ := locksOut(r.Limits)
		if lockout && r.Settle == nil {
			r.Settle = settleBy(unauthorized)
		}
		l.rules = append(l.rules, &rule{
			Rule: r, limiter: l.name, scope: policy.NewScope(l.name, r.Name),
			lockout: lockout, scales: canScale(&r), on: on, except: except,
		})
	}
	var err error
	l.matcher, err = newMatcher(l)
	return err
}

func (l *Limiter) checkRule(r *Rule) error {
	if err := policy.CheckName(r.Name); err != nil {
		return err
	}
	for i, other := range l.rules {
		if other.Name == r.Name {
			return fmt.Errorf("rule %d has this name: write another, since counts are kept under it", i+1)
		}
	}
	if r.Scope != "" {
		if err := policy.CheckName(r.Scope); err != nil {
			return fmt.Errorf("in Scope: %w", err)
		}
	}
	switch {
	case r.Key == nil:
		return errors.New(`no Key: write one, such as ratelimit.Header("X-API-Key")`)
	case len(r.Limits) == 0 && r.LimitsFor == nil:
		return errors.New("no Limits: write at least one, such as policy.PerMinute(60), or LimitsFor")
	case r.Cost != nil && r.Costs != nil:
		return errors.New("both Cost and Costs: write one of them")
	case r.MinCost < 0 || r.MinCost > policy.MaxUnits:
		return fmt.Errorf("MinCost %d: write one from 0 to %d", r.MinCost, int64(policy.MaxUnits))
	case r.Fail > FailLocal:
		return fmt.Errorf("mode of failure %s: write FailOpen, FailClosed or FailLocal in Fail", r.Fail)
	case r.Fail == FailLocal && slices.ContainsFunc(r.Limits, func(l policy.Limit) bool { return isQuota(&l) }):
		return errors.New("FailLocal with a Quota, which no process can count alone: write FailOpen or FailClosed, or put the quota into a rule of its own")
	}
	if lockout, err := locksOut(r.Limits); err != nil {
		return err
	} else if r.guards && !lockout {
		return errors.New("a guard's limit is no Lockout: write one, such as policy.Lockout(10, 15*time.Minute)")
	} else if lockout && r.MinCost > 0 {
		return errors.New("MinCost with a Lockout, which would count what has not failed: leave it out")
	}
	return policy.ValidateLimits(r.Limits)
}

// limitsFor returns the limits of a request.
func (r *rule) limitsFor(req *http.Request) ([]policy.Limit, error) {
	if r.LimitsFor == nil {
		return r.Limits, nil
	}
	limits, err := r.LimitsFor(req)
	if _, unknown := errors.AsType[unknownTierError](err); unknown && len(r.Limits) > 0 {
		return r.Limits, nil
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("ratelimit: rule %q: limits: %w", r.Name, err)
	case limits == nil && len(r.Limits) == 0:
		return nil, fmt.Errorf("ratelimit: rule %q: LimitsFor chose the default, and there are no Limits", r.Name)
	case limits == nil:
		return r.Limits, nil
	}
	if err := policy.ValidateLimits(limits); err != nil {
		return nil, fmt.Errorf("ratelimit: rule %q: limits: %w", r.Name, err)
	}
	for i := range limits {
		if isLockout(&limits[i]) != r.lockout {
			return nil, fmt.Errorf("ratelimit: rule %q: LimitsFor chose %s: the limits of a rule are all Lockouts, its Limits too, or none is", r.Name, limits[i])
		}
	}
	return limits, nil
}

// keyFor returns the key and the partition of a request.
func (r *rule) keyFor(req *http.Request) (key, partition string, err error) {
	if key, err = ask(r.Key, req); err != nil {
		return "", "", fmt.Errorf("ratelimit: rule %q: key: %w", r.Name, err)
	}
	if r.Partition != nil {
		if partition, err = ask(r.Partition, req); err != nil {
			return "", "", fmt.Errorf("ratelimit: rule %q: partition: %w", r.Name, err)
		}
	}
	return key, partition, nil
}

// costOf returns the units that a request takes by Cost.
func (r *rule) costOf(req *http.Request) (int64, error) {
	if r.Cost == nil {
		return 1, nil
	}
	units, err := r.Cost(req)
	switch {
	case err != nil:
		return max(0, min(units, policy.MaxUnits+1)), fmt.Errorf("ratelimit: rule %q: cost: %w", r.Name, err)
	case units < 0:
		return 0, fmt.Errorf("ratelimit: rule %q: cost %d is negative: give units back with SetCost", r.Name, units)
	}
	// More than any limit holds is never admitted, and adds up without overflow.
	return min(units, policy.MaxUnits+1), nil
}
