// Package live has the commands that list the live runs of a cluster and remove them.
package live

import (
	"cmp"
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/internal/app/cli/args"
	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/app/cli/output"
	"github.com/squall-chaos/squall/internal/app/cli/process"
	"github.com/squall-chaos/squall/internal/app/liveruns"
)

// statusFlags are the flags of squall status.
type statusFlags struct {
	kubernetes flag.Cluster
	output     flag.Format
}

// NewStatus returns the command squall status.
func NewStatus(env process.Env) *cobra.Command {
	flags := statusFlags{}
	command := &cobra.Command{
		Use:   "status",
		Short: "Show the live faults of a cluster",
		Long: `Status lists the faults of all runs in the cluster, of all users and machines. It
reads only the objects in the cluster.

EXPIRES is the latest end of the run. HEARTBEAT is when Kubernetes removes the
fault unless the run extends this deadline. The state EXPIRED means that a run
without a heartbeat is over, ORPHANED that no deadline counts for the fault any
more. A run is listed from its baseline to its recovery, with its PHASE. 'squall
rollback' ends it in every phase.

Exit codes: 0 the cluster was read, 2 bad usage, 3 the cluster could not be read.`,
		Example: `  squall status
  squall status -n shop
  squall status -o json | jq -r '.runs[] | select(.expired) | .run'`,
		Args: args.None,
		RunE: func(cmd *cobra.Command, _ []string) error { return showStatus(cmd.Context(), env, flags) },
	}
	flags.kubernetes.Add(command.Flags(), "only faults on the calls from this namespace, and objects in it (default all)")
	flag.Output(command.Flags(), &flags.output, flag.Text, flag.YAML, flag.JSON)
	return command
}

// showStatus reads the cluster and prints its live faults.
func showStatus(ctx context.Context, env process.Env, flags statusFlags) error {
	show := map[flag.Format]func(io.Writer, liveruns.Listing) error{flag.Text: liveruns.WriteText, flag.YAML: output.YAML[liveruns.Listing], flag.JSON: output.JSON[liveruns.Listing]}[flags.output]
	lister, cluster, err := flags.kubernetes.Lister()
	if err != nil {
		return err
	}
	listing, err := lister.List(ctx)
	if err != nil {
		return exit.Failed(ctx, err)
	}
	liveruns.WriteUnread(env.Stderr, listing)
	if listing.Hold, err = cluster.Hold(ctx, []string{cmp.Or(lister.Namespace, lister.Fallback)}); err != nil {
		output.Line(env.Stderr, "squall: it is not known whether runs are held: %v", err)
	}
	if err := show(env.Stdout, listing); err != nil {
		return exit.Failed(ctx, err)
	}
	return nil
}
