package policy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/stint-go/stint/"

// Imports point one way. Each package may import those of the module that are
// listed, and no others; policy nothing but the standard library.
func TestImports(t *testing.T) {
	t.Parallel()
	for pkg, may := range map[string][]string{
		"policy":                 nil,
		"policy/memstore":        {"policy"},
		"policy/storetest":       {"policy"},
		"respond":                {"policy"},
		"redisstore":             {"policy"},
		"middleware":             {"policy", "policy/memstore", "respond"},
		"middleware/graphqlcost": {"policy", "policy/memstore", "respond", "middleware"},
		"middleware/telemetry":   {"policy", "policy/memstore", "respond", "middleware"},
	} {
		t.Run(pkg, func(t *testing.T) {
			t.Parallel()
			if sources, _ := filepath.Glob(filepath.Join("..", filepath.FromSlash(pkg), "*.go")); len(sources) == 0 {
				t.Skip("there is no such package yet")
			}
			for _, dep := range deps(t, pkg) {
				if inner, ok := strings.CutPrefix(dep, module); ok && inner != pkg {
					require.True(t, slices.Contains(may, inner), "%s imports %s", pkg, inner)
				} else if pkg == "policy" && !ok {
					require.NotContains(t, strings.Split(dep, "/")[0], ".", "policy imports %s, which is not of the standard library", dep)
				}
			}
		})
	}
}

// Values and arithmetic need no network, no clock-driven work and no lock.
func TestImportsNoMachinery(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	require.NoError(t, err)
	for _, direct := range strings.Fields(string(out)) {
		for _, not := range []string{"net", "sync", "os", "runtime", "unsafe", "reflect", "log"} {
			require.NotEqual(t, not, strings.Split(direct, "/")[0], "policy imports %s", direct)
		}
	}
}

func deps(t *testing.T, pkg string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-e", "./"+pkg)
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	return strings.Fields(string(out))
}
