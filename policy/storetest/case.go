package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// A Case holds a store to one sentence of the contract.
type Case struct {
	Number   int    // the sentence's
	Name     string // what the case is about, unique
	Sentence string // as it stands in the contract
	check    func(p *probe)
}

// ErrNotApplicable is what Check returns if a bench cannot show what the case is
// about.
var ErrNotApplicable = errors.New("storetest: the harness cannot show this")

// Run holds the stores of a harness to every case, then to random operations.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(fmt.Sprintf("%02d/%s", c.Number, c.Name), func(t *testing.T) {
			switch err := c.Check(t, h); {
			case errors.Is(err, ErrNotApplicable):
				t.Skip(err)
			case err != nil:
				t.Errorf("sentence %d of the contract of policy.Store says:\n\n    %s\n\n%v", c.Number, c.Sentence, err)
			}
		})
	}
	t.Run("random", func(t *testing.T) { random(t, h) })
}

// Cases returns all cases, in the order of the sentences.
func Cases() []Case {
	cases := slices.Concat(
		jointCases, apartCases, clockCases, waitCases, sumCases, penaltyCases, neverCases, peekCases,
		settleCases, leaveCases, lifetimeCases, errorCases, absenceCases, leaseCases, queueCases, waitingCases, lockoutCases, numbersCases, scaleCases, keyCases,
		concurrencyCases, quotaCases,
	)
	for i := range cases {
		cases[i].Sentence = sentences[cases[i].Number]
	}
	return cases
}

// Check runs the case on a bench of its own, and returns what was wrong.
func (c Case) Check(tb testing.TB, h Harness) error {
	tb.Helper()
	k := newClock()
	p := &probe{Bench: h(tb, k.now), clock: k}
	defer p.close()
	c.check(p)
	return p.err
}

// close closes the stores. Some may be one and the same, or closed already, so
// errors mean nothing here.
func (b *Bench) close() {
	for _, s := range b.Stores {
		_ = s.Close()
	}
}
