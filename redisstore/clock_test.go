package redisstore

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
)

// No clock of the client's reaches the server: the instant that a group is
// decided at is 0, which is the server's own, unless a test sets it. So clocks
// of processes that differ, by minutes or by years, make no difference.
func TestTheServersClockDecides(t *testing.T) {
	t.Parallel()
	charge := policy.Charge{Limit: policy.PerMinute(60), Key: "alice", Units: 1}
	encoded := func(s *Store) string {
		p := getPlan(&route{store: s, single: &lane{}})
		p.add(s, kindTake, policy.Ticket{}, &charge)
		f := flightPool.Get().(*flight)
		cmd := f.command(t.Context(), s, p.calls)
		return cmd.args[len(cmd.args)-1].(string)
	}
	served := encoded(&Store{namespace: "stint"})
	require.Equal(t, string(appendInt(nil, 0)), served[5:6], "the first number, behind the array's head")

	now := time.Now()
	set := encoded(&Store{namespace: "stint", now: func() time.Time { return now }})
	stamp := string(appendInt(nil, now.UnixMicro()))
	require.True(t, strings.HasPrefix(set[5:], stamp))
	require.Equal(t, set[5+len(stamp):], served[6:], "nothing else differs")
}
