package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/internal/app/cli/args"
	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/app/records"
	"github.com/squall-chaos/squall/internal/app/selection"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/journal"
)

func newReportCommand(env Env) *cobra.Command {
	var format reports.Format
	command := &cobra.Command{
		Use:   "report JOURNAL",
		Short: "Print the report of a run from its journal, or list all runs",
		Long: `Report prints the report of a run that has ended or crashed, from its journal. It
needs neither the cluster nor Prometheus. JOURNAL is a journal, its directory, or -
for the standard input.

For a directory that contains the directories of runs, such as squall-runs, it
lists the runs, newest first. The links of the HTML list are relative to that
directory. A journal that cannot be read is listed with the error.`,
		Example: `  squall report squall-runs/20261122-193148-details-delay-1ffc37 -o html > report.html
  squall report journal.jsonl -o json | jq .verdict

  squall report squall-runs
  squall report squall-runs -o html > squall-runs/index.html
  squall report squall-runs -o json | jq -r '.[] | select(.verdict == "deviated") | .run'`,
		Args: args.Exactly(1, "one journal or directory", "squall report squall-runs/RUN"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			if isListOfRuns(arguments[0]) {
				return writeIndex(cmd.Context(), env, arguments[0], format)
			}
			return writeReport(env, arguments[0], format)
		},
	}
	flag.Output(command.Flags(), &format, reports.Formats()...)
	return command
}

// writeReport prints the report of a run.
func writeReport(env Env, name string, format reports.Format) error {
	run, err := readRun(env, name)
	if errors.Is(err, fs.ErrNotExist) {
		return missing(name)
	}
	if err != nil {
		return hint.With(err, journalHint)
	}
	return reports.Write(env.Stdout, format, run)
}

// journalHint is for a file that is not a journal.
const journalHint = "the journal of a run is " + flag.DefaultOut + "/RUN/" + journal.FileName

// missing returns the error of a journal that does not exist. The hint is a run of
// that name in the default directory, if there is one.
func missing(name string) error {
	err := fmt.Errorf("there is no journal and no directory %s", name)
	if run := filepath.Join(flag.DefaultOut, name); !filepath.IsAbs(name) && exists(filepath.Join(run, journal.FileName)) {
		return hint.With(err, "squall report "+run)
	}
	if exists(flag.DefaultOut) {
		return hint.With(err, "squall report "+flag.DefaultOut+" lists the runs")
	}
	return hint.With(err, journalHint)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// isListOfRuns reports whether a directory has no journal itself.
func isListOfRuns(name string) bool {
	if info, err := os.Stat(name); name == selection.Stdin || err != nil || !info.IsDir() {
		return false
	}
	return !exists(filepath.Join(name, journal.FileName))
}

// writeIndex lists the runs of a directory.
func writeIndex(ctx context.Context, env Env, directory string, format reports.Format) error {
	index := records.NewIndex(directory)
	index.Suites = format == reports.FormatJUnit
	runs, err := index.Summaries(ctx)
	if err == nil && len(runs) == 0 {
		err = fmt.Errorf("%s has neither a journal nor the directory of a run", directory)
	}
	if err != nil {
		return hint.With(err, journalHint)
	}
	return reports.WriteIndex(env.Stdout, format, runs)
}

// readRun reads a journal, the journal in a directory, or the standard input.
func readRun(env Env, name string) (reports.Run, error) {
	if name == selection.Stdin {
		return records.Fold(env.Stdin)
	}
	return records.Read(name)
}
