package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh/cluster"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/journal"
	steadystate "github.com/squall-chaos/squall/steady-state"
	"github.com/squall-chaos/squall/steady-state/prom"
)

// runFlags are the flags of squall run.
type runFlags struct {
	kubernetes *genericclioptions.ConfigFlags
	prometheus string
	out        string
	quiet      bool
}

func newRunCommand(env Env, code *int) *cobra.Command {
	flags := runFlags{kubernetes: genericclioptions.NewConfigFlags(false)}
	command := &cobra.Command{
		Use:   "run FILE...",
		Short: "Run experiments one after another",
		Long: `Run injects the faults of experiment files, one experiment after another,
watches each hypothesis, rolls back, and prints a summary on stdout. Progress
goes to stderr. Ctrl-C rolls back; a second Ctrl-C ends at once, and the cluster
removes the fault within 20 seconds.

Exit codes: 0 held, 1 deviated, 2 bad usage or file, 3 inconclusive or refused,
4 interrupted and clean, 5 rollback incomplete. With several experiments 5 wins,
then 1, 4, 3, 2.`,
		Example: `  squall run ratings-outage.yaml --prometheus http://localhost:9090
  SQUALL_PROMETHEUS=http://localhost:9090 squall run --context staging *.yaml`,
		Args: func(_ *cobra.Command, files []string) error {
			if len(files) == 0 {
				return &hintedError{errors.New("no experiment file is named"), "squall run FILE...; squall run --help has examples"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, files []string) (err error) {
			*code, err = runFiles(cmd.Context(), env, flags, files)
			return err
		},
	}
	flags.kubernetes.AddFlags(command.Flags())
	command.Flags().StringVar(&flags.prometheus, "prometheus", env.Getenv("SQUALL_PROMETHEUS"), "URL of the Prometheus server (or SQUALL_PROMETHEUS)")
	command.Flags().StringVar(&flags.out, "out", "squall-runs", "folder in which each run gets a folder with its journal")
	command.Flags().BoolVarP(&flags.quiet, "quiet", "q", false, "print no progress")
	return command
}

// runFiles loads everything before it runs anything. An error means that
// nothing was run.
func runFiles(ctx context.Context, env Env, flags runFlags, files []string) (int, error) {
	loaded, problems := loadFiles(files)
	if len(problems) > 0 {
		fmt.Fprintln(env.Stderr, problems.Error())
		return exitUsage, nil
	}
	r, err := newRunner(env, flags)
	if err != nil {
		return exitUsage, err
	}
	return runAll(ctx, env, flags, r, loaded), nil
}

// runAll runs experiments one after another, and stops when ctx ends.
func runAll(ctx context.Context, env Env, flags runFlags, r runner.Runner, loaded []experiments.Experiment) (code int) {
	for i, e := range loaded {
		if i > 0 {
			fmt.Fprintln(env.Stdout)
		}
		code = worstCode(code, runOne(ctx, env, flags, r, e))
		if ctx.Err() != nil {
			break
		}
	}
	return code
}

// newRunner wires a runner to the cluster and the Prometheus that the flags
// name. Nothing is sent yet.
func newRunner(env Env, flags runFlags) (runner.Runner, error) {
	if flags.prometheus == "" {
		return runner.Runner{}, &hintedError{errors.New("no Prometheus server is named"), "--prometheus http://HOST:9090 or SQUALL_PROMETHEUS; without it nothing would notice that the system suffers"}
	}
	querier, err := prom.New(flags.prometheus)
	if err != nil {
		return runner.Runner{}, &hintedError{err, "--prometheus http://HOST:9090"}
	}
	config, err := flags.kubernetes.ToRESTConfig()
	if err != nil {
		return runner.Runner{}, &hintedError{err, "--kubeconfig, --context or KUBECONFIG say which cluster is meant"}
	}
	target, err := cluster.Connect(config)
	if err != nil {
		return runner.Runner{}, err
	}
	return runner.Runner{Mesh: target, Querier: querier, Prometheus: querier.Address(), Version: version(), Owner: owner(env), Timing: runner.DefaultTiming()}, nil
}

// loadFiles loads every file and gives the problems of all of them at once.
func loadFiles(files []string) (all []experiments.Experiment, problems experiments.Problems) {
	for _, name := range files {
		loaded, err := loadFile(name)
		var found experiments.Problems
		switch {
		case errors.As(err, &found):
			problems = append(problems, found...)
		case err != nil:
			problems = append(problems, experiments.Problem{File: name, Message: err.Error()})
		}
		all = append(all, loaded...)
	}
	return all, problems
}

func loadFile(name string) (loaded []experiments.Experiment, err error) {
	info, err := os.Stat(name)
	var failure *fs.PathError
	switch {
	case errors.As(err, &failure):
		return nil, failure.Err
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, errors.New("is a directory; name the files in it")
	}
	file, err := os.Open(name) //nolint:gosec // the user names the file
	if err != nil {
		if errors.As(err, &failure) {
			err = failure.Err
		}
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return experiments.Load(name, file)
}

// runOne runs one experiment and prints its summary.
func runOne(ctx context.Context, env Env, flags runFlags, r runner.Runner, e experiments.Experiment) (code int) {
	run := r.NewRun(e, time.Now())
	folder := filepath.Join(flags.out, run.ID)
	writer, err := journal.Create(folder)
	if err != nil {
		printError(env.Stderr, &hintedError{fmt.Errorf("%s: refused: %w", e.Metadata.Name, err), unrecordedHint})
		return exitInconclusive
	}
	recorder := &recorder{journal: writer}
	if !flags.quiet {
		recorder.progress = &progress{out: env.Stderr, began: time.Now()}
		fmt.Fprintf(env.Stderr, "squall: %s: run %s, journal %s\n", e.Metadata.Name, run.ID, filepath.Join(folder, journal.FileName))
	}
	result := r.Run(ctx, run, e, recorder)
	folded, err := reports.Fold(recorder.events)
	if err == nil {
		err = reports.Text(env.Stdout, folded)
	}
	if err := errors.Join(err, writer.Close()); err != nil {
		printError(env.Stderr, err)
	}
	return exitCode(result)
}

// unrecordedHint is the next step when a journal cannot be written.
const unrecordedHint = "a run that cannot be recorded does not start; choose another folder with --out"

// recorder keeps a run's events, writes them to the journal, and shows them.
type recorder struct {
	journal  *journal.Writer
	progress *progress // nil when quiet
	mu       sync.Mutex
	events   []journal.Event
}

// Record implements runner.Recorder.
func (r *recorder) Record(at time.Time, eventType string, data any) error {
	event, err := journal.NewEvent(at, eventType, data)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event)
	if r.progress != nil {
		r.progress.show(at, data)
	}
	return r.journal.Append(event)
}

func exitCode(result runner.Result) int {
	switch {
	case len(result.Left) > 0:
		return exitLeft
	case result.Verdict == steadystate.Deviated:
		return exitDeviated
	case result.Status == runner.Interrupted:
		return exitInterrupted
	case result.Verdict == steadystate.Inconclusive:
		return exitInconclusive
	default:
		return exitHeld
	}
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
