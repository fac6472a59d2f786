// Package session runs one experiment for a user: it records the run in a journal,
// shows the progress, and writes the summary and the reports.
package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/terminal"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/internal/oneline"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
)

// Runner runs experiments.
type Runner interface {
	NewRun(e experiments.Experiment, now time.Time) objects.Run
	Run(ctx context.Context, run objects.Run, e experiments.Experiment, recorder event.Recorder) event.Result
}

// Session is how runs are recorded and shown.
type Session struct {
	// Directory has a directory for each run.
	Directory string
	// Reports are written beside the journal.
	Reports []reports.Format
	// Quiet shows no progress.
	Quiet bool
	// Verbose shows more progress.
	Verbose bool
	// Format is the format of the progress.
	Format terminal.Format
	// Cluster is the cluster in words, for the first line of the progress.
	Cluster string
	// Ended is called with each run that has ended. It may be nil.
	Ended func(reports.Summary)

	// Stdout is for the summary, Stderr for the progress.
	Stdout, Stderr io.Writer
	Getenv         func(string) string
}

// Run runs one experiment. The result is empty if the journal cannot be created: then
// the run does not start. Otherwise the error is about the summary, the reports or the
// journal of a run that has ended.
func (s Session) Run(ctx context.Context, r Runner, e experiments.Experiment) (result event.Result, err error) {
	run := r.NewRun(e, time.Now())
	directory := filepath.Join(s.Directory, run.ID)
	writer, err := journal.Create(directory)
	if err != nil {
		return result, hint.With(fmt.Errorf("%s: refused: %w", e.Metadata.Name, err), "choose another directory with --out; a run needs a journal to start")
	}
	kept := &kept{}
	recorders := []event.Recorder{kept}
	var progress *terminal.Progress
	if !s.Quiet {
		if s.Format == terminal.Text {
			fmt.Fprintf(s.Stderr, "squall: %s: in %s\n", e.Metadata.Name, oneline.Cell(cmp.Or(s.Cluster, "the cluster of this pod")))
			fmt.Fprintf(s.Stderr, "squall: %s: run %s, journal %s\n", e.Metadata.Name, run.ID, filepath.Join(directory, journal.FileName))
		}
		progress = terminal.NewProgress(s.Stderr, s.Getenv, s.Format, s.Verbose)
		recorders = append(recorders, progress)
	}
	if progress != nil {
		defer context.AfterFunc(ctx, progress.Interrupted)()
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
		err = errors.Join(reports.Text(s.Stdout, folded), s.write(directory, folded))
		s.point(directory)
		if s.Ended != nil {
			s.Ended(reports.Summarize(folded))
		}
	}
	return result, errors.Join(err, writer.Close())
}

// point prints where the reports of a run are, or the command that writes one.
func (s Session) point(directory string) {
	if s.Quiet || s.Format != terminal.Text {
		return
	}
	if len(s.Reports) == 0 {
		fmt.Fprintf(s.Stderr, "squall: for a page with plots: squall report -o html %s > report.html\n", directory)
	}
	for _, format := range s.Reports {
		fmt.Fprintf(s.Stderr, "squall: report: %s\n", filepath.Join(directory, format.FileName()))
	}
}

// write writes reports to the directory of a run, and the summary and the annotation
// that GitHub Actions shows.
func (s Session) write(directory string, run reports.Run) error {
	var failures []error
	for _, format := range s.Reports {
		failures = append(failures, writeFile(filepath.Join(directory, format.FileName()), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, func(w io.Writer) error { return reports.Write(w, format, run) }))
	}
	if summary := s.Getenv("GITHUB_STEP_SUMMARY"); summary != "" {
		failures = append(failures, writeFile(summary, os.O_CREATE|os.O_APPEND|os.O_WRONLY, func(w io.Writer) error { return reports.Markdown(w, run) }))
	}
	if s.Getenv("GITHUB_ACTIONS") == "true" {
		failures = append(failures, reports.Annotation(s.Stdout, run))
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
