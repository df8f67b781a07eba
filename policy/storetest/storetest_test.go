package storetest_test

import (
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stint-go/stint/policy/storetest"
)

func TestReferencePasses(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]storetest.Harness{
		"one process":     reference(1, nil),
		"three processes": reference(3, nil),
		"partitions apart": reference(2, func(c *counts) {
			c.apart = true
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, h)
		})
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	storetest.Compare(t, reference(1, nil), reference(2, func(c *counts) { c.apart = true }))
}

// TestSentences wants the sentences as they stand in the contract.
func TestSentences(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../store.go")
	if err != nil {
		t.Fatal(err)
	}
	contract := map[int]string{}
	current := 0
	numbered := regexp.MustCompile(`^//  (\d+)\. +(.*)$`)
	for line := range strings.Lines(string(source)) {
		line = strings.TrimRight(line, "\n")
		if m := numbered.FindStringSubmatch(line); m != nil {
			current, _ = strconv.Atoi(m[1])
			contract[current] = m[2]
		} else if rest, ok := strings.CutPrefix(line, "//     "); ok && current > 0 {
			contract[current] += " " + rest
		} else {
			current = 0
		}
	}
	has := map[int]bool{}
	names := map[string]bool{}
	for _, c := range storetest.Cases() {
		if c.Sentence == "" || c.Sentence != contract[c.Number] {
			t.Errorf("case %q: sentence %d is\n%q, the contract has\n%q", c.Name, c.Number, c.Sentence, contract[c.Number])
		}
		if names[c.Name] {
			t.Errorf("two cases are named %q", c.Name)
		}
		has[c.Number], names[c.Name] = true, true
	}
	for number, sentence := range contract {
		if !has[number] {
			t.Errorf("no case for sentence %d: %s", number, sentence)
		}
	}
	for number := range storetest.Sentences {
		if !has[number] {
			t.Errorf("sentence %d has no case", number)
		}
	}
}

func TestNotApplicable(t *testing.T) {
	t.Parallel()
	for _, c := range storetest.Cases() {
		if c.Number != 13 {
			continue
		}
		h := reference(1, nil)
		err := c.Check(t, func(tb testing.TB, now nowFunc) *storetest.Bench {
			b := h(tb, now)
			b.Stall = nil
			return b
		})
		if !errors.Is(err, storetest.ErrNotApplicable) {
			t.Errorf("without Stall %q says %v", c.Name, err)
		}
	}
}
