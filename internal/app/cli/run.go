package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/terminal"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
)

// runFlags are the flags of squall run.
type runFlags struct {
	runner   runnerFlags
	record   recordFlags
	selector string
	changed  changedFlag
}

// runnerFlags choose what a runner is connected to, and where it puts objects.
type runnerFlags struct {
	kubernetes kubeconfig
	placement  placementFlags
	heartbeat  heartbeatFlags
	prometheus prometheusFlags
}

// recordFlags choose what is recorded and shown of a run.
type recordFlags struct {
	out       string
	reports   reportList
	quiet     bool
	verbose   bool
	logFormat terminal.Format
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

func newRunCommand(env Env) *cobra.Command {
	flags := runFlags{}
	command := &cobra.Command{
		Use:   "run FILE...",
		Short: "Run experiments one after another",
		Long: `Run injects the faults of experiment files, one experiment after another,
watches each hypothesis, rolls back, and prints a summary on stdout. Progress
goes to stderr. Ctrl-C rolls back; a second Ctrl-C ends at once, and the cluster
removes the fault within 20 seconds.

With --only-changed BASE only files that a branch has touched are loaded and run:
those that differ from the merge base of BASE and HEAD, be it committed, not yet
committed, or not yet tracked. Where none is, nothing is run and the exit code is 0.

Exit codes: 0 held, 1 deviated, 2 bad usage or file, 3 inconclusive or refused,
4 interrupted and clean, 5 rollback incomplete. With several experiments 5 wins,
then 1, 4, 3, 2.`,
		Example: `  squall run ratings-outage.yaml --prometheus http://localhost:9090
  SQUALL_PROMETHEUS=http://localhost:9090 squall run --context staging -l team=reviews experiments/
  squall run --only-changed origin/main experiments/`,
		Args: needFiles("squall run"),
		RunE: func(cmd *cobra.Command, files []string) error { return runFiles(cmd.Context(), env, flags, files) },
	}
	flags.runner.add(command.Flags(), shortHostNamespace)
	flags.record.add(command.Flags())
	command.Flags().StringVarP(&flags.selector, "selector", "l", "", "run only experiments with such labels, as for kubectl: team=reviews,tier!=demo")
	flags.changed.add(command.Flags())
	return command
}

// add adds the flags. The namespace of -n has a different meaning in each command.
func (f *runnerFlags) add(flags *pflag.FlagSet, namespace string) {
	f.kubernetes.addWithNamespace(flags, namespace)
	f.placement.add(flags)
	f.heartbeat.add(flags)
	f.prometheus.add(flags)
}

// defaultOut is the default of --out.
const defaultOut = "squall-runs"

// add adds the flags.
func (f *recordFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.out, "out", defaultOut, "directory in which each run gets a directory with its journal and reports")
	flags.Var(&f.reports, "report", "reports to write beside the journal, separated by commas ("+alternatives(reports.Formats())+")")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print no progress")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "print more: each query, each object with its UID")
	addLogFormat(flags, &f.logFormat, "format of the progress")
}

// addLogFormat adds the flag --log-format.
func addLogFormat(flags *pflag.FlagSet, format *terminal.Format, description string) {
	*format = terminal.Text
	addChoice(flags, format, "log-format", "", description, terminal.Text, terminal.JSON)
}

// runFiles loads everything before it runs anything.
func runFiles(ctx context.Context, env Env, flags runFlags, files []string) error {
	chosen, err := flags.load(ctx, env, files)
	if problems, ok := errors.AsType[experiments.Problems](err); ok {
		fmt.Fprintln(env.Stderr, problems.Error())
		return exit(exitUsage)
	}
	if err != nil {
		return err
	}
	if len(chosen) == 0 {
		fmt.Fprintf(env.Stderr, "squall: no experiment is touched since %s; nothing was run\n", flags.changed.base)
		return nil
	}
	r, err := newRunner(env, flags.runner)
	if err != nil {
		return err
	}
	return exit(runAll(ctx, env, flags, r, chosen))
}

// load returns the experiments to run. They may be none only with --only-changed.
// The error is of type experiments.Problems if the files are invalid.
func (f *runFlags) load(ctx context.Context, env Env, arguments []string) ([]loaded, error) {
	files, err := f.changed.files(ctx, arguments)
	if err != nil {
		return nil, err
	}
	chosen, err := loadSelected(env, files, f.selector)
	if err == nil && len(chosen) == 0 && !f.changed.given {
		err = errNoneSelected(f.selector)
	}
	return chosen, err
}

// runAll runs experiments one after another, and stops when ctx ends.
func runAll(ctx context.Context, env Env, flags runFlags, r runner.Runner, chosen []loaded) (code int) {
	for i, e := range chosen {
		if i > 0 {
			fmt.Fprintln(env.Stdout)
		}
		_, one := runOne(ctx, env, flags.record, r, e.Experiment)
		code = worstCode(code, one)
		switch left := len(chosen) - i - 1; {
		case left == 0:
		case one == exitLeft:
			fmt.Fprintf(env.Stderr, "squall: objects are left in the cluster; %d experiments were not run\n", left)
			return code
		case ctx.Err() != nil:
			fmt.Fprintf(env.Stderr, "squall: interrupted; %d experiments were not run\n", left)
			return worstCode(code, exitInterrupted)
		}
	}
	return code
}

// newRunner wires a runner to the cluster and the Prometheus that the flags
// name. Nothing is sent yet.
func newRunner(env Env, flags runnerFlags) (runner.Runner, error) {
	querier, err := flags.prometheus.client(env)
	if err != nil {
		return runner.Runner{}, err
	}
	options, err := flags.placement.options(env)
	if err != nil {
		return runner.Runner{}, err
	}
	config, err := flags.kubernetes.config()
	if err != nil {
		return runner.Runner{}, err
	}
	target, err := kube.Connect(config)
	if err != nil {
		return runner.Runner{}, err
	}
	return runner.Runner{
		Mesh: target, Querier: querier, Alerts: querier, Prometheus: querier.Address(), Version: version(), Owner: owner(env), Timing: runner.DefaultTiming(), Options: options,
		WithoutHeartbeat: flags.heartbeat.mode == heartbeatOff, HeartbeatImage: flags.heartbeat.image,
	}, nil
}

// runOne runs one experiment and prints its summary. The result is empty when
// it could not be recorded, and so did not start.
func runOne(ctx context.Context, env Env, flags recordFlags, r runner.Runner, e experiments.Experiment) (result event.Result, code int) {
	run := r.NewRun(e, time.Now())
	folder := filepath.Join(flags.out, run.ID)
	writer, err := journal.Create(folder)
	if err != nil {
		printError(env.Stderr, hint.With(fmt.Errorf("%s: refused: %w", e.Metadata.Name, err), unrecordedHint))
		return result, exitInconclusive
	}
	kept := &kept{}
	recorders := []event.Recorder{kept}
	var progress *terminal.Progress
	if !flags.quiet {
		if flags.logFormat == terminal.Text {
			fmt.Fprintf(env.Stderr, "squall: %s: run %s, journal %s\n", e.Metadata.Name, run.ID, filepath.Join(folder, journal.FileName))
		}
		progress = terminal.NewProgress(env.Stderr, env.Getenv, flags.logFormat, flags.verbose)
		recorders = append(recorders, progress)
	}
	// The journal comes last: what cannot be written to it is shown all the same.
	result = r.Run(ctx, run, e, event.Fanout(append(recorders, event.ToJournal(writer))...))
	if progress != nil {
		progress.Flush()
	}
	folded, err := kept.fold()
	if err == nil {
		// The last event may be the one that could not be recorded.
		folded.Result = &result
		err = errors.Join(reports.Text(env.Stdout, folded), writeReports(env, folder, flags.reports, folded))
	}
	if err := errors.Join(err, writer.Close()); err != nil {
		printError(env.Stderr, err)
	}
	return result, codeOf(result)
}

// unrecordedHint is the next step when a journal cannot be written.
const unrecordedHint = "a run that cannot be recorded does not start; choose another folder with --out"

// kept is an event.Recorder that keeps a run's events in memory as the lines of a
// journal.
type kept struct {
	mu    sync.Mutex
	lines []journal.Line
}

// Record implements event.Recorder.
func (k *kept) Record(at time.Time, e event.Event) error {
	line, err := event.Encode(at, e)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lines = append(k.lines, line)
	return nil
}

// fold returns the run as its lines so far record it. A Record may still be in
// progress.
func (k *kept) fold() (reports.Run, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return reports.Fold(k.lines)
}

// owner says who runs the experiment, for whoever finds its objects.
func owner(env Env) string {
	user := cmp.Or(env.Getenv("USER"), env.Getenv("LOGNAME"), "unknown")
	host, err := os.Hostname()
	if err != nil {
		return user
	}
	return user + "@" + host
}
