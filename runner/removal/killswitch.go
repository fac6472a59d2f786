package removal

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/mesh/objects"
)

// KillSwitch ends runs from another process. It needs no journal: it reads what
// exists from the cluster.
type KillSwitch struct {
	Cluster interface {
		Deleter
		// Annotate adds annotations to an object.
		Annotate(ctx context.Context, object objects.Ref, annotations map[string]string) error
	}
	// List returns the runs of which any object is left.
	List func(ctx context.Context) ([]objects.ActiveRun, error)
	// Owner is who ends the runs.
	Owner string
	// Settle is the pause between a VirtualService and its ServiceEntries.
	Settle time.Duration
	// Whole extends the runs to what they have in other namespaces.
	Whole bool
	// Report is called with the result for each object. It is not called by two
	// goroutines at a time.
	Report func(run string, done Deletion)
}

// announceTimeout limits how long the rollback waits for annotations.
const announceTimeout = 2 * time.Second

// Pull deletes every object of the runs, and lists again, until nothing of them is
// left or ctx is done. It goes on after errors. It returns the runs that are left; if
// they cannot be listed, the last list and the error.
func (k KillSwitch) Pull(ctx context.Context, runs []objects.ActiveRun) (left []objects.ActiveRun, err error) {
	wanted := map[objects.Key]bool{}
	for _, run := range runs {
		wanted[k.key(run)] = true
	}
	k.announce(ctx, runs)
	left = runs
	listed := false
	for wait := FirstPause; ; wait = min(2*wait, LongestPause) {
		k.deleteOnce(ctx, left)
		// A run that was just starting may have created more objects, and a finalizer
		// may keep one that was deleted.
		all, failure := k.List(ctx)
		if failure == nil || ctx.Err() == nil || !listed { // keep the earlier error when ctx has ended
			err = failure
		}
		if failure == nil {
			listed = true
			left = slices.DeleteFunc(all, func(run objects.ActiveRun) bool { return !wanted[k.key(run)] })
			if len(left) == 0 {
				return nil, nil
			}
		}
		if !sleep.For(ctx, wait) {
			return left, err
		}
	}
}

// announce annotates the heartbeat Jobs with who ends the runs, so that a runner
// can report it. A failure does not matter.
func (k KillSwitch) announce(ctx context.Context, runs []objects.ActiveRun) {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, run := range runs {
		for _, job := range run.Heartbeats() {
			group.Go(func() error {
				return k.Cluster.Annotate(ctx, job, map[string]string{objects.StoppedByAnnotation: k.Owner})
			})
		}
	}
	_ = group.Wait() // see above
}

// key returns what a run is recognized by in later listings.
func (k KillSwitch) key(run objects.ActiveRun) objects.Key {
	if k.Whole {
		return objects.Key{Run: run.ID}
	}
	return run.Key()
}

// deleteOnce tries to delete every object of the runs once.
func (k KillSwitch) deleteOnce(ctx context.Context, runs []objects.ActiveRun) {
	var all []Item
	for _, run := range runs {
		all = append(all, Of(run.ID, run.Objects)...)
	}
	Delete(ctx, k.Cluster, all, k.Settle, func(item Item, done Deletion) { k.Report(item.Run, done) })
}
