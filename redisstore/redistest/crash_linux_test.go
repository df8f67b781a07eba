package redistest_test

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stint-go/stint/redisstore/redistest"
)

const crashEnv = "REDISTEST_CRASH"

// TestCrash starts a server in a test process that is killed, and sees the
// server go with it.
func TestCrash(t *testing.T) {
	t.Parallel()
	if os.Getenv(crashEnv) != "" {
		srv := redistest.Start(t)
		_, _ = os.Stdout.WriteString("addr=" + srv.Addr() + "\n")
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
		select {}
	}
	redistest.Start(t) // skips where there is none
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrash$")
	cmd.Env = append(os.Environ(), crashEnv+"=1")
	out, _ := cmd.Output() // killed: that it fails is the point
	_, rest, ok := strings.Cut(string(out), "addr=")
	if !ok {
		t.Fatalf("the child said no address: %q", out)
	}
	addr, _, _ := strings.Cut(rest, "\n")
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", addr, short)
		if err != nil {
			return
		}
		_ = conn.Close()
		if time.Now().After(deadline) {
			t.Fatalf("the server at %s outlived its crashed test", addr)
		}
	}
}
