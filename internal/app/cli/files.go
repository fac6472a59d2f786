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

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/experiments/problem"
	"github.com/squall-chaos/squall/internal/hint"
)

// stdinName stands for the standard input among files.
const stdinName = "-"

// loaded is an experiment and the file that it comes from.
type loaded struct {
	experiments.Experiment
	file string
}

// needFiles asks for at least one file.
func needFiles(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, files []string) error {
		if len(files) == 0 {
			return hint.With(errors.New("no experiment file is named"), fmt.Sprintf("%[1]s FILE...; %[1]s --help has examples", command))
		}
		return nil
	}
}

// loadFiles loads files, the .yaml and .yml files of directories, and the
// standard input, and gives the problems of all of them at once. Experiments
// of different files must have different names.
func loadFiles(env Env, arguments []string) (all []loaded, problems problem.List) {
	files, problems := expand(arguments)
	first := map[string]string{}
	for _, name := range slices.Compact(files) {
		found, err := loadFile(env, name)
		if failures, ok := errors.AsType[problem.List](err); ok {
			problems = append(problems, failures...)
		} else if err != nil {
			problems = append(problems, problem.Problem{File: name, Message: err.Error()})
		}
		for _, e := range found {
			if other, twice := first[e.Metadata.Name]; twice {
				problems = append(problems, problem.Problem{File: name, Path: "metadata.name", Message: fmt.Sprintf("%s names an experiment %q too", other, e.Metadata.Name), Remedy: "rename one"})
			}
			first[e.Metadata.Name] = name
			all = append(all, loaded{e, name})
		}
	}
	return all, problems
}

// loadSelected loads files and returns the experiments that a selector matches,
// which may be none. The error is of type problem.List if the files are
// invalid.
func loadSelected(env Env, arguments []string, selector string) ([]loaded, error) {
	all, problems := loadFiles(env, arguments)
	if len(problems) > 0 {
		return nil, problems
	}
	return selected(all, selector)
}

// errNoneSelected returns the error of a selector that matches no experiment.
func errNoneSelected(selector string) error {
	return hint.With(fmt.Errorf("no experiment has labels that match %q", selector), "squall validate lists the experiments of the files")
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

// selected gives the experiments whose labels match a selector as kubectl
// writes it: team=reviews,tier!=demo.
func selected(all []loaded, selector string) ([]loaded, error) {
	parsed, err := labels.Parse(selector)
	if err != nil {
		return nil, hint.With(fmt.Errorf("--selector: %w", err), "write it as for kubectl, such as team=reviews,tier!=demo")
	}
	return slices.DeleteFunc(slices.Clone(all), func(l loaded) bool { return !parsed.Matches(labels.Set(l.Metadata.Labels)) }), nil
}
