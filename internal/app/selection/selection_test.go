package selection_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/internal/app/selection"
	"github.com/squall-chaos/squall/internal/hint"
)

// experiment returns a file with one experiment.
func experiment(name string) string {
	return `apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: ` + name + `, labels: {name: ` + name + `}}
spec:
  target: {host: ratings.prod.svc.cluster.local}
  callers: [{namespace: shop}]
  faults: [{abort: {httpStatus: 503}, percentage: 50}]
  duration: 2m
  steadyState:
    probes: [{name: up, query: up, min: 1}]
`
}

// directory returns a directory with experiments a and b and a hidden draft.
func directory(t *testing.T) string {
	t.Helper()
	directory := t.TempDir()
	for file, name := range map[string]string{"a.yaml": "a", "b.yml": "b", ".draft.yaml": "draft"} {
		if err := os.WriteFile(filepath.Join(directory, file), []byte(experiment(name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

func names(all []selection.Experiment) (names []string) {
	for _, e := range all {
		names = append(names, e.Metadata.Name)
	}
	return names
}

func TestLoad(t *testing.T) {
	in := directory(t)
	for name, test := range map[string]struct {
		arguments []string
		want      []string
	}{
		"a directory":            {arguments: []string{in}, want: []string{"a", "b"}},
		"a hidden file by name":  {arguments: []string{filepath.Join(in, ".draft.yaml")}, want: []string{"draft"}},
		"a file twice":           {arguments: []string{filepath.Join(in, "a.yaml"), in, in + "/./a.yaml"}, want: []string{"a", "b"}},
		"the standard input":     {arguments: []string{selection.Stdin, in}, want: []string{"stdin", "a", "b"}},
		"the standard input (2)": {arguments: []string{selection.Stdin, selection.Stdin}, want: []string{"stdin"}},
	} {
		all, problems := selection.Load(strings.NewReader(experiment("stdin")), test.arguments)
		if diff := cmp.Diff(test.want, names(all)); len(problems) > 0 || diff != "" {
			t.Errorf("%s: %v%s", name, problems, diff)
		}
	}
}

func TestLoadReportsAllProblems(t *testing.T) {
	in := directory(t)
	if err := os.WriteFile(filepath.Join(in, "c.yaml"), []byte(experiment("a")), 0o600); err != nil {
		t.Fatal(err)
	}
	_, problems := selection.Load(nil, []string{in, filepath.Join(in, "missing.yaml"), t.TempDir()})
	var texts []string
	for _, p := range problems {
		texts = append(texts, strings.TrimSpace(p.Path+" "+p.Message+" "+p.Remedy))
	}
	want := []string{
		"is a directory without any .yaml or .yml file",
		`metadata.name ` + filepath.Join(in, "a.yaml") + ` names an experiment "a" too rename one`,
		"no such file or directory check the path",
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Error(diff)
	}
}

func TestSelect(t *testing.T) {
	in := directory(t)
	for selector, want := range map[string][]string{"": {"a", "b"}, "name=b": {"b"}, "name!=b": {"a"}, "name=c": nil} {
		all, err := selection.Select(nil, []string{in}, selector)
		if diff := cmp.Diff(want, names(all)); err != nil || diff != "" {
			t.Errorf("%q: %v%s", selector, err, diff)
		}
	}
	if _, err := selection.Select(nil, []string{in}, "name==,="); err == nil || hint.Of(err) == "" {
		t.Errorf("error %v", err)
	}
}
