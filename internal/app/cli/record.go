package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/app/terminal"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
)

// recordFlags choose how runs are recorded and shown.
type recordFlags struct {
	out       string
	reports   []reports.Format
	quiet     bool
	verbose   bool
	logFormat terminal.Format
}

// defaultOut is the default of --out.
const defaultOut = "squall-runs"

// add adds the flags.
func (f *recordFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.out, "out", defaultOut, "directory in which each run gets a directory with its journal and reports")
	flag.Choices(flags, &f.reports, "report", "reports to write beside the journal", reports.Formats()...)
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print no progress")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "print more: each query, each object with its UID")
	addLogFormat(flags, &f.logFormat, "format of the progress")
}

// addLogFormat adds the flag --log-format.
func addLogFormat(flags *pflag.FlagSet, format *terminal.Format, description string) {
	*format = terminal.Text
	flag.Choice(flags, format, "log-format", "", description, terminal.Text, terminal.JSON)
}

// runOne runs one experiment and prints its summary. The result is empty if the
// journal cannot be created: then the run does not start.
func runOne(ctx context.Context, env Env, flags recordFlags, r *runner.Runner, e experiments.Experiment) (result event.Result, code int) {
	run := r.NewRun(e, time.Now())
	directory := filepath.Join(flags.out, run.ID)
	writer, err := journal.Create(directory)
	if err != nil {
		printError(env.Stderr, hint.With(fmt.Errorf("%s: refused: %w", e.Metadata.Name, err), unrecordedHint))
		return result, exitInconclusive
	}
	kept := &kept{}
	recorders := []event.Recorder{kept}
	var progress *terminal.Progress
	if !flags.quiet {
		if flags.logFormat == terminal.Text {
			fmt.Fprintf(env.Stderr, "squall: %s: run %s, journal %s\n", e.Metadata.Name, run.ID, filepath.Join(directory, journal.FileName))
		}
		progress = terminal.NewProgress(env.Stderr, env.Getenv, flags.logFormat, flags.verbose)
		recorders = append(recorders, progress)
	}
	// The journal is last, so that an event that it cannot take is shown.
	result = r.Run(ctx, run, e, event.Fanout(append(recorders, event.ToJournal(writer))...))
	if progress != nil {
		progress.Flush()
	}
	folded, err := kept.fold()
	if err == nil {
		// The last event may be the one that could not be recorded.
		folded.Result = &result
		err = errors.Join(reports.Text(env.Stdout, folded), writeReports(env, directory, flags.reports, folded))
	}
	if err := errors.Join(err, writer.Close()); err != nil {
		printError(env.Stderr, err)
	}
	return result, codeOf(result)
}

// unrecordedHint is for a journal that cannot be created.
const unrecordedHint = "choose another directory with --out; a run needs a journal to start"

// kept is an event.Recorder that keeps the events of a run in memory, as lines of a
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

// writeReports writes reports to the directory of a run, and the summary and the
// annotation that GitHub Actions shows.
func writeReports(env Env, directory string, formats []reports.Format, run reports.Run) error {
	var failures []error
	for _, format := range formats {
		failures = append(failures, writeFile(filepath.Join(directory, format.FileName()), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, func(w io.Writer) error { return reports.Write(w, format, run) }))
	}
	if summary := env.Getenv("GITHUB_STEP_SUMMARY"); summary != "" {
		failures = append(failures, writeFile(summary, os.O_CREATE|os.O_APPEND|os.O_WRONLY, func(w io.Writer) error { return reports.Markdown(w, run) }))
	}
	if env.Getenv("GITHUB_ACTIONS") == "true" {
		failures = append(failures, reports.Annotation(env.Stdout, run))
	}
	return errors.Join(failures...)
}

func writeFile(name string, flag int, write func(io.Writer) error) (err error) {
	file, err := os.OpenFile(name, flag, 0o640) //nolint:gosec // reports are for the team, in a directory that the user chooses
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return write(file)
}
