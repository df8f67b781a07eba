package redisstore_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/stint-go/stint/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var scope = policy.NewScope("test", "rule")

// charge asks for one unit of a limit under a key.
func charge(l policy.Limit, key string) policy.Charge {
	return policy.Charge{Limit: l, Scope: scope, Key: key, Units: 1}
}

// take takes charges and fails the test on an error.
func take(t *testing.T, s policy.Store, charges ...policy.Charge) policy.Decision {
	t.Helper()
	var d policy.Decision
	if err := s.Take(t.Context(), policy.NewTicket(), charges, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// used peeks at what counts under a charge's limit.
func used(t *testing.T, s policy.Store, c policy.Charge) int64 {
	t.Helper()
	var d policy.Decision
	if err := s.Peek(t.Context(), []policy.Charge{c}, &d); err != nil {
		t.Fatal(err)
	}
	return d.Results[0].Used
}

// eventually waits for a condition that something else brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 5s: %s", what)
		}
	}
}
