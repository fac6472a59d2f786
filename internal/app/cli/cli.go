// Package cli is the command line of Squall: flags, wiring and exit codes, with one
// file per verb.
package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/internal/app/cli/live"
	"github.com/squall-chaos/squall/internal/app/cli/output"
	"github.com/squall-chaos/squall/internal/app/cli/process"
	"github.com/squall-chaos/squall/internal/app/cli/serving"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/kube"
)

// Env is the environment of the process.
type Env = process.Env

// Main runs one command and returns the exit code. When ctx ends, it rolls back the
// run in progress.
func Main(ctx context.Context, env Env) int {
	// The log of client-go repeats the errors that it returns.
	klog.SetLogger(logr.Discard())
	kube.NoticeDeadConnections(env.Getenv)
	root := newRootCommand(env) //nolint:contextcheck // a command gets its context when it runs
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exit.Held
	}
	if ended, ok := errors.AsType[*exit.Error](err); ok {
		if ended.Cause != nil {
			output.Error(env.Stderr, ended.Cause)
		}
		return ended.Code
	}
	if hint.Of(err) == "" {
		err = hint.With(err, command.CommandPath()+" --help")
	}
	output.Error(env.Stderr, err)
	return exit.Usage
}

// Abandon reports what a second signal means, which ends the process before the rollback,
// and returns the exit code.
func Abandon(env Env) int {
	fmt.Fprintln(env.Stderr, "\nsquall: ended by a second signal, without waiting for the rollback")
	fmt.Fprintln(env.Stderr, "hint: the cluster removes the fault of a run with a heartbeat within 20 seconds; squall status shows it, squall rollback --all removes it now")
	return exit.Left
}

// newRootCommand returns the command squall with its subcommands.
func newRootCommand(env Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "squall",
		Short: "Chaos experiments on an Istio mesh",
		Long: `Squall runs chaos experiments on an Istio mesh. An experiment file names the calls
to disturb and a hypothesis: what must stay true meanwhile. Squall injects the
fault with temporary VirtualServices, checks the hypothesis in Prometheus, always
rolls back, and reports.

Exit codes: 0 held, 1 deviated, 2 bad usage or file, 3 inconclusive or refused,
4 interrupted and clean, 5 rollback incomplete.`,
		Example: `  squall doctor --prometheus http://localhost:9090
  squall init experiment.yaml
  squall plan experiment.yaml --prometheus http://localhost:9090
  squall run experiment.yaml --prometheus http://localhost:9090`,
		Version:       process.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		// The distance of cobra's own suggestions.
		SuggestionsMinimumDistance: 2,
		Args:                       noCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetUsageFunc(printUsage)
	root.SetVersionTemplate("squall {{.Version}}\n")
	root.SetArgs(env.Args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.AddCommand(newRunCommand(env), newInjectCommand(env), newPlanCommand(env), serving.New(env), live.NewStatus(env), live.NewRollback(env),
		newDoctorCommand(env), newReportCommand(env), newValidateCommand(env), newInitCommand(env), newSchemaCommand(env), newVersionCommand(env))
	return root
}

// noCommand rejects an unknown command, and suggests a known one.
func noCommand(root *cobra.Command, arguments []string) error {
	if len(arguments) == 0 {
		return nil
	}
	next := "squall --help lists the commands"
	if similar := root.SuggestionsFor(arguments[0]); len(similar) > 0 {
		next = fmt.Sprintf("did you mean squall %s? %s", similar[0], next)
	}
	return hint.With(fmt.Errorf("unknown command %q", arguments[0]), next)
}
