package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/internal/app/records"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

func newReportCommand(env Env) *cobra.Command {
	var format reports.Format
	command := &cobra.Command{
		Use:   "report JOURNAL",
		Short: "Render the report of a run again, from its journal, or list all runs",
		Long: `Report renders what a journal says: of a run that has ended, and of one that a
crash has cut short. It needs neither the cluster nor Prometheus. JOURNAL is a
journal or the folder that it is in.

Of a folder with the folders of runs, such as squall-runs, it lists all runs,
newest first. The links of the HTML list are relative to that folder. A journal
that cannot be read is listed with the error.`,
		Example: `  squall report squall-runs/20261122-193148-details-delay-1ffc37 -o html > report.html
  squall report journal.jsonl -o json | jq .verdict

  squall report squall-runs
  squall report squall-runs -o html > squall-runs/index.html
  squall report squall-runs -o json | jq -r '.[] | select(.verdict == "deviated") | .run'`,
		Args: func(_ *cobra.Command, arguments []string) error {
			if len(arguments) != 1 {
				return hint.With(fmt.Errorf("%d journals instead of one", len(arguments)), "squall report squall-runs/RUN")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, arguments []string) error {
			write := writeReport
			if isListOfRuns(arguments[0]) {
				write = writeIndex
			}
			return write(cmd.Context(), env, arguments[0], format)
		},
	}
	addOutput(command.Flags(), &format, reports.Formats()...)
	return command
}

func writeReport(_ context.Context, env Env, name string, format reports.Format) error {
	run, err := readRun(env, name)
	if err != nil {
		return hint.With(err, journalHint)
	}
	return reports.Write(env.Stdout, format, run)
}

// journalHint is the next step when there is no journal.
const journalHint = "squall-runs/RUN/" + journal.FileName + " is the journal of a run"

// isListOfRuns tells whether a name is that of a folder without a journal of
// its own.
func isListOfRuns(name string) bool {
	if info, err := os.Stat(name); name == stdinName || err != nil || !info.IsDir() {
		return false
	}
	_, err := os.Stat(filepath.Join(name, journal.FileName))
	return errors.Is(err, fs.ErrNotExist)
}

// writeIndex lists the runs of a folder.
func writeIndex(ctx context.Context, env Env, folder string, format reports.Format) error {
	runs, err := records.NewIndex(folder).Summaries(ctx)
	if err == nil && len(runs) == 0 {
		err = fmt.Errorf("%s holds neither a journal nor the folder of a run", folder)
	}
	if err != nil {
		return hint.With(err, journalHint)
	}
	return reports.WriteIndex(env.Stdout, format, runs)
}

// readRun reads a journal, the journal in a folder, or the standard input.
func readRun(env Env, name string) (reports.Run, error) {
	if name == stdinName {
		return records.Fold(env.Stdin)
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = filepath.Join(name, journal.FileName)
	}
	return records.Read(name)
}

// reportList is the flag that names the reports that a run leaves beside its
// journal: --report junit,html.
type reportList []reports.Format

// Set implements pflag.Value.
func (l *reportList) Set(value string) error {
	for name := range strings.SplitSeq(value, ",") {
		format := reports.Format(strings.TrimSpace(name))
		if !slices.Contains(reports.Formats(), format) {
			return errors.New("must be " + alternatives(reports.Formats()))
		}
		*l = append(*l, format)
	}
	return nil
}

// String implements pflag.Value.
func (l *reportList) String() string {
	names := make([]string, len(*l))
	for i, format := range *l {
		names[i] = string(format)
	}
	return strings.Join(names, ",")
}

// Type implements pflag.Value.
func (l *reportList) Type() string { return "formats" }

// writeReports writes reports into the folder of a run, and what CI systems show
// by themselves.
func writeReports(env Env, folder string, formats []reports.Format, run reports.Run) error {
	var failures []error
	for _, format := range formats {
		failures = append(failures, writeFile(filepath.Join(folder, format.FileName()), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, func(w io.Writer) error { return reports.Write(w, format, run) }))
	}
	if summary := env.Getenv("GITHUB_STEP_SUMMARY"); summary != "" {
		failures = append(failures, writeFile(summary, os.O_CREATE|os.O_APPEND|os.O_WRONLY, func(w io.Writer) error { return reports.Markdown(w, run) }))
	}
	if env.Getenv("GITHUB_ACTIONS") == "true" {
		failures = append(failures, annotate(env.Stdout, run))
	}
	return errors.Join(failures...)
}

func writeFile(name string, flag int, write func(io.Writer) error) (err error) {
	file, err := os.OpenFile(name, flag, 0o640) //nolint:gosec // reports are for the team; the folder is the user's choice
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return write(file)
}

// annotate writes a workflow command of GitHub Actions, which shows the result
// on the job's page.
func annotate(w io.Writer, run reports.Run) error {
	level, reason := "warning", ""
	if result := run.Result; result != nil {
		reason = result.Reason
		switch {
		case len(result.Left) > 0 || result.Verdict == steadystate.Deviated:
			level = "error"
		case result.Verdict == steadystate.Held && result.Status == event.StatusCompleted:
			level = "notice"
		}
	}
	_, err := fmt.Fprintf(w, "::%s title=%s::%s\n", level, workflowProperty.Replace("squall "+run.Experiment.Metadata.Name), workflowText.Replace(strings.Trim(run.Outcome()+": "+reason, ": ")))
	return err
}

// Workflow commands end at a line's end, and their properties at a comma or a
// colon.
//
//nolint:gochecknoglobals // constant tables
var (
	workflowText     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	workflowProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)
