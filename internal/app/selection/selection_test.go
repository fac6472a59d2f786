package selection_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments/problem"
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

// silent returns a function that fails the test when it is called.
func silent(t *testing.T) func(string) {
	t.Helper()
	return func(note string) { t.Errorf("note %q", note) }
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
		source := selection.Source{Stdin: strings.NewReader(experiment("stdin")), Note: silent(t)}
		all, err := source.Load(t.Context(), test.arguments)
		if diff := cmp.Diff(test.want, names(all)); err != nil || diff != "" {
			t.Errorf("%s: %v%s", name, err, diff)
		}
	}
}

func TestLoadReportsAllProblems(t *testing.T) {
	in := directory(t)
	if err := os.WriteFile(filepath.Join(in, "c.yaml"), []byte(experiment("a")), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := selection.Source{Note: silent(t)}.Load(t.Context(), []string{in, filepath.Join(in, "missing.yaml"), t.TempDir()})
	problems, ok := errors.AsType[problem.List](err)
	if !ok {
		t.Fatalf("error %v", err)
	}
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
		all, err := selection.Source{Note: silent(t)}.Select(t.Context(), []string{in}, selector)
		if diff := cmp.Diff(want, names(all)); err != nil || diff != "" {
			t.Errorf("%q: %v%s", selector, err, diff)
		}
	}
	if _, err := (selection.Source{Note: silent(t)}).Select(t.Context(), []string{in}, "name==,="); err == nil || hint.Of(err) == "" {
		t.Errorf("error %v", err)
	}
}

// A pipe to which nothing is written does not delay the end of a command, and a pipe in
// a directory is not read at all.
func TestPipes(t *testing.T) {
	in := directory(t)
	pipe := filepath.Join(in, "pipe.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (selection.Source{Note: silent(t)}).Load(ctx, []string{pipe}); !errors.Is(err, context.Canceled) {
		t.Errorf("the pipe: %v", err)
	}
	all, err := selection.Source{Note: silent(t)}.Load(t.Context(), []string{in})
	if problems, ok := errors.AsType[problem.List](err); !ok || len(problems) != 1 || problems[0].File != pipe || problems[0].Message != "is not a regular file" {
		t.Errorf("the directory: %v", err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, names(all)); diff != "" {
		t.Error(diff)
	}
}

// Subdirectories are not read, and a user learns of the ones that have experiments.
func TestSubdirectories(t *testing.T) {
	in := directory(t)
	for _, name := range []string{"team/a.yaml", "docs/notes.txt", "x.yaml/notes.txt"} {
		path := filepath.Join(in, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	var notes []string
	source := selection.Source{Note: func(note string) { notes = append(notes, note) }}
	all, err := source.Load(t.Context(), []string{in})
	if diff := cmp.Diff([]string{"a", "b"}, names(all)); err != nil || diff != "" {
		t.Errorf("%v%s", err, diff)
	}
	want := []string{in + ": subdirectories are not read; name them too: " + filepath.Join(in, "team")}
	if diff := cmp.Diff(want, notes); diff != "" {
		t.Error(diff)
	}
}

// A link to a directory has the same files.
func TestLinkedDirectory(t *testing.T) {
	in := directory(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(in, link); err != nil {
		t.Fatal(err)
	}
	all, err := selection.Source{Note: silent(t)}.Load(t.Context(), []string{in, link})
	if diff := cmp.Diff([]string{"a", "b"}, names(all)); err != nil || diff != "" {
		t.Errorf("%v%s", err, diff)
	}
}
