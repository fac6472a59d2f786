package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/squall-chaos/squall/internal/app/liveruns"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports"
)

// statusFlags are the flags of squall status.
type statusFlags struct {
	kubernetes kubeconfig
	output     outputFormat
}

func newStatusCommand(env Env) *cobra.Command {
	flags := statusFlags{}
	command := &cobra.Command{
		Use:   "status",
		Short: "Show the live faults of a cluster",
		Long: `Status lists the faults of all runs in the cluster, of all users and machines. It
reads only the objects in the cluster.

EXPIRES is the latest end of the run. HEARTBEAT is when Kubernetes removes the
fault unless the run extends this deadline. The state EXPIRED means that one of
the two has passed, ORPHANED that no heartbeat owns the fault any more. 'squall
rollback' removes faults.

Exit codes: 0 the cluster was read, 2 bad usage, 3 the cluster could not be read.`,
		Example: `  squall status
  squall status -n shop
  squall status -o json | jq -r '.runs[] | select(.expired) | .run'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return showStatus(cmd.Context(), env, flags) },
	}
	flags.kubernetes.addWithNamespace(command.Flags(), "only namespace to list (default all)")
	addOutput(command.Flags(), &flags.output, outputText, outputYAML, outputJSON)
	return command
}

// showStatus reads the cluster and prints its live faults.
func showStatus(ctx context.Context, env Env, flags statusFlags) error {
	show := map[outputFormat]func(io.Writer, liveruns.Listing) error{outputText: printLiveRuns, outputYAML: printYAML[liveruns.Listing], outputJSON: printJSON[liveruns.Listing]}[flags.output]
	lister, _, err := newLister(&flags.kubernetes)
	if err != nil {
		return err
	}
	listing, err := lister.List(ctx)
	if err != nil {
		return failed(ctx, err)
	}
	printUnread(env.Stderr, listing)
	if err := show(env.Stdout, listing); err != nil {
		return failed(ctx, err)
	}
	return nil
}

// printLiveRuns prints a line for each fault, and a line for a run without a fault.
func printLiveRuns(out io.Writer, listing liveruns.Listing) error {
	if len(listing.Runs) == 0 {
		_, err := fmt.Fprintln(out, noneInWords(liveFaults, listing))
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "RUN\tEXPERIMENT\tHOST\tCALLERS\tAGE\tEXPIRES\tHEARTBEAT\tOWNER\tSTATE")
	for _, run := range listing.Runs {
		faults := run.Faults
		if len(faults) == 0 {
			faults = []objects.ActiveFault{{Created: run.Created}}
		}
		for _, fault := range faults {
			fmt.Fprintln(table, strings.Join([]string{
				reports.OneLine(run.ID), reports.OneLine(run.Experiment), reports.OneLine(fault.Host), reports.OneLine(fault.Callers),
				duration.HumanDuration(listing.Time.Sub(fault.Created)), until(run.Expires, listing.Time), until(fault.Heartbeat, listing.Time),
				reports.OneLine(run.Owner), reports.OneLine(stateInWords(run, fault)),
			}, "\t"))
		}
	}
	return table.Flush()
}

// until returns the time from now to a moment in words.
func until(moment, now time.Time) string {
	switch left := moment.Sub(now); {
	case moment.IsZero():
		return "-"
	case left < 0:
		return duration.HumanDuration(-left) + " ago"
	default:
		return "in " + duration.HumanDuration(left)
	}
}

func stateInWords(run objects.ActiveRun, fault objects.ActiveFault) string {
	var marks []string
	if len(run.Faults) == 0 {
		marks = append(marks, "no fault")
	}
	if run.Expired {
		marks = append(marks, "EXPIRED")
	}
	if fault.Orphaned {
		marks = append(marks, "ORPHANED")
	}
	if run.StoppedBy != "" {
		marks = append(marks, "stopped by "+run.StoppedBy)
	}
	if len(marks) == 0 {
		return "live"
	}
	return strings.Join(slices.Compact(marks), ", ")
}
