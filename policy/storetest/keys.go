package storetest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stint-go/stint/policy"
)

// Sentence 18: keys.
var keyCases = []Case{
	{Number: 18, Name: "odd keys are distinct", check: oddKeys},
	{Number: 18, Name: "keys and partitions are not glued together", check: gluedKeys},
	{Number: 18, Name: "scopes and names are not glued together", check: gluedNames},
	{Number: 18, Name: "no partition is the key's own", check: ownPartition},
	{Number: 18, Name: "reset forgets what it names, alone", check: resetAlone},
	{Number: 18, Name: "one request's fault is its own", check: faultsApart},
}

// odd are keys that a careless store would mix up, or choke on.
func odd() []string {
	mega := strings.Repeat("m", 1<<20)
	keys := []string{
		"", " ", "  ", "a", "A", "b", "a:b", "a:b:c", "a::b", ":", "::", "a/b", "a|b", "a,b", "0", "00", "-1", "1e3", "nil", "false",
		"{", "}", "{}", "{}}", "{a", "a}", "{a}", "{a}b", "{a}{b}", "{{a}}", "b{a}", "}{", "a{}b", "{a}:b", "{a:b}",
		"\x00", "\x00\x00", "a\x00", "a\x00b", "\r\n", "\n", "\r", "a\r\nSET x 1\r\n", "$1\r\na\r\n", "*1\r\n",
		"%", "%%", "%7B", "%7b", "%7D", "%25", "%257B", "%7Ba%7D", "%00", "%s", "%d", "\\", "\\\\", "\\x00", "\\{", "\\0", "~", "~0", "~1",
		"é", "e\u0301", "\u00e9\u0301", "日本語", "\U0001f600", "\ufeff", "\u200b", "\xff", "\xff\xfe", "\xc3", "\xc3\x28", "\xed\xa0\x80",
		"*", "?", "[a]", "a*", "'", "\"", "`", "$1", "KEYS[1]", "stint", "stint:", "stint:{a}", "s:{a}", "1:a", "1:a1:b", "2:a:",
		"\x01a", "\x01", "\x02ab", "\x80", "\x80\x01", strings.Repeat("a", 127), strings.Repeat("a", 128), strings.Repeat("a", 255),
		strings.Repeat("a", 256), strings.Repeat("{", 64), strings.Repeat("\x00", 64), strings.Repeat("a", 65535), strings.Repeat("a", 65536),
		mega, mega + "m", mega[1:] + "n", "n" + mega[1:],
	}
	return keys
}

// oddKeys gives each key its own usage, and reads all of them afterwards. Each
// is used alone, in a partition, and as a partition.
func oddKeys(p *probe) {
	keys := odd()
	var charges []policy.Charge
	for i, key := range keys {
		charges = append(charges, in("tenant", charge(policy.FixedWindow(1000, 24*time.Hour), key, int64(1+i))))
		if key != "" {
			charges = append(charges, in(key, charge(policy.SlidingLog(1000, 24*time.Hour), "owned", int64(300+i))))
		}
		if key != "tenant" {
			charges = append(charges, charge(policy.TokenBucket(1000, 24*time.Hour), key, int64(600+i)))
		}
		slots := policy.Concurrency(9).WithLease(time.Hour)
		charges = append(charges, charge(slots, key, 1), in("its "+key, charge(slots, key, 1)))
	}
	for _, c := range charges {
		p.admit(c)
	}
	for i, c := range charges {
		if p.used(c.Units, c); p.err != nil {
			p.failf("charge %d of %d: key %.40q in partition %.40q", i, len(charges), c.Key, c.Partition)
			return
		}
		// Its fellows on the same key have none.
		c.Limit = policy.PerDay(1000)
		p.used(0, c)
	}
}

func gluedKeys(p *probe) {
	l := policy.FixedWindow(1000, 24*time.Hour)
	parts := []string{
		"a", "b", "ab", "abc", "c", "bc", "a:b", "b:c", "a:", ":b", ":", "a:b:c", "{a}", "{a}b", "b{a}", "a}", "{b", "a}{b", "a\x00", "\x00b", "\x00",
		"1", "11", "1:1", "a1", "1a", "%", "%3A", "a%3Ab", "\\", "a\\", "\\b",
	}
	units := int64(0)
	var charges []policy.Charge
	for _, partition := range parts {
		for _, key := range parts {
			if key != partition {
				units = units%997 + 1
				charges = append(charges, in(partition, charge(l, key, units)))
			}
		}
		units = units%997 + 1
		charges = append(charges, charge(l, partition, units)) // in its own
	}
	for _, c := range charges {
		p.admit(c)
	}
	for _, c := range charges {
		if p.used(c.Units, c); p.err != nil {
			p.failf("key %q in partition %q", c.Key, c.Partition)
			return
		}
	}
}

func gluedNames(p *probe) {
	units := int64(0)
	var charges []policy.Charge
	names := []string{"a", "b", "ab", "a/b", "a.b", "a-b", "window-1d", "1", "11"}
	for _, limiter := range names {
		for _, rule := range names {
			for _, name := range names[:5] {
				units++
				c := charge(policy.PerDay(1000).Named(name), "k", units)
				c.Scope = policy.NewScope(limiter, rule)
				charges = append(charges, c)
			}
		}
	}
	for _, c := range charges {
		p.admit(c)
	}
	for _, c := range charges {
		if p.used(c.Units, c); p.err != nil {
			return
		}
	}
	var unscoped policy.Charge
	unscoped.Limit, unscoped.Key = policy.PerDay(1000), "k"
	p.used(0, unscoped)
}

func ownPartition(p *probe) {
	for _, l := range every(10, time.Hour) {
		for _, key := range []string{"k", "{k}", "a:b", "\x00"} {
			c := charge(l, key, 3)
			p.admit(c)
			p.admit(in(key, c))
			p.used(6, c)
			p.used(6, in(key, c))
			p.admit(with(2, c, in(key, c))...)
			p.used(10, c)
			p.used(0, in("other", c))
		}
	}
}

func resetAlone(p *probe) {
	for _, l := range every(100, time.Hour) {
		a, b := charge(l, "a", 10), charge(l, "b", 20)
		named, scoped, placed := a, a, in("b", a)
		named.Limit = l.Named("other")
		scoped.Scope = policy.NewScope("storetest", "other")
		p.align(time.Hour, 0)
		for _, c := range []policy.Charge{a, b, named, scoped, placed} {
			p.admit(c)
		}
		p.reset(a, placed)
		p.used(0, a)
		p.used(0, placed)
		p.used(20, b)
		p.used(10, named)
		p.used(10, scoped)
		p.reset(charge(l, "never seen", 0), b)
		p.used(0, b)
		p.admit(with(100, a)...)
		p.reset(with(0, a)...)
		p.admit(with(100, a)...)
		p.reset(a, b, named, scoped, placed)
		p.reset()
	}
}

// faultsApart sends requests that cannot be granted beside some that can, at
// once, so that a store that groups them has to keep them apart.
func faultsApart(p *probe) {
	const good, faults = 30, 60
	l := policy.PerHour(1000)
	done := make(chan error, good+faults)
	for i := range faults {
		s := p.Stores[i%len(p.Stores)]
		ctx, cancel := context.WithCancel(context.Background())
		charges := []policy.Charge{charge(l, "fault", 1)}
		switch i % 4 {
		case 0:
			charges[0].Units = 2000
		case 1:
			charges[0].Units = -1
		case 2:
			cancel()
		case 3:
			charges = append(charges, charge(policy.Limit{}, "fault", 1))
		}
		go func() {
			defer cancel()
			var d policy.Decision
			if err := s.Take(ctx, policy.NewTicket(), charges, &d); err == nil && d.Verdict == policy.Allowed {
				done <- fmt.Errorf("%s: allowed", describe(charges))
				return
			}
			done <- nil
		}()
	}
	for i := range good {
		s := p.Stores[i%len(p.Stores)]
		go func() {
			charges := []policy.Charge{charge(l, "good", 1)}
			var d policy.Decision
			if err := s.Take(context.Background(), policy.NewTicket(), charges, &d); err != nil {
				done <- fmt.Errorf("%s beside faulty requests: error %w", describe(charges), err)
			} else if d.Verdict != policy.Allowed {
				done <- fmt.Errorf("%s beside faulty requests: %v", describe(charges), d.Verdict)
			} else {
				done <- nil
			}
		}()
	}
	for range good + faults {
		if err := <-done; err != nil {
			p.failf("%w", err)
		}
	}
	p.used(good, charge(l, "good", 0))
	p.eventually(0, charge(l, "fault", 0))
}
