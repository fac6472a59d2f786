package runner

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/mesh"
)

// Deleter is a cluster as a rollback needs it.
type Deleter interface {
	// Delete deletes an object of a run; it is nil when the object is gone
	// already.
	Delete(ctx context.Context, object mesh.Ref, run string) error
}

// Deletion is the result of an attempt to delete an object.
type Deletion struct {
	Object mesh.Ref
	// Error is empty when the object is gone.
	Error string
}

// deleteAll tries to delete each object once, in the order given: a run's
// VirtualServices, its helpers, its Jobs. It gives the failures. A helper stays
// while a VirtualService is left, and until the proxies have heard, which takes
// them settle, that none is.
func deleteAll(ctx context.Context, from Deleter, run string, objects []mesh.Ref, settle time.Duration) []Deletion {
	var failed []Deletion
	routed, heard := false, true
	for _, ref := range objects {
		if isHelper(ref) && routed {
			failed = append(failed, Deletion{Object: ref, Error: "stays as long as the VirtualService"})
			continue
		}
		if isHelper(ref) && !heard {
			heard = true
			sleep.For(ctx, settle)
		}
		err := from.Delete(ctx, ref, run)
		if err != nil {
			failed = append(failed, Deletion{Object: ref, Error: err.Error()})
		}
		if ref.Kind == "VirtualService" {
			routed, heard = routed || err != nil, false
		}
	}
	return failed
}

// isHelper reports whether an object is what a blackhole diverts requests to.
func isHelper(ref mesh.Ref) bool { return ref.Kind == "ServiceEntry" }

// KillSwitch ends runs from outside: it needs nothing but what the cluster's
// objects say.
type KillSwitch struct {
	Cluster interface {
		Deleter
		// Annotate adds annotations to an object.
		Annotate(ctx context.Context, object mesh.Ref, annotations map[string]string) error
	}
	// Look gives the runs of which anything is left.
	Look func(ctx context.Context) ([]mesh.ActiveRun, error)
	// Owner is who pulls it.
	Owner string
	// Settle is as in Timing.
	Settle time.Duration
	// Report is told what has become of an object. It is not called by two
	// goroutines at a time.
	Report func(run string, done Deletion)
}

// The kill switch's own bounds.
const (
	// announceTimeout bounds how long it tells the runs that it has been
	// pulled: the rollback must not wait for that.
	announceTimeout = 2 * time.Second
	// runsAtOnce is how many runs are rolled back at the same time.
	runsAtOnce = 16
)

// Pull deletes every object of runs, and looks again until nothing of them is
// left or ctx ends. It goes on past errors. The error says that nobody can tell
// what is left; the runs are then those that were known last.
func (k KillSwitch) Pull(ctx context.Context, runs []mesh.ActiveRun) (left []mesh.ActiveRun, err error) {
	ids := make([]string, len(runs))
	for i, run := range runs {
		ids[i] = run.ID
	}
	k.announce(ctx, runs)
	left = runs
	looked := false
	for wait := firstPause; ; wait = min(2*wait, longestPause) {
		k.deleteEach(ctx, left)
		// A run that was just starting may have made more, and a finalizer of
		// somebody else may keep what was deleted.
		all, failure := k.Look(ctx)
		if failure == nil || ctx.Err() == nil || !looked { // a look that ctx has cut off tells nothing new
			err = failure
		}
		if failure == nil {
			looked = true
			left = slices.DeleteFunc(all, func(run mesh.ActiveRun) bool { return !slices.Contains(ids, run.ID) })
			if len(left) == 0 {
				return nil, nil
			}
		}
		if !sleep.For(ctx, wait) {
			return left, err
		}
	}
}

// announce writes on the heartbeats who ends their runs, so that a runner that
// lives can say so. It is a courtesy: a failure does not matter.
func (k KillSwitch) announce(ctx context.Context, runs []mesh.ActiveRun) {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(runsAtOnce)
	for _, run := range runs {
		for _, job := range run.Heartbeats() {
			group.Go(func() error {
				return k.Cluster.Annotate(ctx, job, map[string]string{mesh.StoppedByAnnotation: k.Owner})
			})
		}
	}
	_ = group.Wait() // see above
}

// deleteEach tries to delete every object of the runs once.
func (k KillSwitch) deleteEach(ctx context.Context, runs []mesh.ActiveRun) {
	var group errgroup.Group
	group.SetLimit(runsAtOnce)
	var reporting sync.Mutex
	for _, run := range runs {
		group.Go(func() error {
			failed := deleteAll(ctx, k.Cluster, run.ID, run.Objects, k.Settle)
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
	_ = group.Wait() // Report is told of failures
}
