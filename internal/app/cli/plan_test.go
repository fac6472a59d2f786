package cli

import (
	stdflag "flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/internal/app/cli/exit"
)

var update = stdflag.Bool("update", false, "rewrite the golden files")

// golden compares a text with a file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "plan", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s; go test ./internal/app/cli -update writes it: %s", file, diff)
	}
}

// squall runs a command and returns its output.
func squall(t *testing.T, environment map[string]string, arguments ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errors strings.Builder
	code = Main(t.Context(), Env{
		Args: arguments, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errors,
		Getenv: func(name string) string { return environment[name] },
	})
	return code, out.String(), errors.String()
}

// prometheus answers every query with one number, or with no series.
func prometheus(t *testing.T, value string) (address string) {
	t.Helper()
	result := ""
	if value != "" {
		result = fmt.Sprintf(`{"metric":{},"value":[0,%q]}`, value)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[%s]}}`, result)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestPlanGolden(t *testing.T) {
	environment := map[string]string{"SQUALL_PROMETHEUS": prometheus(t, "49.96")}
	for name, flags := range map[string][]string{
		"text.golden": nil,
		"diff.golden": {"--diff"},
		"yaml.golden": {"-o", "yaml"},
		"json.golden": {"-o", "json"},
	} {
		t.Run(name, func(t *testing.T) {
			arguments := append([]string{"plan", "--mesh", "testdata/plan/mesh.yaml", "testdata/plan/experiments.yaml"}, flags...)
			code, stdout, stderr := squall(t, environment, arguments...)
			if code != exit.Inconclusive || stderr != "" {
				t.Errorf("exit code %d: %s", code, stderr)
			}
			golden(t, name, stdout)
		})
	}
}

func TestPlanPrintsTheRatesOfPrometheus(t *testing.T) {
	for _, test := range []struct{ name, value, stdout string }{
		{"calls", "50", "hit        about 50 of 50 requests/s in the last minute (100 %), none of which are expected to fail\n"},
		{"many calls", "123456.789", "hit        about 123000 of 123000 requests/s in the last minute (100 %)"},
		{"few calls", "0.0012345", "hit        about 0.00123 of 0.00123 requests/s in the last minute (100 %)"},
		{"no calls", "0", "hit        nothing: there were no such calls in the last 5 minutes\n"},
		{"no series", "", "hit        100 % of the requests; Prometheus has no such calls in the last 5 minutes\n"},
		{"no number", "NaN", "hit        100 % of the requests; Prometheus has no such calls in the last 5 minutes\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := write(t, "metadata: {name: details-delay, labels: {a: b}}")
			code, stdout, stderr := squall(t, nil, "plan", "--mesh", "testdata/plan/mesh.yaml", "--prometheus", prometheus(t, test.value), file)
			if code != exit.Held || stderr != "" || !strings.Contains(stdout, test.stdout) {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
		})
	}
}

// write writes the experiment that delays calls from shop to details.
func write(t *testing.T, metadata string) (file string) {
	t.Helper()
	content, err := os.ReadFile("testdata/plan/experiments.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, second, _ := strings.Cut(string(content), "\n---\n")
	file = filepath.Join(t.TempDir(), "experiment.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(second, "metadata: {name: details-delay}", metadata, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
