package serve

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
)

// TestMain is a program with a stream when TestStops starts it as one.
func TestMain(m *testing.M) {
	if os.Getenv("SERVE_PROGRAM") == "" {
		os.Exit(m.Run())
	}
	os.Args = append(os.Args[:1], "-addr", "127.0.0.1:0")
	Main(func(policy.Store) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "first line")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
	}, "try: curl %s")
}

func TestStops(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			program := exec.Command(os.Args[0])
			program.Env = append(os.Environ(), "SERVE_PROGRAM=1")
			var stderr strings.Builder
			program.Stderr = &stderr
			stdout, err := program.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, program.Start())
			out := bufio.NewReader(stdout)
			line, err := out.ReadString('\n')
			require.NoError(t, err)
			url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
			require.True(t, ok, line)

			resp, err := http.Get(url)
			require.NoError(t, err)
			defer resp.Body.Close()
			first, err := bufio.NewReader(resp.Body).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "first line\n", first)

			start := time.Now()
			require.NoError(t, program.Process.Signal(sig))
			rest, err := io.ReadAll(out)
			require.NoError(t, err)
			require.Empty(t, rest, "one line on stdout")
			require.NoError(t, program.Wait(), "status 0")
			require.Less(t, time.Since(start), 5*time.Second)
			require.Contains(t, stderr.String(), "try: curl "+url)
		})
	}
}

func TestBadRedisURLIsNotPrinted(t *testing.T) {
	for _, url := range []string{
		"redis://:hunter2%zz@localhost", "redis://:hunter2 @local host", "redis://:hunter2/x@localhost", "redis://:1/hunter2@localhost",
		"http://:hunter2@localhost", "redis://:hunter2@localhost/x", "redis://:hunter2@localhost?x=1", "hunter2:x@localhost", "\x7fhunter2",
	} {
		_, _, err := open(url)
		require.ErrorContains(t, err, "-redis: ", url)
		require.NotContains(t, err.Error(), "hunter2")
	}
}
