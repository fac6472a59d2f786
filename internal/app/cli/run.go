package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/internal/app/batch"
	"github.com/squall-chaos/squall/internal/app/cli/args"
	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/app/cli/output"
	"github.com/squall-chaos/squall/internal/app/selection"
	"github.com/squall-chaos/squall/internal/app/session"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner"
)

// runFlags are the flags of squall run.
type runFlags struct {
	runner   flag.Runner
	session  session.Session
	selector string
	changed  flag.Changed
	pauses   batch.Pauses
	failFast bool
}

func newRunCommand(env Env) *cobra.Command {
	flags := runFlags{}
	command := &cobra.Command{
		Use:   "run FILE...",
		Short: "Run experiments one after another",
		Long: `Run injects the faults of experiment files, one experiment after another. It
watches each hypothesis, rolls back, and prints a summary to stdout and progress
to stderr. Arguments are files, directories with .yaml and .yml files, or - for
the standard input. Ctrl-C rolls back. A second Ctrl-C ends Squall at once; the
cluster then removes the fault within 20 seconds.

After a run that has injected a fault, the next one starts when its own hypothesis
holds: the windows of its probes may still include the end of the last run. It
starts after --wait at the latest, and is then refused if the hypothesis does not
hold.

With --only-changed BASE only changed files are loaded and run: files that differ
from the merge base of BASE and HEAD, including uncommitted changes and untracked
files. If no file has changed, nothing is run and the exit code is 0.

Exit codes: 0 held, 1 deviated, 2 bad usage or file, 3 inconclusive or refused, or
held without a report that was asked for, 4 interrupted and clean, 5 rollback
incomplete. With several experiments it is the worst one, in the order 5, 1, 4, 3,
2. If a run is ended by squall rollback or because its objects are deleted, the
remaining experiments are not run.`,
		Example: `  squall run ratings-outage.yaml --prometheus http://localhost:9090
  SQUALL_PROMETHEUS=http://localhost:9090 squall run --context staging -l team=reviews experiments/
  squall run --only-changed origin/main experiments/`,
		Args: args.Files("squall run"),
		RunE: func(cmd *cobra.Command, files []string) error { return runFiles(cmd.Context(), env, flags, files) },
	}
	flags.runner.Add(command.Flags(), flag.NoNamespace)
	flag.Session(command.Flags(), &flags.session)
	flag.Selector(command.Flags(), &flags.selector)
	flags.changed.Add(command.Flags())
	f := command.Flags()
	f.DurationVar(&flags.pauses.Fixed, "pause", 0, "pause between experiments")
	f.DurationVar(&flags.pauses.Longest, "wait", 2*time.Minute, "longest wait until the hypothesis of the next experiment holds; 0 does not wait")
	f.BoolVar(&flags.failFast, "fail-fast", false, "run no further experiment after one that did not hold")
	return command
}

// runFiles loads everything before it runs anything.
func runFiles(ctx context.Context, env Env, flags runFlags, files []string) error {
	chosen, err := flags.load(ctx, env, files)
	if err != nil {
		return unloadable(ctx, env, err)
	}
	if len(chosen) == 0 {
		fmt.Fprintf(env.Stderr, "squall: %s; nothing was run\n", flags.nothingInWords())
		return nil
	}
	config, err := flags.runner.Config(env)
	if err != nil {
		return err
	}
	r, err := runner.New(config)
	if err != nil {
		return err
	}
	flags.session.Cluster = flags.runner.Cluster.InWords()
	flags.pauses.Querier, flags.pauses.Alerts = config.Querier, config.Alerts
	return exit.With(runAll(ctx, env, flags, r, chosen))
}

// load returns the experiments to run. They may be none only with --only-changed.
// The error is of type problem.List if the files are invalid.
func (f *runFlags) load(ctx context.Context, env Env, arguments []string) ([]selection.Experiment, error) {
	files, err := changedFiles(ctx, f.changed, arguments)
	if err != nil {
		return nil, err
	}
	chosen, err := sourceOf(env).Select(ctx, files, f.selector)
	if err == nil && len(chosen) == 0 && !f.changed.Given {
		err = selection.NoMatch(f.selector)
	}
	return chosen, err
}

// changedFiles returns the changed files among the arguments and in their directories,
// and all arguments without --only-changed. The error is of type problem.List if an
// argument is invalid.
func changedFiles(ctx context.Context, changed flag.Changed, arguments []string) ([]string, error) {
	if !changed.Given {
		return arguments, nil
	}
	return selection.Changed(ctx, changed.Base, arguments)
}

// sourceOf returns the source of experiments. It notes on stderr what is not read.
func sourceOf(env Env) selection.Source {
	return selection.Source{Stdin: env.Stdin, Note: func(note string) { output.Line(env.Stderr, "squall: %s", note) }}
}

// unloadable returns the error that ends the program because experiments could not be
// loaded.
func unloadable(ctx context.Context, env Env, err error) error {
	if ctx.Err() != nil {
		return exit.Failed(ctx, err)
	}
	return invalid(env, err)
}

// nothingInWords says that no experiment is to be run.
func (f *runFlags) nothingInWords() string {
	if f.selector == "" {
		return "no experiment has changed since " + f.changed.Base
	}
	return fmt.Sprintf("no experiment that matches %q has changed since %s", f.selector, f.changed.Base)
}

// runAll runs experiments one after another and returns the most severe exit code. It
// starts no other one after ctx has ended, after a run that has left objects, and after
// a run that was ended from outside: a user who stops a run does not expect the next. With
// --fail-fast it starts none after a run that did not hold.
func runAll(ctx context.Context, env Env, flags runFlags, r session.Runner, chosen []selection.Experiment) (code int) {
	var ended []reports.Summary
	flags.session.Ended = func(s reports.Summary) { ended = append(ended, s) }
	flags.pauses.Note = func(note string) {
		if !flags.session.Quiet {
			output.Line(env.Stderr, "squall: %s", note)
		}
	}
	if len(chosen) > 1 {
		defer func() { printBatch(env, ended) }()
	}
	disturbed := false
	for i, e := range chosen {
		if i > 0 {
			flags.pauses.Before(ctx, e.Experiment, disturbed)
			fmt.Fprintln(env.Stdout)
		}
		result, one := runOne(ctx, env, flags.session, r, e.Experiment, exit.Of)
		code = exit.Worst(code, one)
		disturbed = disturbed || result.Injected.Duration > 0
		switch left := len(chosen) - i - 1; {
		case left == 0:
		case one == exit.Left:
			fmt.Fprintf(env.Stderr, "squall: objects are left in the cluster; %s not run\n", output.Counted(left, "experiment"))
			return code
		case result.Outside:
			fmt.Fprintf(env.Stderr, "squall: ended from outside; %s not run\n", output.Counted(left, "experiment"))
			return exit.Worst(code, exit.Interrupted)
		case ctx.Err() != nil:
			fmt.Fprintf(env.Stderr, "squall: interrupted; %s not run\n", output.Counted(left, "experiment"))
			return exit.Worst(code, exit.Interrupted)
		case flags.failFast && one != exit.Held:
			fmt.Fprintf(env.Stderr, "squall: --fail-fast; %s not run\n", output.Counted(left, "experiment"))
			return code
		}
	}
	return code
}

// printBatch prints a table of all runs of a batch.
func printBatch(env Env, ended []reports.Summary) {
	fmt.Fprintln(env.Stdout)
	if err := reports.WriteBatch(env.Stdout, ended); err != nil {
		output.Error(env.Stderr, err)
	}
}
