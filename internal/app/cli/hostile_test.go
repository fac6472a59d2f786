package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/internal/app/cli/output"
	"github.com/squall-chaos/squall/internal/app/doctor"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/internal/oneline"
)

// commands are what a terminal and the runner of a CI job obey.
const commands = "\x1b[2J\n::error::x ##[error]\u009b2J\n\nsquall: held\a"

// obeyed returns the lines that a terminal or the runner of a CI job obeys.
func obeyed(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); line != oneline.Blanked(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestErrorsCommandNoTerminal(t *testing.T) {
	var out strings.Builder
	output.Error(&out, hint.With(errors.New("the server says "+commands), "\x1b]0;title\a"))
	if diff := cmp.Diff([]string{
		"squall: the server says  [2J", "  : :error::x ## [error] 2J", "", "  squall: held ", "hint:  ]0;title ", "",
	}, strings.Split(out.String(), "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestAnswersCommandNoTerminal(t *testing.T) {
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": "execution", "error": commands})
	}))
	defer answers.Close()
	_, _, stderr := squall(t, nil, "plan", "--mesh", "testdata/plan/mesh.yaml", "--prometheus", answers.URL, write(t, "metadata: {name: details-delay}"))
	if !strings.Contains(stderr, "is unknown: ") || !strings.Contains(stderr, "[2J") || obeyed(stderr) != nil {
		t.Errorf("%q", stderr)
	}
	var out strings.Builder
	printCheck(&out, doctor.Check{Status: doctor.Failure, Name: "prometheus", Detail: commands, Hint: commands})
	if strings.Count(out.String(), "[2J") != 2 || strings.Count(out.String(), "\n") != 2 || obeyed(out.String()) != nil {
		t.Errorf("%q", &out)
	}
}

// A directory of experiments may have files and keys of any name.
func TestFilesCommandNoTerminal(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("has no such names")
	}
	bad := filepath.Join(t.TempDir(), "::error::\n::error::x.yaml")
	if err := os.WriteFile(bad, fmt.Appendf(nil, "apiVersion: squall.dev/v1alpha1\nkind: Experiment\nmetadata: {name: a}\nspec: {%q: 1}\n", "x"+commands), 0o600); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(t.TempDir(), "a\n::error::x.yaml")
	if err := os.Rename(write(t, "metadata: {name: details-delay}"), good); err != nil {
		t.Fatal(err)
	}
	for _, arguments := range [][]string{
		{"validate", bad},
		{"validate", good},
		{"run", bad},
		{"plan", bad},
	} {
		_, stdout, stderr := squall(t, nil, arguments...)
		if text := stdout + stderr; !strings.Contains(text, `\n::error::x.yaml:`) || obeyed(text) != nil {
			t.Errorf("%s: %q", arguments[0], text)
		}
	}
}
