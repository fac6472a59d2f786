package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/internal/app/liveruns"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner"
)

// rollbackFlags are the flags of squall rollback.
type rollbackFlags struct {
	kubernetes kubeconfig
	all        bool
	expired    bool
	dryRun     bool
	timeout    time.Duration
}

func newRollbackCommand(env Env) *cobra.Command {
	flags := rollbackFlags{}
	command := &cobra.Command{
		Use:   "rollback [RUN...]",
		Short: "Remove live faults now, whoever started them",
		Long: `Rollback is the kill switch. It removes everything that runs of Squall have
created in the cluster, from what the cluster knows: it needs no journal, works
from any machine and for anybody's run, and may be repeated. It touches no object
that Squall has not made. 'squall status' lists the runs.

Exit codes: 0 nothing of the runs is left, 2 bad usage, 3 the cluster could not be
read or a RUN is not live, 5 something is left.`,
		Example: `  squall rollback --all
  squall rollback 20261122-193148-ratings-outage-1ffc37
  squall rollback --all -n shop --dry-run
  squall rollback --expired`,
		RunE: func(cmd *cobra.Command, runs []string) error { return rollBack(cmd.Context(), env, flags, runs) },
	}
	flags.kubernetes.addWithNamespace(command.Flags(), "remove faults in this namespace only")
	f := command.Flags()
	f.BoolVar(&flags.all, "all", false, "every run")
	f.BoolVar(&flags.expired, "expired", false, "only runs whose deadline has passed")
	f.BoolVar(&flags.dryRun, "dry-run", false, "print what would be removed, and remove nothing")
	f.DurationVar(&flags.timeout, "timeout", runner.DefaultTiming().Rollback, "how long to go on trying")
	return command
}

// check refuses flags that leave open what is meant.
func (f rollbackFlags) check(runs []string) error {
	switch {
	case len(runs) > 0 && f.all:
		return hint.With(errors.New("either --all or the names of runs, not both"), "leave one of them out")
	case len(runs) == 0 && !f.all && !f.expired:
		return hint.With(errors.New("no run is named"), "squall rollback RUN..., or squall rollback --all; squall status lists the runs")
	case f.timeout <= 0:
		return hint.With(fmt.Errorf("--timeout %s leaves no time", f.timeout), "such as --timeout 30s")
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
	printUnread(env.Stderr, listing)
	code := exitHeld
	meant := flags.choose(listing.Runs, names)
	switch unknown := notLive(listing.Runs, names); {
	case len(unknown) > 0:
		printError(env.Stderr, notLiveError(listing, unknown))
		code = exitInconclusive
	case len(meant) == 0 && flags.expired:
		fmt.Fprintln(env.Stdout, noneInWords(expiredFaults, listing))
	case len(meant) == 0:
		fmt.Fprintln(env.Stdout, noneInWords(liveFaults, listing))
	}
	if flags.dryRun {
		printRemovals(env, meant)
		return exit(code)
	}
	return exit(worstCode(code, remove(bounded, env, lister, cluster, meant), doubt(env, listing)))
}

// doubt says that something may be left where the user may not look.
func doubt(env Env, listing liveruns.Listing) (code int) {
	if len(listing.Unread) == 0 {
		return exitHeld
	}
	printError(env.Stderr, hint.With(errors.New("whether anything is left there is not known"), "-n NAMESPACE asks about one namespace; what has no runner expires by itself"))
	return exitLeft
}

// choose gives the runs that are meant.
func (f rollbackFlags) choose(runs []mesh.ActiveRun, names []string) (meant []mesh.ActiveRun) {
	for _, run := range runs {
		if (len(names) == 0 || slices.Contains(names, run.ID)) && (run.Expired || !f.expired) {
			meant = append(meant, run)
		}
	}
	return meant
}

func notLive(runs []mesh.ActiveRun, names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.ContainsFunc(runs, func(run mesh.ActiveRun) bool { return run.ID == name })
	})
}

func notLiveError(listing liveruns.Listing, unknown []string) error {
	next := noneInWords(liveFaults, listing)
	if len(listing.Runs) > 0 {
		var ids []string
		for _, run := range listing.Runs {
			ids = append(ids, run.ID)
		}
		next = "live are: " + strings.Join(ids, ", ")
	}
	return hint.With(fmt.Errorf("not live: %s", strings.Join(unknown, ", ")), next)
}

func printRemovals(env Env, runs []mesh.ActiveRun) {
	for _, run := range runs {
		for _, ref := range run.Objects {
			printLine(env.Stdout, "%s: would remove %s", run.ID, ref)
		}
	}
}

// remove pulls the kill switch and says what has become of every object.
func remove(ctx context.Context, env Env, lister liveruns.Lister, cluster *kube.Cluster, runs []mesh.ActiveRun) (code int) {
	if len(runs) == 0 {
		return exitHeld
	}
	said := map[runner.Deletion]bool{}
	named := map[mesh.Ref]bool{} // of which it was said that they are left
	killSwitch := runner.KillSwitch{
		Cluster: cluster,
		Owner:   owner(env),
		Settle:  runner.DefaultTiming().Settle,
		List: func(ctx context.Context) ([]mesh.ActiveRun, error) {
			listing, err := lister.List(ctx)
			return listing.Runs, err
		},
		Report: func(run string, done runner.Deletion) {
			switch {
			case said[done]:
			case done.Error == "":
				printLine(env.Stdout, "%s: %s is gone", run, done.Object)
			case ctx.Err() != nil && named[done.Object]: // an attempt that the timeout has cut off
			default:
				named[done.Object] = true
				printLine(env.Stderr, "squall: %s: %s is left so far: %s", run, done.Object, done.Error)
			}
			said[done] = true
		},
	}
	left, err := killSwitch.Pull(ctx, runs)
	if err != nil {
		printError(env.Stderr, fmt.Errorf("whether anything is left could not be read: %w", err))
	}
	if len(left) == 0 {
		return exitHeld
	}
	var objects []mesh.Ref
	for _, run := range left {
		objects = append(objects, run.Objects...)
	}
	printLeft(env, objects)
	return exitLeft
}

// printLeft says how to remove what is left.
func printLeft(env Env, objects []mesh.Ref) {
	fmt.Fprintln(env.Stderr, "squall: something is left; to remove it by hand:")
	for _, ref := range objects {
		printLine(env.Stderr, "  %s", ref.Removal())
	}
}
