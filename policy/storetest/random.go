package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
)

const (
	opsEnv     = "STINT_OPS"
	seedEnv    = "STINT_SEED"
	defaultOps = 20_000

	// seededRun and rapidRun are the lengths of runs: long ones find more, short
	// ones shrink better.
	seededRun = 250
	rapidRun  = 40
)

// Compare holds the stores of two harnesses to each other: the same random
// operations must have equal answers, to the unit and to the microsecond. Both
// are held to the transitions of package policy too, so a failure tells which of
// the two is wrong.
func Compare(t *testing.T, a, b Harness) {
	t.Helper()
	random(t, a, b)
}

// random spends the operations on runs: short ones that rapid makes and shrinks,
// then long ones from seeds.
func random(t *testing.T, harnesses ...Harness) {
	t.Helper()
	ops, seed := number(t, opsEnv, defaultOps), number(t, seedEnv, rand.Uint64())
	t.Run("shrinking", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			if err := play(t, rapidSource{rt}, rapidRun, harnesses); err != nil {
				rt.Fatal(err)
			}
		})
	})
	t.Run("long", func(t *testing.T) {
		for done := uint64(0); done < ops; done += seededRun {
			if err := play(t, seededSource{rand.New(rand.NewPCG(seed, done))}, seededRun, harnesses); err != nil {
				t.Fatalf("%s=%d, from operation %d:\n%v", seedEnv, seed, done, err)
			}
		}
		t.Logf("%d operations, %s=%d", ops, seedEnv, seed)
	})
}

// number reads a number from the environment.
func number(t *testing.T, env string, unset uint64) uint64 {
	t.Helper()
	s := os.Getenv(env)
	if s == "" {
		return unset
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("storetest: %s=%q: write a number", env, s)
	}
	return n
}

type rapidSource struct{ t *rapid.T }

func (s rapidSource) pick(what string, n int64) int64 {
	return rapid.Int64Range(0, n-1).Draw(s.t, what)
}

type seededSource struct{ r *rand.Rand }

func (s seededSource) pick(_ string, n int64) int64 { return s.r.Int64N(n) }

// A run plays random operations to an oracle and to the benches of the
// harnesses.
type run struct {
	*world
	*clock
	oracle  *oracle
	benches []*Bench
	answers []policy.Decision // one per bench, used again and again
	last    policy.Decision   // the oracle's
	takes   []*received
	trace   []string
}

// received is an allowed or queued Take, with the results of each bench.
type received struct {
	ticket   policy.Ticket
	charges  []policy.Charge
	expected []policy.Result
	results  [][]policy.Result
	chosen   []int   // which charges the settlement corrects, once there is one
	totals   []int64 // and to what
	settled  int64   // when
}

// play runs n operations on fresh benches, and returns where an answer differed.
func play(tb testing.TB, src source, n int, harnesses []Harness) error {
	tb.Helper()
	r := &run{clock: newClock(), oracle: newOracle()}
	partitioned := false
	for _, h := range harnesses {
		b := h(tb, r.now)
		defer b.close()
		r.benches = append(r.benches, b)
		partitioned = partitioned || b.Partitioned
	}
	r.answers = make([]policy.Decision, len(r.benches))
	r.world = newWorld(src, partitioned)
	r.clock.set(start.UnixMicro() + r.pick("start", 1_000_000_000_000))
	for i := range n {
		if err := r.op(); err != nil {
			return fmt.Errorf("operation %d: %w\nafter\n    %s", i, err, strings.Join(r.trace, "\n    "))
		}
	}
	return r.everything()
}

// note keeps the story of the run, or its end.
func (r *run) note(format string, args ...any) {
	const most = 40
	if len(r.trace) == most {
		r.trace = slices.Delete(r.trace, 0, 1)
	}
	r.trace = append(r.trace, fmt.Sprintf(format, args...))
}

func (r *run) op() error {
	switch r.pick("operation", 40) {
	default:
		return r.take()
	case 32, 33, 34, 35, 36:
		return r.renew()
	case 37, 38, 39:
		return r.leave()
	case 14, 15, 16, 17, 18, 19, 20, 21:
		d := r.step(r.micro(), &r.last, r.oracle)
		r.note("the clock moves on by %v", time.Duration(d)*time.Microsecond)
		r.clock.set(r.micro() + d)
	case 22, 23, 24, 25:
		return r.settle()
	case 26:
		return r.settleAgain()
	case 27, 28:
		return r.peek(r.world.charges(r.oracle, r.micro()))
	case 29:
		if !r.steady {
			r.change()
		}
	case 30:
		r.back()
	case 31:
		if r.pick("reset", 4) == 3 {
			return r.reset()
		}
	}
	return nil
}

func (r *run) take() error {
	charges := r.world.charges(r.oracle, r.micro())
	ticket := policy.NewTicket()
	r.last = r.oracle.take(r.micro(), ticket, charges)
	r.note("Take %s: %v", describe(charges), r.last.Verdict)
	t := &received{ticket: ticket, charges: charges, expected: r.last.Results}
	err := r.ask("Take", charges, func(s policy.Store, d *policy.Decision) error {
		err := s.Take(context.Background(), ticket, charges, d)
		t.results = append(t.results, slices.Clone(d.Results))
		return err
	})
	const remembered = 12
	if r.last.Verdict != policy.Refused {
		r.takes = append(r.takes, t)
		r.takes = r.takes[max(0, len(r.takes)-remembered):]
	}
	return err
}

func (r *run) peek(charges []policy.Charge) error {
	r.last = r.oracle.peek(r.micro(), charges)
	r.note("Peek %s: %v", describe(charges), r.last.Verdict)
	if err := r.usage(charges); err != nil {
		return err
	}
	return r.ask("Peek", charges, func(s policy.Store, d *policy.Decision) error {
		return s.Peek(context.Background(), charges, d)
	})
}

// ask wants each bench to answer as the oracle did last.
func (r *run) ask(what string, charges []policy.Charge, call func(policy.Store, *policy.Decision) error) error {
	which := r.pick("store", 1024)
	for i, b := range r.benches {
		s, d := b.Stores[int(which)%len(b.Stores)], &r.answers[i]
		if err := call(s, d); err != nil {
			return fmt.Errorf("%s of %s: %T: error %w", what, describe(charges), s, err)
		}
		if diff := difference(d, &r.last); diff != "" {
			return fmt.Errorf("%s of %s: %T: %s", what, describe(charges), s, diff)
		}
	}
	return nil
}

// renew renews leases of earlier Takes, of those too that are lost or were left.
func (r *run) renew() error {
	var renewals []policy.Renewal
	for _, t := range r.takes {
		for _, c := range t.charges {
			if slotted(&c) && r.pick("renew it", 2) == 1 {
				renewals = append(renewals, policy.Renewal{Ticket: t.ticket, Charge: c})
			}
		}
	}
	want := slices.Clone(renewals)
	r.oracle.renew(r.micro(), want)
	r.note("Renew %s", standings(want))
	which := r.pick("store", 1024)
	for _, b := range r.benches {
		s, got := b.Stores[int(which)%len(b.Stores)], slices.Clone(renewals)
		if err := s.Renew(context.Background(), got); err != nil {
			return fmt.Errorf("renew: %T: error %w", s, err)
		}
		for i := range got {
			g, w := got[i].Result, want[i].Result
			g.Receipt, w.Receipt = policy.Receipt{}, policy.Receipt{}
			if g != w {
				return fmt.Errorf("renewal of %s: %T: result is\n    %+v, want\n    %+v", standings(want[i:i+1]), s, g, w)
			}
		}
	}
	return nil
}

func standings(renewals []policy.Renewal) string {
	s := ""
	for _, r := range renewals {
		s += fmt.Sprintf("%s of ticket %.8s: %v %d; ", describe([]policy.Charge{r.Charge}), r.Ticket, r.Result.Verdict, r.Result.Queue)
	}
	return s
}

// leave settles the slots of an earlier Take to zero, and nothing else.
func (r *run) leave() error {
	if len(r.takes) == 0 {
		return nil
	}
	from := *r.takes[r.pick("take", int64(len(r.takes)))]
	from.chosen, from.totals = nil, nil
	for i := range from.charges {
		if slotted(&from.charges[i]) {
			from.chosen, from.totals = append(from.chosen, i), append(from.totals, 0)
		}
	}
	if from.chosen == nil {
		return nil
	}
	return r.send(&from)
}

// settle corrects some charges of an earlier Take.
func (r *run) settle() error {
	i := slices.IndexFunc(r.takes, func(t *received) bool { return t.chosen == nil })
	if i < 0 {
		return nil
	}
	if r.pick("latest", 2) == 1 { // and not the oldest
		for j := i; j < len(r.takes); j++ {
			if r.takes[j].chosen == nil {
				i = j
			}
		}
	}
	t := r.takes[i]
	for j := range t.charges {
		if j == 0 || r.pick("settle it too", 4) > 0 {
			t.chosen = append(t.chosen, j)
			t.totals = append(t.totals, r.total(&t.charges[j]))
		}
	}
	t.settled = r.micro()
	return r.send(t)
}

// settleAgain sends a settlement of the last minute again.
func (r *run) settleAgain() error {
	const minute = 59_000_000
	for _, t := range r.takes {
		if t.chosen != nil && r.micro()-t.settled < minute && r.pick("again", 2) == 1 {
			return r.send(t)
		}
	}
	return nil
}

func (r *run) send(t *received) error {
	var charges []policy.Charge
	for _, j := range t.chosen {
		charges = append(charges, t.charges[j])
	}
	r.note("Settle %s to %v", describe(charges), t.totals)
	r.oracle.settle(r.micro(), t.ticket, t.settlements(t.expected))
	which := r.pick("store", 1024)
	for i, b := range r.benches {
		s := b.Stores[int(which)%len(b.Stores)]
		if err := s.Settle(context.Background(), t.ticket, t.settlements(t.results[i])); err != nil {
			return fmt.Errorf("settle: %T: error %w", s, err)
		}
	}
	return r.peek(charges)
}

func (t *received) settlements(results []policy.Result) []policy.Settlement {
	var s []policy.Settlement
	for i, j := range t.chosen {
		s = append(s, policy.Settlement{Charge: t.charges[j], Receipt: results[j].Receipt, Total: t.totals[i]})
	}
	return s
}

func (r *run) reset() error {
	charges := r.world.charges(r.oracle, r.micro())
	r.note("Reset %s", describe(charges))
	r.oracle.reset(charges)
	for _, b := range r.benches {
		if err := b.Stores[0].Reset(context.Background(), charges); err != nil {
			return fmt.Errorf("reset: %T: error %w", b.Stores[0], err)
		}
	}
	return r.peek(charges)
}

// back sets the clock back by less than a second, but not to before a state had
// drained.
func (r *run) back() {
	if r.steady {
		return
	}
	now := r.micro()
	to := max(now-1-r.pick("back", 999_999), r.oracle.drained(now))
	r.note("the clock is set back by %v", time.Duration(now-to)*time.Microsecond)
	r.clock.set(to)
}

// everything compares all there is, at the end.
func (r *run) everything() error {
	for i := range r.keys {
		for _, scope := range r.scopes {
			for _, l := range r.limits {
				c := policy.Charge{Limit: l, Scope: scope, Key: r.keys[i], Partition: r.places[i], Units: 1}
				if err := r.peek([]policy.Charge{c}); err != nil {
					return fmt.Errorf("at the end: %w\nafter\n    %s", err, strings.Join(r.trace, "\n    "))
				}
			}
		}
	}
	return nil
}
