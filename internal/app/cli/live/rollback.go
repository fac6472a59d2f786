package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/app/cli/output"
	"github.com/squall-chaos/squall/internal/app/cli/process"
	"github.com/squall-chaos/squall/internal/app/liveruns"
	"github.com/squall-chaos/squall/internal/app/session"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/removal"
)

// rollbackFlags are the flags of squall rollback.
type rollbackFlags struct {
	kubernetes flag.Cluster
	all        bool
	expired    bool
	dryRun     bool
	timeout    time.Duration
	hold       time.Duration
	release    bool
}

// defaultHold is how long no run starts after --all.
const defaultHold = 10 * time.Minute

// NewRollback returns the command squall rollback.
func NewRollback(env process.Env) *cobra.Command {
	flags := rollbackFlags{}
	command := &cobra.Command{
		Use:   "rollback [RUN...]",
		Short: "Remove the live faults of all users now",
		Long: `Rollback is the kill switch. It deletes all objects that runs of Squall have
created in the cluster. It needs no journal, works from any machine and for the
runs of all users, and can be repeated. It deletes only objects of Squall. 'squall
status' lists the runs.

With --all it first holds: for 10 minutes, or as long as --hold says, no run of any
user starts in the cluster, and 'squall serve' pauses its schedules until a user
resumes them. --release ends the hold early. With -n both apply to the runs that
disturb calls from the namespace, or create objects in it.

Exit codes: 0 no object of the runs is left, 2 bad usage, 3 the cluster could not
be read or a RUN is not live, 5 objects are left, or runs are not held.`,
		Example: `  squall rollback --all
  squall rollback 20261122-193148-ratings-outage-1ffc37
  squall rollback --all --hold 1h
  squall rollback --release
  squall rollback --all -n shop --dry-run
  squall rollback --expired`,
		RunE: func(cmd *cobra.Command, runs []string) error { return rollBack(cmd.Context(), env, flags, runs) },
	}
	flags.kubernetes.Add(command.Flags(), "only faults on the calls from this namespace, and objects in it (default all)")
	f := command.Flags()
	f.BoolVar(&flags.all, "all", false, "remove all runs")
	f.BoolVar(&flags.expired, "expired", false, "remove only runs that are over")
	f.DurationVar(&flags.hold, "hold", defaultHold, "with --all, how long no run starts (0 for no hold)")
	f.BoolVar(&flags.release, "release", false, "end the hold of an earlier --all, and remove nothing")
	f.BoolVar(&flags.dryRun, "dry-run", false, "print the objects instead of removing them")
	f.DurationVar(&flags.timeout, "timeout", runner.DefaultTiming().Rollback, "how long to retry")
	return command
}

// check rejects flags and arguments that do not say which runs to remove.
func (f rollbackFlags) check(runs []string) error {
	switch {
	case f.release && (len(runs) > 0 || f.all || f.expired || f.dryRun):
		return hint.With(errors.New("--release removes nothing"), "use it with -n or alone")
	case f.hold < 0:
		return hint.With(fmt.Errorf("--hold must not be negative, got %s", f.hold), "use --hold 0 for no hold")
	case f.release && f.timeout > 0:
		return nil
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
func rollBack(ctx context.Context, env process.Env, flags rollbackFlags, names []string) error {
	if err := flags.check(names); err != nil {
		return err
	}
	lister, cluster, err := flags.kubernetes.Lister()
	if err != nil {
		return err
	}
	holder := liveruns.Holder{Lister: lister, Holds: cluster, Owner: session.Owner(env.Getenv)}
	if flags.release {
		return release(ctx, env, holder, flags.timeout)
	}
	held := exit.Held
	if flags.all && !flags.expired && !flags.dryRun && flags.hold > 0 {
		held = hold(ctx, env, holder, flags.hold) // before the runs are listed, so that none is missed
	}
	listing, err := flags.list(ctx, env, lister)
	bounded, cancel := context.WithTimeout(ctx, flags.timeout)
	defer cancel()
	if err != nil {
		return exit.Failed(ctx, err)
	}
	liveruns.WriteUnread(env.Stderr, listing)
	code := exit.Held
	chosen, err := listing.Choose(names, flags.expired)
	switch {
	case err != nil:
		output.Error(env.Stderr, err)
		code = exit.Inconclusive
	case len(chosen) == 0 && flags.expired:
		fmt.Fprintln(env.Stdout, listing.None(liveruns.Expired))
	case len(chosen) == 0:
		fmt.Fprintln(env.Stdout, listing.None(liveruns.Live))
	}
	if flags.dryRun {
		printRemovals(env, chosen)
		return exit.With(code)
	}
	remover := liveruns.Remover{Lister: lister, Objects: cluster, Owner: session.Owner(env.Getenv), Whole: !flags.expired}
	return exit.With(exit.Worst(held, code, remove(bounded, env, remover, chosen), doubt(env, listing)))
}

// holdTimeout limits how long the hold delays the removal of the faults.
const holdTimeout = 5 * time.Second

// hold holds runs, and prints until when.
func hold(ctx context.Context, env process.Env, holder liveruns.Holder, length time.Duration) (code int) {
	ctx, cancel := context.WithTimeout(ctx, holdTimeout)
	defer cancel()
	holds, err := holder.Hold(ctx, length)
	for _, one := range holds {
		where := ""
		if one.Namespace != objects.HoldEverywhere {
			where = " of namespace " + one.Namespace
		}
		output.Line(env.Stdout, "no run%s starts until %s; release the hold: %s", where, one.Until.Format(time.RFC3339), one.Release())
	}
	if err != nil {
		output.Error(env.Stderr, err)
		return exit.Left
	}
	return exit.Held
}

// release ends holds, and prints which.
func release(ctx context.Context, env process.Env, holder liveruns.Holder, timeout time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	released, err := holder.Release(bounded)
	for _, namespace := range released {
		output.Line(env.Stdout, "the hold in namespace %s is ended", namespace)
	}
	switch {
	case err != nil:
		return exit.Failed(ctx, err)
	case len(released) == 0:
		fmt.Fprintln(env.Stdout, "no hold")
	}
	return nil
}

// list lists the runs that the flags are about.
func (f rollbackFlags) list(ctx context.Context, env process.Env, lister liveruns.Lister) (liveruns.Listing, error) {
	retrying := func(err error) { output.Line(env.Stderr, "squall: %v; trying again", err) }
	if !f.expired {
		bounded, cancel := context.WithTimeout(ctx, f.timeout)
		defer cancel()
		return lister.ListRetrying(bounded, retrying)
	}
	bounded, cancel := context.WithTimeout(ctx, f.timeout+runner.DefaultTiming().Silence())
	defer cancel()
	return lister.ListExpired(bounded, retrying, func(runs int, silence time.Duration) {
		output.Line(env.Stderr, "squall: runs with a heartbeat: %d; watching for %s whether it moves", runs, silence)
	})
}

// doubt reports that objects may be left where the user may not list them.
// Runs that have no fault yet are the subject of the hold.
func doubt(env process.Env, listing liveruns.Listing) (code int) {
	if !slices.ContainsFunc(listing.Unread, func(u objects.Unread) bool { return u.Kind != objects.UnreadRuns }) {
		return exit.Held
	}
	output.Error(env.Stderr, hint.With(errors.New("cannot tell whether objects are left where list is not permitted"), "the role squall-reader of deploy/rbac.yaml has the permission for faults; the faults of dead runs expire by themselves"))
	return exit.Left
}

func printRemovals(env process.Env, runs []objects.ActiveRun) {
	for _, run := range runs {
		for _, ref := range run.Objects {
			output.Line(env.Stdout, "%s: would remove %s", run.ID, ref)
		}
	}
}

// remove removes runs, and prints the result for each object.
func remove(ctx context.Context, env process.Env, remover liveruns.Remover, runs []objects.ActiveRun) (code int) {
	left, err := remover.Remove(ctx, runs, func(run string, done removal.Deletion) {
		if done.Error == "" {
			output.Line(env.Stdout, "%s: %s is gone", run, done.Object)
		} else {
			output.Line(env.Stderr, "squall: %s: %s is not deleted yet: %s", run, done.Object, done.Error)
		}
	})
	if err != nil {
		output.Error(env.Stderr, hint.With(fmt.Errorf("cannot tell whether objects are left: %w", err), "squall status lists the live faults"))
	}
	if len(left) == 0 {
		return exit.Held
	}
	output.Left(env.Stderr, left)
	return exit.Left
}
