package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/experiments/problem"
	"github.com/squall-chaos/squall/internal/hint"
)

// stdinName is the name of the standard input.
const stdinName = "-"

// loaded is an experiment with the name of its file.
type loaded struct {
	experiments.Experiment
	file string
}

// needFiles rejects commands without a file.
func needFiles(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, files []string) error {
		if len(files) == 0 {
			return hint.With(errors.New("no experiment file is named"), command+" FILE...; squall init writes a first file")
		}
		return nil
	}
}

// loadFiles loads files, the experiment files of directories, and the standard input.
// It returns the problems of all of them. Experiments must have different names.
func loadFiles(env Env, arguments []string) (all []loaded, problems problem.List) {
	files, problems := expand(arguments)
	first := map[string]string{}
	for _, name := range distinct(files) {
		found, err := loadFile(env, name)
		if failures, ok := errors.AsType[problem.List](err); ok {
			problems = append(problems, failures...)
		} else if err != nil {
			problems = append(problems, unreadable(name, err))
		}
		for _, e := range found {
			if other, twice := first[e.Metadata.Name]; twice {
				problems = append(problems, problem.Problem{File: name, Path: "metadata.name", Message: fmt.Sprintf("%s names an experiment %q too", other, e.Metadata.Name), Remedy: "rename one"})
			}
			first[e.Metadata.Name] = name
			all = append(all, loaded{Experiment: e, file: name})
		}
	}
	return all, problems
}

// loadSelected loads files and returns the experiments that a selector matches,
// which may be none. The error is of type problem.List if the files are
// invalid.
func loadSelected(env Env, arguments []string, selector selectorFlag) ([]loaded, error) {
	all, problems := loadFiles(env, arguments)
	if len(problems) > 0 {
		return nil, problems
	}
	return selected(all, selector)
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
		if name != stdinName {
			if absolute, err := filepath.Abs(name); err == nil {
				path = absolute
			}
		}
		if !seen[path] {
			seen[path] = true
			once = append(once, name)
		}
	}
	return once
}

// selectorFlag is --selector.
type selectorFlag string

func (s *selectorFlag) add(flags *pflag.FlagSet) {
	flags.StringVarP((*string)(s), "selector", "l", "", "only experiments with these labels, as for kubectl: team=reviews,tier!=demo")
}

// noMatch returns the error of a selector that matches no experiment.
func (s *selectorFlag) noMatch() error {
	return hint.With(fmt.Errorf("no experiment has labels that match %q", *s), "compare --selector with metadata.labels of the experiments")
}

// expand replaces each directory by the experiment files directly in it.
func expand(arguments []string) (names []string, problems problem.List) {
	for _, name := range arguments {
		info, err := os.Stat(name)
		if name == stdinName || err != nil || !info.IsDir() {
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
		for _, file := range inside {
			names = append(names, filepath.Join(name, file))
		}
	}
	return names, problems
}

func loadFile(env Env, name string) (found []experiments.Experiment, err error) {
	content := env.Stdin
	if name != stdinName {
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

// selected returns the experiments whose labels match a selector.
func selected(all []loaded, selector selectorFlag) ([]loaded, error) {
	parsed, err := labels.Parse(string(selector))
	if err != nil {
		return nil, hint.With(fmt.Errorf("--selector: %w", err), "use the form of kubectl, such as team=reviews,tier!=demo")
	}
	return slices.DeleteFunc(slices.Clone(all), func(l loaded) bool { return !parsed.Matches(labels.Set(l.Metadata.Labels)) }), nil
}
