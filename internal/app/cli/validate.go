package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/experiments/problem"
	"github.com/squall-chaos/squall/internal/app/cli/args"
	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/app/cli/output"
	"github.com/squall-chaos/squall/internal/app/selection"
	"github.com/squall-chaos/squall/internal/oneline"
	"github.com/squall-chaos/squall/mesh/advice"
)

// validation is the output of squall validate -o json.
type validation struct {
	Valid       bool              `json:"valid"`
	Experiments []validExperiment `json:"experiments"`
	Problems    problem.List      `json:"problems"`
	Warnings    []fileWarning     `json:"warnings"`
}

type validExperiment struct {
	File string `json:"file"`
	Name string `json:"name"`
}

// fileWarning is what may be wrong with an experiment that is valid.
type fileWarning struct {
	File    string `json:"file"`
	Name    string `json:"name"`
	Warning string `json:"warning"`
}

// warningsOf returns the warnings about experiments, as far as they follow from the
// files.
func warningsOf(all []selection.Experiment) []fileWarning {
	found := []fileWarning{}
	for _, l := range all {
		for _, warning := range advice.Undiverted(l.Experiment) {
			found = append(found, fileWarning{File: l.File, Name: l.Metadata.Name, Warning: warning})
		}
	}
	return found
}

// validateFlags are the flags of squall validate.
type validateFlags struct {
	output  flag.Format
	quiet   bool
	changed flag.Changed
}

func newValidateCommand(env Env) *cobra.Command {
	flags := validateFlags{}
	command := &cobra.Command{
		Use:   "validate FILE...",
		Short: "Check experiment files without a cluster",
		Long: `Validate checks files, the .yaml and .yml files in directories, and the standard
input (-). It needs no cluster and no network. Each problem is one line on
stderr:

  FILE:LINE:COLUMN: PATH: PROBLEM (REMEDY)

A valid experiment may have warnings, such as a query that does not count the
requests of a blackhole. They are printed to stderr too.

With --only-changed BASE only changed files are checked, as for 'squall run'.
A name that an unchanged file uses too is then not reported.

Exit codes: 0 all files are valid, 2 a file is not valid.`,
		Example: `  squall validate experiments/
  cat outage.yaml | squall validate -
  squall validate -o json outage.yaml
  squall validate --only-changed origin/main experiments/`,
		Args: args.Files("squall validate"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return validateFiles(cmd.Context(), env, flags, arguments)
		},
	}
	flag.Output(command.Flags(), &flags.output, flag.Text, flag.JSON)
	command.Flags().BoolVarP(&flags.quiet, "quiet", "q", false, "print problems only")
	flags.changed.Add(command.Flags())
	return command
}

// validateFiles checks files and prints the problems.
func validateFiles(ctx context.Context, env Env, flags validateFlags, arguments []string) error {
	files, err := changedFiles(ctx, flags.changed, arguments)
	var all []selection.Experiment
	if err == nil {
		all, err = sourceOf(env).Load(ctx, files)
	}
	problems, bad := errors.AsType[problem.List](err)
	if err != nil && !bad {
		return unloadable(ctx, env, err)
	}
	var ended error
	if len(problems) > 0 {
		ended = exit.With(exit.Usage)
	} else if len(files) == 0 {
		fmt.Fprintf(env.Stderr, "squall: no experiment has changed since %s; nothing was checked\n", flags.changed.Base)
	}
	if flags.output == flag.JSON {
		return cmp.Or(printValidation(env, all, problems), ended)
	}
	if len(problems) > 0 {
		printProblems(env, problems)
		return ended
	}
	if flags.quiet {
		return nil
	}
	for _, l := range all {
		fmt.Fprintln(env.Stdout, oneline.Escaped(fmt.Sprintf("%s: %s is valid", l.File, l.Metadata.Name)))
	}
	for _, w := range warningsOf(all) {
		fmt.Fprintln(env.Stderr, oneline.Escaped(fmt.Sprintf("%s: warning: %s: %s", w.File, w.Name, w.Warning)))
	}
	return nil
}

func printValidation(env Env, all []selection.Experiment, problems problem.List) error {
	result := validation{Valid: len(problems) == 0, Experiments: []validExperiment{}, Problems: problems, Warnings: warningsOf(all)}
	if problems == nil {
		result.Problems = problem.List{}
	}
	for _, l := range all {
		result.Experiments = append(result.Experiments, validExperiment{File: l.File, Name: l.Metadata.Name})
	}
	return output.JSON(env.Stdout, result)
}
