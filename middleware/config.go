package middleware

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/respond"
)

// A Config says what a [Limiter] does. It is a plain value: write it as a
// literal, copy it, change the copy. [New] copies what it needs, so that later
// changes to a Config change no Limiter.
type Config struct {
	// Name is the limiter's name. Counts are stored under it, so that another
	// name starts all counts afresh, and two Limiters with one name, one Store
	// and a rule of one name count together. Empty means "api".
	Name string

	// Store counts. Nil means a memstore of the Limiter's own, which
	// [Limiter.Close] closes; any other Store stays the caller's to close.
	Store policy.Store

	// Rules are the limiter's rules, at least one. A request must be allowed by
	// every rule that it does not skip; their order decides nothing but ties.
	Rules []Rule

	// FoldCase says that the handlers behind take paths in any case, so that
	// patterns in Rules do too. False means that case matters, as to http.ServeMux
	// and chi.
	FoldCase bool

	// MethodOverride names the header field, such as X-HTTP-Method-Override, in
	// which handlers behind the Limiter let a client put another method in the place
	// of the request's. A rule then includes a request by either method, and excludes
	// it by both. Empty means that no such field is read: right where nothing behind
	// reads one either, or where the Limiter stands behind what does.
	MethodOverride string

	// Style is how decisions become header fields and refusals. The zero Style
	// writes X-RateLimit fields and refuses with 429 and a problem document.
	Style respond.Style

	// Styles are other styles, by name, for the requests that StyleFor says the
	// name for: clients that ask for other answers, as by a version in a header.
	// Stacked Limiters should have the same ones.
	Styles map[string]respond.Style

	// StyleFor returns which of Styles a request is answered in. A name that is
	// not among them means Style, as "" does. It must be safe for concurrent use.
	// What it reads the response depends on: have Vary say so.
	StyleFor func(*http.Request) string

	// Scale reduces the rates and bursts of all rules while it is below 1. Nil
	// means that they stay whole, but for rules with a Scale of their own.
	Scale *Scale

	// Budget bounds each call of the Store, which does not inherit the client's
	// cancellation. Zero means 50 ms.
	Budget time.Duration

	// Instances is how many processes share the Store: what a rule with [FailLocal]
	// admits in each of them while the Store is away is divided by it. Zero means that
	// the Store counts them, as redisstore does.
	Instances int

	// Observe is called with an [Event] for every decision. It is on every
	// request's way: it must be quick, safe for concurrent use, and not panic.
	// Nil means that failures go to slog's default logger, at most once a
	// second, and all else nowhere.
	Observe func(Event)
}

const (
	defaultName   = "api"
	defaultBudget = 50 * time.Millisecond
)

// New returns a Limiter that does what c says, or an error that names the rule
// at fault and says what to write instead. Nothing about the Limiter changes
// afterwards.
func New(c Config) (*Limiter, error) {
	l := &Limiter{
		name:    c.Name,
		store:   c.Store,
		scale:   c.Scale,
		budget:  c.Budget,
		observe: c.Observe,
		alarm:   new(alarm),
		quotas:  new(quotaWatch),

		foldCase:       c.FoldCase,
		methodOverride: http.CanonicalHeaderKey(c.MethodOverride),
	}
	if l.name == "" {
		l.name = defaultName
	}
	if l.budget == 0 {
		l.budget = defaultBudget
	}
	if err := policy.CheckName(l.name); err != nil {
		return nil, fmt.Errorf("ratelimit: Name: %w", err)
	}
	if l.budget < 0 {
		return nil, fmt.Errorf("ratelimit: Budget %v: write how long a call of the Store may take, such as 50ms", c.Budget)
	}
	if c.Instances < 0 {
		return nil, fmt.Errorf("ratelimit: Instances %d: write how many processes share the Store, or leave it out", c.Instances)
	}
	if err := l.setStyles(c); err != nil {
		return nil, err
	}
	if strings.ContainsFunc(c.MethodOverride, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
		return nil, fmt.Errorf("ratelimit: MethodOverride %q: write the name of a header field, such as X-HTTP-Method-Override", c.MethodOverride)
	}
	if err := checkStore(c.Store); err != nil {
		return nil, err
	}
	if len(c.Rules) == 0 {
		return nil, errors.New("ratelimit: no rules: write at least one Rule")
	}
	if err := l.add(c.Rules); err != nil {
		return nil, err
	}
	if l.store == nil {
		l.store, l.ownsStore = memstore.New(memstore.Options{}), true
	}
	l.leases = &leases{store: l.store}
	_, l.inMemory = l.store.(*memstore.Store)
	l.blocks = newKnownBlocks(l.store, l.inMemory)
	l.health, l.fallback = newHealth(l.store, l.emit), &fallback{name: l.name, given: c.Instances}
	if err := l.prepare(); err != nil {
		return nil, err
	}
	return l, nil
}

// Must returns the Limiter, or panics if there is an error. It is for wiring,
// where a program that is misconfigured must not start.
func Must(l *Limiter, err error) *Limiter {
	if err != nil {
		panic(err)
	}
	return l
}

// checkStore refuses what would panic later: typed nils, and stores that cannot
// be compared with those of other Limiters.
func checkStore(s policy.Store) error {
	if s == nil {
		return nil
	}
	v := reflect.ValueOf(s)
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return fmt.Errorf("ratelimit: Store is a nil %T: write nil for a store in memory, or make one", s)
	}
	if !v.Comparable() {
		return fmt.Errorf("ratelimit: Store %T cannot be compared: write a pointer to it", s)
	}
	return nil
}
