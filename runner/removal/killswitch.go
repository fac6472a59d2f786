package removal

import (
	"context"
	"slices"
	"sync"
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
	// Report is called with the result for each object. It is not called by two
	// goroutines at a time.
	Report func(run string, done Deletion)
}

// The limits of the kill switch.
const (
	// announceTimeout limits how long the rollback waits for annotations.
	announceTimeout = 2 * time.Second
	// runsAtOnce is how many runs are rolled back concurrently.
	runsAtOnce = 16
)

// Pull deletes every object of the runs, and lists again, until nothing of them is
// left or ctx is done. It goes on after errors. It returns the runs that are left. An
// error means that they could not be listed; then it returns those listed last.
func (k KillSwitch) Pull(ctx context.Context, runs []objects.ActiveRun) (left []objects.ActiveRun, err error) {
	ids := make([]string, len(runs))
	for i, run := range runs {
		ids[i] = run.ID
	}
	k.announce(ctx, runs)
	left = runs
	listed := false
	for wait := FirstPause; ; wait = min(2*wait, LongestPause) {
		k.deleteEach(ctx, left)
		// A run that was just starting may have created more objects, and a finalizer
		// may keep one that was deleted.
		all, failure := k.List(ctx)
		if failure == nil || ctx.Err() == nil || !listed { // an error because ctx is done says nothing new
			err = failure
		}
		if failure == nil {
			listed = true
			left = slices.DeleteFunc(all, func(run objects.ActiveRun) bool { return !slices.Contains(ids, run.ID) })
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
	group.SetLimit(runsAtOnce)
	for _, run := range runs {
		for _, job := range run.Heartbeats() {
			group.Go(func() error {
				return k.Cluster.Annotate(ctx, job, map[string]string{objects.StoppedByAnnotation: k.Owner})
			})
		}
	}
	_ = group.Wait() // see above
}

// deleteEach tries to delete every object of the runs once.
func (k KillSwitch) deleteEach(ctx context.Context, runs []objects.ActiveRun) {
	var group errgroup.Group
	group.SetLimit(runsAtOnce)
	var reporting sync.Mutex
	for _, run := range runs {
		group.Go(func() error {
			failed := Delete(ctx, k.Cluster, run.ID, run.Objects, k.Settle)
			reporting.Lock()
			defer reporting.Unlock()
			for _, ref := range run.Objects {
				done := Deletion{Object: ref}
				if i := slices.IndexFunc(failed, func(d Deletion) bool { return d.Object == ref }); i >= 0 {
					done = failed[i]
				}
				k.Report(run.ID, done)
			}
			return nil
		})
	}
	_ = group.Wait() // Report has the failures
}
