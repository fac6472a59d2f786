package directory

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// titled returns an experiment file. The title distinguishes it from others of the
// same name.
func titled(name, title string) string {
	return `apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: ` + name + `}
spec:
  title: ` + title + `
  target: {host: ratings, namespace: prod}
  callers: [{namespace: shop}]
  faults: [{abort: {httpStatus: 503}, percentage: 50}]
  duration: 10s
  steadyState: {interval: 1s, before: 3s, probes: [{name: up, query: up, min: 1}]}
  recovery: {within: 5s}
`
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// use returns what is in use, as "name=title of file", and what is broken, as "file
// kept".
func use(f *Directory) (used, broken []string) {
	all := f.Experiments()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		used = append(used, fmt.Sprintf("%s=%s of %s", name, all[name].Spec.Title, all[name].File))
	}
	for _, b := range f.Broken() {
		broken = append(broken, fmt.Sprintf("%s %t", filepath.Base(b.File), b.Kept))
	}
	return used, broken
}

// After each step the right versions are in use, and a second Read sees no change.
func TestRead(t *testing.T) {
	type step struct {
		do           func(t *testing.T, dir string)
		used, broken []string
		problem      string
	}
	write := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { t.Helper(); put(t, dir, name, text) }
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { t.Helper(); must(t, os.RemoveAll(filepath.Join(dir, name))) }
	}
	one := []string{"x=one of a.yaml"}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"empty", []step{{do: func(*testing.T, string) {}}}},
		{"only .yaml and .yml, and nothing hidden", []step{
			{do: write("a.json", "{"), used: nil},
			{do: write(".b.yaml", "{"), used: nil},
			{do: write("a.yml", titled("x", "one")), used: []string{"x=one of a.yml"}},
		}},
		{"broken, then mended", []step{
			{do: write("a.yaml", titled("x", "one")), used: one},
			{do: write("a.yaml", "kind: ["), used: one, broken: []string{"a.yaml true"}},
			{do: write("a.yaml", ""), used: one, broken: []string{"a.yaml true"}, problem: "has no experiment"},
			{do: write("a.yaml", titled("x", "two")), used: []string{"x=two of a.yaml"}},
		}},
		{"broken from the beginning", []step{
			{do: write("a.yaml", "kind: ["), broken: []string{"a.yaml false"}},
			{do: write("a.yaml", titled("x", "one")), used: one},
			{do: remove("a.yaml")},
		}},
		{"broken, and removed", []step{
			{do: write("a.yaml", titled("x", "one")), used: one},
			{do: write("a.yaml", "kind: ["), used: one, broken: []string{"a.yaml true"}},
			{do: remove("a.yaml")},
		}},
		{"one document of two broken", []step{
			{do: write("a.yaml", titled("x", "one")+"---\n"+titled("y", "one")), used: []string{"x=one of a.yaml", "y=one of a.yaml"}},
			{do: write("a.yaml", titled("x", "two")+"---\nkind: Nothing\n"), used: []string{"x=one of a.yaml", "y=one of a.yaml"}, broken: []string{"a.yaml true"}},
		}},
		{"a name in two files", []step{
			{do: write("b.yaml", titled("x", "old")), used: []string{"x=old of b.yaml"}},
			{do: write("c.yaml", titled("x", "late")), used: []string{"x=old of b.yaml"}, broken: []string{"c.yaml false"}, problem: "b.yaml names an experiment too: x"},
			{do: write("a.yaml", titled("x", "early")), used: []string{"x=early of a.yaml"}, broken: []string{"b.yaml false", "c.yaml false"}},
			{do: write("b.yaml", "kind: ["), used: []string{"x=early of a.yaml"}, broken: []string{"b.yaml false", "c.yaml false"}},
			// A clash does not discard the last good version of a file.
			{do: remove("a.yaml"), used: []string{"x=old of b.yaml"}, broken: []string{"b.yaml true", "c.yaml false"}},
			{do: remove("b.yaml"), used: []string{"x=late of c.yaml"}},
		}},
		{"a problem that quotes the words of a clash", []step{
			{do: write("a.yaml", titled("x", "one")), used: one},
			{do: write("a.yaml", titled("x", "one")+`"b.yaml names an experiment too: x": 1`+"\n"), used: one, broken: []string{"a.yaml true"}},
		}},
		{"not a regular file", []step{
			{do: write("a.yaml", titled("x", "one")), used: one},
			{
				do: func(t *testing.T, dir string) {
					t.Helper()
					must(t, os.Remove(filepath.Join(dir, "a.yaml")))
					must(t, syscall.Mkfifo(filepath.Join(dir, "a.yaml"), 0o600))
				}, used: one, broken: []string{"a.yaml true"}, problem: "a.yaml is not a regular file",
			},
			{do: func(t *testing.T, dir string) { t.Helper(); must(t, os.Mkdir(filepath.Join(dir, "b.yaml"), 0o750)) }, used: one, broken: []string{"a.yaml true", "b.yaml false"}},
			{do: func(t *testing.T, dir string) {
				t.Helper()
				must(t, os.Symlink("/dev/zero", filepath.Join(dir, "c.yaml")))
			}, used: one, broken: []string{"a.yaml true", "b.yaml false", "c.yaml false"}},
			{do: func(t *testing.T, dir string) {
				t.Helper()
				must(t, os.Symlink("nowhere", filepath.Join(dir, "d.yaml")))
			}, used: one, broken: []string{"a.yaml true", "b.yaml false", "c.yaml false"}},
		}},
		{"a link that leads out", []step{
			{do: write("a.yaml", titled("x", "one")), used: one},
			{do: func(t *testing.T, dir string) {
				t.Helper()
				put(t, filepath.Dir(dir), "token", "s3cr3t")
				must(t, os.Symlink("../token", filepath.Join(dir, "leak.yaml")))
			}, used: one, broken: []string{"leak.yaml false"}, problem: "leak.yaml is a link that leads out of the directory"},
		}},
		{"the directory becomes a link", []step{
			{do: write("a.yaml", titled("x", "one")), used: one},
			{do: func(t *testing.T, dir string) {
				t.Helper()
				must(t, os.Rename(dir, dir+".1"))
				must(t, os.Symlink(filepath.Base(dir)+".1", dir))
			}, used: one},
			{do: write("a.yaml", titled("x", "two")), used: []string{"x=two of a.yaml"}},
		}},
		{"huge files", []step{
			{do: write("a.yaml", titled("x", "one")), used: one},
			{do: write("a.yaml", titled("x", "two")+"#"+strings.Repeat("x", 5<<20)), used: one, broken: []string{"a.yaml true"}, problem: "larger than"},
		}},
		{"a mounted ConfigMap", []step{
			{do: func(t *testing.T, dir string) {
				t.Helper()
				must(t, os.Mkdir(filepath.Join(dir, "..1"), 0o750))
				put(t, dir, "..1/a.yaml", titled("x", "one"))
				must(t, os.Symlink("..1", filepath.Join(dir, "..data")))
				must(t, os.Symlink("..data/a.yaml", filepath.Join(dir, "a.yaml")))
			}, used: one},
			{do: func(t *testing.T, dir string) {
				t.Helper()
				must(t, os.Mkdir(filepath.Join(dir, "..2"), 0o750))
				put(t, dir, "..2/a.yaml", titled("x", "two"))
				put(t, dir, "..2/b.yaml", titled("y", "two"))
				must(t, os.Symlink("..2", filepath.Join(dir, "..data_tmp")))
				must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
				must(t, os.RemoveAll(filepath.Join(dir, "..1")))
			}, used: []string{"x=two of a.yaml"}},
			{do: func(t *testing.T, dir string) {
				t.Helper()
				must(t, os.Symlink("..data/b.yaml", filepath.Join(dir, "b.yaml")))
			}, used: []string{"x=two of a.yaml", "y=two of b.yaml"}},
		}},
		{"the directory vanishes, and comes back", []step{
			{do: write("a.yaml", titled("x", "one")), used: one},
			{do: func(t *testing.T, dir string) { t.Helper(); must(t, os.Rename(dir, dir+".away")) }, used: one, broken: []string{"experiments true"}},
			{do: func(t *testing.T, dir string) { t.Helper(); must(t, os.Rename(dir+".away", dir)) }, used: one},
		}},
		{"far too many files", []step{
			{do: write("a.yaml", titled("x", "one")), used: one},
			{do: func(t *testing.T, dir string) {
				t.Helper()
				for i := range maxFiles {
					put(t, dir, fmt.Sprintf("b%d.yaml", i), "")
				}
			}, used: one, broken: []string{"experiments true"}, problem: "more than 10000"},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "experiments")
			must(t, os.Mkdir(dir, 0o750))
			f := New(dir)
			for i, step := range test.steps {
				before := [2]string{}
				used, broken := use(f)
				before[0], before[1] = fmt.Sprint(used), fmt.Sprint(broken)
				step.do(t, dir)
				changed := f.Read()
				used, broken = use(f)
				if diff := cmp.Diff([2][]string{step.used, step.broken}, [2][]string{used, broken}); diff != "" {
					t.Errorf("step %d: %s", i+1, diff)
				}
				if !changed && before != [2]string{fmt.Sprint(used), fmt.Sprint(broken)} {
					t.Errorf("step %d: Read does not report the change", i+1)
				}
				if !strings.Contains(fmt.Sprint(f.Broken()), step.problem) {
					t.Errorf("step %d: %v", i+1, f.Broken())
				}
				if f.Read() {
					t.Errorf("step %d: a second Read reports a change", i+1)
				}
			}
		})
	}
}
