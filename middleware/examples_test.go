package middleware_test

import (
	"os"
	"os/exec"
	"testing"
)

// The go tool passes over folders that begin with an underscore, so that
// "go test ./..." would stay green over examples that do not compile.
// STINT_EXAMPLES=skip leaves them out, where they are run by themselves.
func TestExamplePrograms(t *testing.T) {
	if testing.Short() || os.Getenv("STINT_EXAMPLES") == "skip" {
		t.Skip("example programs are left out")
	}
	for _, args := range [][]string{{"vet", "./..."}, {"test", "./..."}} {
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"-C", "../_examples"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go -C _examples %s %s: %v\n%s", args[0], args[1], err, out)
		}
	}
}
