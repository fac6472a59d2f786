package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/internal/app/records"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/journal"
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
