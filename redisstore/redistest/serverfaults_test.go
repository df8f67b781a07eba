package redistest_test

import (
	"strings"
	"testing"

	"github.com/stint-go/stint/redisstore/redistest"
)

// Each fault of a server is an error to who writes, or a loss, and ends.
func TestServerFaults(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault, end func(*redistest.Server)
		err        string // what a write is answered
		kept       bool   // what was there still is
	}{
		"flushed":           {(*redistest.Server).Flush, nil, "", false},
		"restarted empty":   {(*redistest.Server).Restart, nil, "", false},
		"out of memory":     {(*redistest.Server).FillUp, (*redistest.Server).MakeRoom, "OOM", true},
		"too few replicas":  {(*redistest.Server).DenyWrites, (*redistest.Server).AllowWrites, "NOREPLICAS", true},
		"a replica":         {(*redistest.Server).Demote, (*redistest.Server).Promote, "READONLY", true},
		"another password":  {func(s *redistest.Server) { s.SetPassword("x") }, func(s *redistest.Server) { s.SetPassword("") }, "NOAUTH", true},
		"scripts forgotten": {(*redistest.Server).FlushScripts, nil, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			c := s.Client(t)
			if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			hash := c.ScriptLoad(t.Context(), "return 1").Val()
			tt.fault(s)
			err := c.Set(t.Context(), "other", "v", 0).Err()
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)) {
				t.Errorf("a write: %v, want %q", err, tt.err)
			}
			if tt.end != nil {
				tt.end(s)
			}
			if err := c.Set(t.Context(), "other", "v", 0).Err(); err != nil {
				t.Errorf("after it: %v", err)
			}
			if n := c.Exists(t.Context(), "k").Val(); (n == 1) != tt.kept {
				t.Errorf("after it there are %d of the key", n)
			}
			known := c.ScriptExists(t.Context(), hash).Val()[0]
			if forgets := name == "scripts forgotten" || name == "restarted empty"; known == forgets {
				t.Errorf("after it the script is known: %v", known)
			}
		})
	}
}
