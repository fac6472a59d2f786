package runner

import (
	"context"
	"slices"
	"time"

	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner/event"
)

// The pauses between attempts to delete an object.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// rolledBack is how a rollback went.
type rolledBack struct {
	began   time.Time
	took    time.Duration
	objects []mesh.Ref // those that are left
}

// rollback deletes what was created, newest first: the VirtualServices, then
// what they diverted requests to, then the Jobs that own both. It outlives the
// run's context, is bounded by a deadline of its own, and goes on past errors.
func (s *session) rollback(ctx context.Context, changes []mesh.Ref, ended *ending) rolledBack {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Timing.Rollback)
	defer cancel()
	phase := event.Phase{Name: event.PhaseRollback}
	if ended != nil {
		phase.Reason = ended.reason
	}
	done := rolledBack{began: time.Now()}
	left := slices.Clone(changes)
	slices.Reverse(left)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		remaining := deleteAll(ctx, s.Mesh, s.run.ID, left, s.Timing.Settle)
		if done.took == 0 {
			// Recorded only now: nothing may stand between a deviation and
			// the removal of the fault.
			s.record.add(phase)
		}
		done.took = time.Since(done.began)
		for _, ref := range left {
			if !slices.Contains(refsOf(remaining), ref) {
				s.record.add(event.Deleted{Object: ref})
			}
		}
		left = refsOf(remaining)
		if len(left) == 0 {
			return done
		}
		for _, failed := range remaining {
			s.record.add(event.Deleted(failed))
		}
		if !sleep.For(ctx, pause) {
			done.objects = left
			return done
		}
	}
}

func refsOf(deletions []Deletion) []mesh.Ref {
	refs := make([]mesh.Ref, len(deletions))
	for i, d := range deletions {
		refs[i] = d.Object
	}
	return refs
}
