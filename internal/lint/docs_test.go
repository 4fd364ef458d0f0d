package lint

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocsCompile: a whole program in a page is one that the compiler takes, and vet.
func TestDocsCompile(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	programs := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile("(?s)```go\n(package main\n.*?)```").FindAllSubmatch(text, -1) {
			programs++
			// gRPC puts paths of its own on the default mux, and "POST /" panics beside them when the program starts.
			require.NotContains(t, string(m[1]), "\thttp.Handle", "%s: its program needs a mux of its own", page)
			file := filepath.Join(t.TempDir(), "main.go")
			require.NoError(t, os.WriteFile(file, m[1], 0o600))
			cmd := exec.CommandContext(t.Context(), "go", "vet", file)
			cmd.Dir = "../.."
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s: %s", page, out)
			formatted, err := exec.CommandContext(t.Context(), "gofmt", "-l", file).Output()
			require.NoError(t, err)
			require.Empty(t, string(formatted), "%s: gofmt would change its program", page)
		}
	}
	require.Positive(t, programs)
}
