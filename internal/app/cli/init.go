package cli

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/experiments/library"
	"github.com/squall-chaos/squall/internal/app/selection"
	"github.com/squall-chaos/squall/internal/hint"
)

// starter is the file that init writes.
//
//go:embed starter.yaml
var starter []byte

// changeMark marks the lines that the user must change.
const changeMark = "# CHANGE"

func newInitCommand(env Env) *cobra.Command {
	var from string
	var list bool
	command := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a first experiment file, or one of the library",
		Long: `Init writes an experiment with comments, to experiment.yaml or to the named file,
or to the standard output for -. It does not overwrite files. Lines that need
your names are marked ` + changeMark + `.`,
		Example: `  squall init
  squall init --list
  squall init --from-library dependency-outage outage.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, arguments []string) error {
			if list {
				return listLibrary(env)
			}
			content, name := starter, "experiment.yaml"
			if from != "" {
				found, err := library.Files.ReadFile(from + ".yaml")
				if err != nil {
					return hint.With(fmt.Errorf("the library has no experiment %q", from), "squall init --list lists the experiments")
				}
				content, name = found, from+".yaml"
			}
			if len(arguments) == 1 {
				name = arguments[0]
			}
			return writeNew(env, name, content)
		},
	}
	command.Flags().StringVar(&from, "from-library", "", "write this experiment of the library")
	command.Flags().BoolVar(&list, "list", false, "list the experiments of the library")
	return command
}

// writeNew writes a file that does not exist yet, and prints the next steps.
func writeNew(env Env, name string, content []byte) (err error) {
	if name == selection.Stdin {
		_, err := env.Stdout.Write(content)
		return err
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // a file for the team's repository
	if errors.Is(err, fs.ErrExist) {
		return hint.With(fmt.Errorf("%s exists already", name), "choose another file: squall init FILE")
	}
	if err != nil {
		return err
	}
	if _, err := file.Write(content); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := file.Close(); err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "wrote %s\n", name)
	number := 0
	for line := range strings.Lines(string(content)) {
		if number++; strings.Contains(line, changeMark) {
			fmt.Fprintf(env.Stdout, "change line %d: %s\n", number, strings.TrimSpace(line))
		}
	}
	fmt.Fprintf(env.Stdout, "then: squall validate %s\n", name)
	return nil
}

func listLibrary(env Env) error {
	names, err := fs.Glob(library.Files, "*.yaml")
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	for _, name := range names {
		file, err := library.Files.Open(name)
		if err != nil {
			return err
		}
		all, err := files.Load(name, file)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		fmt.Fprintf(table, "%s\t%s\n", strings.TrimSuffix(name, ".yaml"), all[0].Spec.Title)
	}
	return table.Flush()
}
