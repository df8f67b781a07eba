package middleware

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/stint-go/stint/policy"
)

// A Guard keeps those out who guess: passwords on a login route, or keys all over
// an API. Its rules count failures, and block after too many:
//
//   - Name.ip, by the client's network, so that one network does not try a few
//     passwords on each of many accounts;
//   - Name.pair, by network and account, which is the strictest: who fails to log in
//     to one account from one place;
//   - Name.account, by account, for attacks from many networks at once. Anybody could
//     lock somebody out by it, so there is none without Known, which lets the owner in
//     on a device, or from an address, that the service knows.
//
// They are rules like others, of any [Config], and are decided with them at once:
//
//	login := ratelimit.Guard{Name: "login", Account: account, Known: hasDeviceCookie}
//	limits, err := ratelimit.New(ratelimit.Config{Store: store, Rules: login.Rules()})
//	r.With(limits.Handler).Post("/login", handler)
//
// While one of them blocks, every request is refused with 429 and the reason blocked,
// that with the right password too. The failure that starts a block is still answered
// by the handler.
//
// Each request takes a try at the door, and has it back unless it fails: of a
// thousand guesses at once as many reach the handler as failures are allowed. Others are
// refused meanwhile with the reason concurrency_exceeded. AfterResponse is for routes
// where that is too strict.
type Guard struct {
	// Name begins the names of the rules. It is required.
	Name string

	// On and Except say which requests are guarded, as in [Rule]. Nil means all.
	On, Except []string

	// IP says which network a request comes from. Nil means [ClientIP], which
	// counts IPv6 addresses by /64.
	IP KeyFunc

	// Account says whose account a request is about, as it claims: the name that it
	// logs in with. Spellings that differ in case ([strings.EqualFold]), or in space
	// around them, are one. A request that names none (the key is empty, or
	// [ErrNoKey]) shares no count with others that do not, and is counted by its
	// network alone. Nil means that all are.
	Account KeyFunc

	// Known tells whether a request comes from where the account's owner has been
	// before: by a signed cookie that is set at a login, say. It passes Name.account.
	// Nil means that there is no such rule.
	Known func(*http.Request) bool

	// PerIP, PerPair and PerAccount are lock-outs. The zero Limits mean 100 failures
	// in 15 minutes, 10 in 15 minutes and 100 an hour, with blocks of an hour, 4
	// hours and a day.
	PerIP, PerPair, PerAccount policy.Limit

	// Failed tells whether a request has failed, by its outcome. Nil means by status
	// 401 or 403. A handler may say so itself, by [Failed] and [Succeeded].
	Failed func(*http.Request, Outcome) bool

	// AfterResponse takes nothing at the door, where blocks alone are looked at, and
	// counts a failure when it was answered: for whole APIs, whose clients send much
	// at once and hardly fail. There may be as many failures more as requests are in
	// flight. A GET is no success by its status alone: see [Guard.Rules].
	AfterResponse bool

	// Skip lets a request pass all rules, as in [Rule].
	Skip func(*http.Request) bool

	// Fail says what happens when the store fails, which a flood of guesses may bring
	// about: when more come at once than it can answer within the budget. FailOpen, the
	// zero value, lets them pass then, uncounted. FailLocal counts them in memory.
	Fail FailMode
}

// Rules returns the guard's rules. What is wrong with them [New] tells.
//
// A request that succeeds lets Name.pair forget its failures, its past blocks and
// one that began meanwhile. The other rules forget nothing: who has one account of his
// own could go on guessing others' otherwise. It succeeds by [Succeeded], or by a
// status below 400 that is no failure, if its method is POST, PUT, PATCH or DELETE:
// the form of a login is answered 200, too. A handler that has panicked, or that has
// written nothing when the request's context has ended, did not succeed. Whether it
// failed, Failed says.
func (g Guard) Rules() []Rule {
	network := g.IP
	if network == nil {
		network = ClientIP
	}
	address := func(ip string) []string { return networksOf(network, ip) }
	name := func(account string) []string { return []string{oneSpelling(account)} }
	rules := []Rule{g.rule(".ip", network, g.PerIP, policy.Lockout(100, 15*time.Minute))}
	rules[0].parts = []func(string) []string{address}
	if g.Account == nil {
		return rules
	}
	account := accountKey(g.Account)
	pair := g.rule(".pair", Join(network, account), g.PerPair, policy.Lockout(10, 15*time.Minute))
	pair.optional, pair.clears, pair.parts = true, true, []func(string) []string{address, name}
	rules = append(rules, pair)
	if g.Known == nil {
		return rules
	}
	all := g.rule(".account", account, g.PerAccount, policy.Lockout(100, time.Hour))
	all.optional, all.parts = true, []func(string) []string{name}
	all.Skip = func(r *http.Request) bool { return g.Skip != nil && g.Skip(r) || g.Known(r) }
	return append(rules, all)
}

func (g *Guard) rule(name string, key KeyFunc, limit, otherwise policy.Limit) Rule {
	if limit == (policy.Limit{}) {
		limit = otherwise
	}
	r := Rule{
		Name: g.Name + name, On: g.On, Except: g.Except, Key: key, Limits: []policy.Limit{limit},
		Skip: g.Skip, Fail: g.Fail, guards: true,
	}
	if g.Failed != nil {
		r.Settle = settleBy(g.Failed)
	}
	if g.AfterResponse {
		r.Cost = func(*http.Request) (int64, error) { return 0, nil }
	}
	return r
}

// accountKey returns a KeyFunc for accounts, of which one has many spellings.
func accountKey(account KeyFunc) KeyFunc {
	return func(r *http.Request) (string, error) {
		name, err := account(r)
		if err != nil {
			return "", fmt.Errorf("account: %w", err)
		}
		return nonEmpty(oneSpelling(name))
	}
}

// oneSpelling returns one and the same of all spellings that are equal under Unicode's
// simple case folding, which joins more than pairs: k, K and the sign of the kelvin.
func oneSpelling(account string) string {
	return strings.Map(func(r rune) rune {
		if unicode.SimpleFold(r) == r {
			return r
		}
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		return unicode.ToLower(least)
	}, strings.TrimSpace(account))
}

// networksOf returns the keys that an address may be counted by: itself, as it may be
// where a KeyFunc finds it in a header field, and its network, by what the KeyFunc says
// of a connection's peer.
func networksOf(network KeyFunc, ip string) (keys []string) {
	keys = []string{ip}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return keys
	}
	defer func() { _ = recover() }() // it needs more of a request than there is
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: http.Header{}, RemoteAddr: netip.AddrPortFrom(addr, 0).String()}
	key, err := network(r)
	if err != nil || key == ip {
		return keys
	}
	addr = addr.Unmap().WithZone("")
	if one, err := netip.ParseAddr(key); err == nil && one == addr {
		keys = append(keys, key)
	} else if many, err := netip.ParsePrefix(key); err == nil && many.Contains(addr) {
		keys = append(keys, key)
	}
	return keys
}
