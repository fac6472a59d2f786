package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/app/liveruns"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
)

// rollbackFlags are the flags of squall rollback.
type rollbackFlags struct {
	kubernetes flag.Cluster
	all        bool
	expired    bool
	dryRun     bool
	timeout    time.Duration
}

func newRollbackCommand(env Env) *cobra.Command {
	flags := rollbackFlags{}
	command := &cobra.Command{
		Use:   "rollback [RUN...]",
		Short: "Remove the live faults of all users now",
		Long: `Rollback is the kill switch. It deletes all objects that runs of Squall have
created in the cluster. It needs no journal, works from any machine and for the
runs of all users, and can be repeated. It deletes only objects of Squall. 'squall
status' lists the runs.

Exit codes: 0 no object of the runs is left, 2 bad usage, 3 the cluster could not
be read or a RUN is not live, 5 objects are left.`,
		Example: `  squall rollback --all
  squall rollback 20261122-193148-ratings-outage-1ffc37
  squall rollback --all -n shop --dry-run
  squall rollback --expired`,
		RunE: func(cmd *cobra.Command, runs []string) error { return rollBack(cmd.Context(), env, flags, runs) },
	}
	flags.kubernetes.Add(command.Flags(), "only namespace to remove faults in (default all)")
	f := command.Flags()
	f.BoolVar(&flags.all, "all", false, "remove all runs")
	f.BoolVar(&flags.expired, "expired", false, "remove only runs whose deadline has passed")
	f.BoolVar(&flags.dryRun, "dry-run", false, "print the objects instead of removing them")
	f.DurationVar(&flags.timeout, "timeout", runner.DefaultTiming().Rollback, "how long to retry")
	return command
}

// check rejects flags and arguments that do not say which runs to remove.
func (f rollbackFlags) check(runs []string) error {
	switch {
	case len(runs) > 0 && f.all:
		return hint.With(errors.New("--all and names of runs exclude each other"), "leave out one of them")
	case len(runs) == 0 && !f.all && !f.expired:
		return hint.With(errors.New("no run is named"), "use squall rollback RUN... or squall rollback --all; squall status lists the runs")
	case f.timeout <= 0:
		return hint.With(fmt.Errorf("--timeout must be positive, got %s", f.timeout), "use --timeout 30s, for example")
	default:
		return nil
	}
}

// rollBack removes runs.
func rollBack(ctx context.Context, env Env, flags rollbackFlags, names []string) error {
	if err := flags.check(names); err != nil {
		return err
	}
	lister, cluster, err := newLister(&flags.kubernetes)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, flags.timeout)
	defer cancel()
	listing, err := lister.ListRetrying(bounded, func(err error) { printLine(env.Stderr, "squall: %v; trying again", err) })
	if err != nil {
		return failed(ctx, err)
	}
	liveruns.WriteUnread(env.Stderr, listing)
	code := exitHeld
	meant := flags.choose(listing.Runs, names)
	switch unknown := notLive(listing.Runs, names); {
	case len(unknown) > 0:
		printError(env.Stderr, notLiveError(listing, unknown))
		code = exitInconclusive
	case len(meant) == 0 && flags.expired:
		fmt.Fprintln(env.Stdout, listing.None(liveruns.Expired))
	case len(meant) == 0:
		fmt.Fprintln(env.Stdout, listing.None(liveruns.Live))
	}
	if flags.dryRun {
		printRemovals(env, meant)
		return exit(code)
	}
	return exit(worstCode(code, remove(bounded, env, lister, cluster, meant), doubt(env, listing)))
}

// doubt reports that objects may be left where the user may not list them.
func doubt(env Env, listing liveruns.Listing) (code int) {
	if len(listing.Unread) == 0 {
		return exitHeld
	}
	printError(env.Stderr, hint.With(errors.New("cannot tell whether objects are left where list is not permitted"), "use -n NAMESPACE for one namespace; the faults of dead runs expire by themselves"))
	return exitLeft
}

// choose returns the runs to remove.
func (f rollbackFlags) choose(runs []objects.ActiveRun, names []string) (meant []objects.ActiveRun) {
	for _, run := range runs {
		if (len(names) == 0 || slices.Contains(names, run.ID)) && (run.Expired || !f.expired) {
			meant = append(meant, run)
		}
	}
	return meant
}

func notLive(runs []objects.ActiveRun, names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.ContainsFunc(runs, func(run objects.ActiveRun) bool { return run.ID == name })
	})
}

func notLiveError(listing liveruns.Listing, unknown []string) error {
	next := listing.None(liveruns.Live)
	if len(listing.Runs) > 0 {
		var ids []string
		for _, run := range listing.Runs {
			ids = append(ids, run.ID)
		}
		next = "live runs: " + strings.Join(ids, ", ")
	}
	return hint.With(fmt.Errorf("not live: %s", strings.Join(unknown, ", ")), next)
}

func printRemovals(env Env, runs []objects.ActiveRun) {
	for _, run := range runs {
		for _, ref := range run.Objects {
			printLine(env.Stdout, "%s: would remove %s", run.ID, ref)
		}
	}
}

// remove deletes the objects of runs, and prints the result for each object.
func remove(ctx context.Context, env Env, lister liveruns.Lister, cluster *kube.Cluster, runs []objects.ActiveRun) (code int) {
	if len(runs) == 0 {
		return exitHeld
	}
	reported := map[runner.Deletion]bool{}
	named := map[objects.Ref]bool{} // reported as not deleted
	killSwitch := runner.KillSwitch{
		Cluster: cluster,
		Owner:   owner(env),
		Settle:  runner.DefaultTiming().Settle,
		List: func(ctx context.Context) ([]objects.ActiveRun, error) {
			listing, err := lister.List(ctx)
			return listing.Runs, err
		},
		Report: func(run string, done runner.Deletion) {
			switch {
			case reported[done]:
			case done.Error == "":
				printLine(env.Stdout, "%s: %s is gone", run, done.Object)
			case ctx.Err() != nil && named[done.Object]: // the timeout has ended the attempt
			default:
				named[done.Object] = true
				printLine(env.Stderr, "squall: %s: %s is not deleted yet: %s", run, done.Object, done.Error)
			}
			reported[done] = true
		},
	}
	left, err := killSwitch.Pull(ctx, runs)
	if err != nil {
		printError(env.Stderr, hint.With(fmt.Errorf("cannot tell whether objects are left: %w", err), "squall status lists the live faults"))
	}
	if len(left) == 0 {
		return exitHeld
	}
	var objects []objects.Ref
	for _, run := range left {
		objects = append(objects, run.Objects...)
	}
	printLeft(env, objects)
	return exitLeft
}

// printLeft prints the commands that delete what is left.
func printLeft(env Env, objects []objects.Ref) {
	fmt.Fprintln(env.Stderr, "squall: objects are left; delete them with:")
	for _, ref := range objects {
		printLine(env.Stderr, "  %s", ref.Removal())
	}
}
