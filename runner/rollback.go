package runner

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/heartbeat"
	"github.com/squall-chaos/squall/runner/keep"
	"github.com/squall-chaos/squall/runner/removal"
)

// rollback is the part of a session that removes the fault, whatever has happened.
type rollback struct{ *session }

// undo rolls the injection back, and adds to the result how that went. It returns
// an error if the fault may have ended before.
func (s rollback) undo(ctx context.Context, in *injection, end *ending) error {
	began := time.Now()
	done := s.remove(ctx, in.changes, end)
	s.result.Rollback.Duration = done.took.Round(time.Millisecond)
	s.result.Left = done.left
	s.rolledBack = !slices.ContainsFunc(done.left, func(left objects.Left) bool { return isVirtualService(left.Ref) && !left.Withdrawn })
	err := s.measureFault(in, began, done)
	if len(done.left) > 0 {
		// Without the Jobs the cluster deletes what they own.
		s.lowerGuard(ctx)
	}
	return err
}

// measureFault adds to the result for how long the fault was active until a rollback
// that began at a time. It returns an error if the fault may have ended before.
func (s rollback) measureFault(in *injection, began time.Time, done rolledBack) error {
	if !done.existed && !slices.ContainsFunc(in.owned, (*keep.Object).IsVirtualService) {
		return nil
	}
	s.removed = done.gone
	known := began
	if done.missed.Name != "" {
		known = s.guard.beats.Answered()
	}
	if !in.since.IsZero() {
		s.result.Injected.Duration = max(0, known.Sub(in.since)).Round(time.Millisecond)
	}
	if longest := done.gone.Sub(in.begun); longest-s.result.Injected.Duration >= boundsFrom {
		s.result.InjectedMost.Duration = longest.Round(time.Millisecond)
	}
	if done.missed.Name != "" {
		since := done.gone.Sub(slices.MaxFunc([]time.Time{known, in.begun}, time.Time.Compare))
		return fmt.Errorf("%s was gone before the run deleted it, so the fault may have ended up to %s earlier", done.missed, since.Round(time.Second))
	}
	return nil
}

// boundsFrom is the difference from which the time of the fault has two bounds: it is
// not known to a second.
const boundsFrom = time.Second

func isVirtualService(ref objects.Ref) bool { return ref.Kind == objects.KindVirtualService }

// remove deletes the objects of the plan that may exist, the newest first:
// VirtualServices, then the ServiceEntries that they route to.
func (s rollback) remove(ctx context.Context, changes []objects.Ref, end *ending) rolledBack {
	phase := event.Phase{Name: event.PhaseRollback}
	if end != nil {
		phase.Reason = end.Error()
	}
	s.guard.beats.Enter(heartbeat.Phase{Name: event.PhaseRollback, Fault: heartbeat.Ending, Rest: s.config.Timing.Rollback})
	began := time.Now()
	return s.delete(ctx, changes, func() { s.record.AddAt(began, phase) })
}

// rolledBack is the result of a rollback.
type rolledBack struct {
	// took is how long the last attempt was after the first.
	took time.Duration
	// left are the objects that could not be deleted.
	left []objects.Left
	// gone is when the last VirtualService was deleted, or the last attempt if one is
	// left. missed is one that was gone already. existed reports that there may have
	// been one.
	gone    time.Time
	missed  objects.Ref
	existed bool
}

// delete deletes objects, the newest first. It continues after errors and when ctx is
// done, until a separate deadline. It calls tried after the first attempt: nothing may
// delay the removal of the fault.
func (s *session) delete(ctx context.Context, changes []objects.Ref, tried func()) rolledBack {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Timing.Rollback)
	defer cancel()
	began := time.Now()
	remaining := slices.Clone(changes)
	slices.Reverse(remaining)
	done := rolledBack{gone: began}
	for pause := removal.FirstPause; ; pause = min(2*pause, removal.LongestPause) {
		var results []removal.Deletion
		removal.Delete(ctx, s.config.Cluster, removal.Of(s.run.ID, remaining), s.config.Timing.Settle, func(_ removal.Item, result removal.Deletion) {
			results = append(results, result)
		})
		if pause == removal.FirstPause {
			tried()
		}
		done.took = time.Since(began)
		remaining, done.left = nil, nil
		for _, result := range results {
			s.record.AddAt(result.At, event.Deleted{Object: result.Object, Error: result.Error, Finalizers: result.Finalizers, Withdrawn: result.Withdrawn})
			if done.add(result, pause == removal.FirstPause); result.Error != "" {
				remaining = append(remaining, result.Object)
			}
		}
		if len(done.left) == 0 || !sleep.For(ctx, pause) {
			return done
		}
	}
}

// add adds the result for an object. If an object is missing after an attempt without
// an answer, that attempt has deleted it.
func (r *rolledBack) add(result removal.Deletion, first bool) {
	if result.Error != "" {
		r.left = append(r.left, result.Left())
	}
	if !isVirtualService(result.Object) {
		return
	}
	if result.At.After(r.gone) {
		r.gone = result.At
	}
	r.existed = r.existed || !result.Missed
	if result.Missed && first {
		r.missed = result.Object
	}
}
