// Package cli is Squall's command line: one file per verb. It is the only
// place where the parts of the program are wired together, and the only one
// that chooses exit codes.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/internal/oneline"
)

// Env is the process as the command line sees it.
type Env struct {
	Args   []string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
}

// Main runs one command and gives the exit code. When ctx ends, a run in
// progress is rolled back.
func Main(ctx context.Context, env Env) int {
	// client-go's own log says nothing that an error does not say too.
	klog.SetLogger(logr.Discard())
	noticeDeadConnections(env)
	root := &cobra.Command{
		Use:   "squall",
		Short: "Chaos experiments on an Istio mesh",
		Long: `Squall runs chaos experiments on an Istio mesh: it disturbs the calls that an
experiment file names with temporary VirtualServices, checks in Prometheus what
must stay true meanwhile, always rolls back, and reports.

Exit codes: 0 held, 1 deviated, 2 bad usage or file, 3 inconclusive or refused,
4 interrupted and clean, 5 rollback incomplete.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetArgs(env.Args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.AddCommand(verbs(env)...) //nolint:contextcheck // a command gets its context when it runs
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitHeld
	}
	if ended, ok := errors.AsType[*exitError](err); ok {
		if ended.cause != nil {
			printError(env.Stderr, ended.cause)
		}
		return ended.code
	}
	if hint.Of(err) == "" {
		err = hint.With(err, command.CommandPath()+" --help")
	}
	printError(env.Stderr, err)
	return exitUsage
}

// verbs returns the subcommands.
func verbs(env Env) []*cobra.Command {
	return []*cobra.Command{
		newRunCommand(env), newInjectCommand(env), newPlanCommand(env), newServeCommand(env), newStatusCommand(env), newRollbackCommand(env),
		newDoctorCommand(env), newReportCommand(env), newValidateCommand(env), newInitCommand(env), newSchemaCommand(env), newVersionCommand(env),
	}
}

// noticeDeadConnections lets a connection to the API server that is frozen be
// given up within seconds: a rollback must not wait for it until its deadline.
// Client-go has no other knob than these variables.
func noticeDeadConnections(env Env) {
	for name, seconds := range map[string]string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "3", "HTTP2_PING_TIMEOUT_SECONDS": "2"} {
		if env.Getenv(name) == "" {
			_ = os.Setenv(name, seconds) // fails for names that are none
		}
	}
}

// printError writes one line, and a second one for a hint.
func printError(w io.Writer, err error) {
	fmt.Fprintf(w, "squall: %s\n", lined(err.Error()))
	if text := hint.Of(err); text != "" {
		fmt.Fprintf(w, "hint: %s\n", lined(text))
	}
}

// lined keeps the lines of a text, and nothing else that a terminal obeys:
// errors repeat what servers say. Lines after the first are indented, so that
// none passes for one of Squall's own.
func lined(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = oneline.Blanked(line)
		if i > 0 && line != "" {
			lines[i] = "  " + lines[i]
		}
	}
	return strings.Join(lines, "\n")
}
