// Package selection loads the experiments that the arguments of a command name: files,
// directories, the standard input, only changed files, only some labels.
package selection

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/experiments/problem"
	"github.com/squall-chaos/squall/internal/app/gitchanges"
	"github.com/squall-chaos/squall/internal/hint"
)

// Stdin is the name of the standard input.
const Stdin = "-"

// Experiment is an experiment with the name of its file.
type Experiment struct {
	experiments.Experiment
	File string
}

// Source is where experiments are loaded from besides files.
type Source struct {
	Stdin io.Reader
	// Note reports what was not read although a user may expect it.
	Note func(note string)
}

// Load loads files, the experiment files of directories, and the standard input.
// Experiments must have different names. The error is of type problem.List if files are
// invalid: it has the problems of all of them, and the other experiments are returned
// too. Any other error is the cause of the end of ctx.
func (s Source) Load(ctx context.Context, arguments []string) (all []Experiment, err error) {
	files, problems := expand(arguments, s.Note)
	first := map[string]string{}
	for _, name := range distinct(files) {
		found, err := s.loadUntil(ctx, name)
		if failures, ok := errors.AsType[problem.List](err); ok {
			problems = append(problems, failures...)
		} else if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		} else if err != nil {
			problems = append(problems, unreadable(name, err))
		}
		for _, e := range found {
			if other, twice := first[e.Metadata.Name]; twice {
				problems = append(problems, problem.Problem{File: name, Path: "metadata.name", Message: fmt.Sprintf("%s names an experiment %q too", other, e.Metadata.Name), Remedy: "rename one"})
			}
			first[e.Metadata.Name] = name
			all = append(all, Experiment{Experiment: e, File: name})
		}
	}
	if len(problems) > 0 {
		return all, problems
	}
	return all, nil
}

// loadUntil loads one file. It returns when ctx ends, even if the file is a pipe to
// which nothing is written.
func (s Source) loadUntil(ctx context.Context, name string) ([]experiments.Experiment, error) {
	type loaded struct {
		found []experiments.Experiment
		err   error
	}
	done := make(chan loaded, 1)
	go func() {
		found, err := load(s.Stdin, name)
		done <- loaded{found: found, err: err}
	}()
	select {
	case file := <-done:
		return file.found, file.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Select loads files and returns the experiments that a selector matches, which may
// be none. The errors are the ones of Load, and one for an invalid selector.
func (s Source) Select(ctx context.Context, arguments []string, selector string) ([]Experiment, error) {
	all, err := s.Load(ctx, arguments)
	if err != nil {
		return nil, err
	}
	return matching(all, selector)
}

// unreadable returns the problem of a file that cannot be opened.
func unreadable(name string, err error) problem.Problem {
	p := problem.Problem{File: name, Message: err.Error()}
	if errors.Is(err, fs.ErrNotExist) {
		p.Remedy = "check the path"
	}
	return p
}

// distinct returns the names without those that name the same path again.
func distinct(names []string) (once []string) {
	seen := map[string]bool{}
	for _, name := range names {
		path := name
		if name != Stdin {
			if absolute, err := filepath.Abs(name); err == nil {
				path = absolute
			}
			if target, err := filepath.EvalSymlinks(path); err == nil {
				path = target
			}
		}
		if !seen[path] {
			seen[path] = true
			once = append(once, name)
		}
	}
	return once
}

// NoMatch returns the error of a selector that matches no experiment.
func NoMatch(selector string) error {
	return hint.With(fmt.Errorf("no experiment has labels that match %q", selector), "compare --selector with metadata.labels of the experiments")
}

// expand replaces each directory by the experiment files directly in it. It notes the
// subdirectories that have such files too.
func expand(arguments []string, note func(string)) (names []string, problems problem.List) {
	for _, name := range arguments {
		info, err := os.Stat(name)
		if name == Stdin || err != nil || !info.IsDir() {
			names = append(names, name)
			continue
		}
		inside, err := files.List(name)
		if failure, ok := errors.AsType[*fs.PathError](err); ok {
			err = failure.Err // the problem names the file
		}
		switch {
		case err != nil:
			problems = append(problems, problem.Problem{File: name, Message: err.Error()})
		case len(inside) == 0:
			problems = append(problems, problem.Problem{File: name, Message: "is a directory without any .yaml or .yml file"})
		}
		if below := below(name); len(below) > 0 {
			note(fmt.Sprintf("%s: subdirectories are not read; name them too: %s", name, strings.Join(below, ", ")))
		}
		for _, file := range inside {
			path := filepath.Join(name, file)
			info, err := os.Stat(path)
			if err == nil && info.IsDir() {
				continue
			}
			// A pipe would be waited for, and a device never ends.
			if err == nil && !info.Mode().IsRegular() {
				problems = append(problems, problem.Problem{File: path, Message: "is not a regular file", Remedy: "rename it or move it out of the directory"})
				continue
			}
			names = append(names, path)
		}
	}
	return names, problems
}

// below returns the subdirectories of a directory that have experiment files.
func below(directory string) (with []string) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		path := filepath.Join(directory, entry.Name())
		if inside, err := files.List(path); entry.IsDir() && !strings.HasPrefix(entry.Name(), ".") && err == nil && len(inside) > 0 {
			with = append(with, path)
		}
	}
	return with
}

func load(stdin io.Reader, name string) (found []experiments.Experiment, err error) {
	content := stdin
	if name != Stdin {
		file, err := os.Open(name) //nolint:gosec // the user names the file
		if failure, ok := errors.AsType[*fs.PathError](err); ok {
			return nil, failure.Err
		} else if err != nil {
			return nil, err
		}
		defer file.Close() //nolint:errcheck // opened for reading
		content = file
	}
	return files.Load(name, content)
}

// matching returns the experiments whose labels match a selector.
func matching(all []Experiment, selector string) ([]Experiment, error) {
	parsed, err := labels.Parse(selector)
	if err != nil {
		return nil, hint.With(fmt.Errorf("--selector: %w", err), "use the form of kubectl, such as team=reviews,tier!=demo")
	}
	return slices.DeleteFunc(slices.Clone(all), func(l Experiment) bool { return !parsed.Matches(labels.Set(l.Metadata.Labels)) }), nil
}

// Changed returns the files among the arguments and in their directories that differ
// from the merge base of base and HEAD. The error is of type problem.List if an
// argument is invalid.
func Changed(ctx context.Context, base string, arguments []string) ([]string, error) {
	const example = "name a branch, tag or commit, such as --only-changed origin/main"
	switch {
	case base == "":
		return nil, hint.With(errors.New("--only-changed is empty"), example)
	case strings.HasPrefix(base, "-"):
		return nil, hint.With(fmt.Errorf("--only-changed: %q is not a commit", base), example)
	case slices.Contains(arguments, Stdin):
		return nil, hint.With(errors.New("--only-changed cannot be used with the standard input (-)"), "name files, or leave out --only-changed")
	}
	names, problems := expand(arguments, func(string) {})
	if len(problems) > 0 {
		return nil, problems
	}
	changed, err := gitchanges.Among(ctx, base, names)
	if err != nil {
		err = fmt.Errorf("--only-changed: %w", err)
	}
	return changed, err
}
