package runner

import (
	"context"
	"slices"
	"time"

	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/heartbeat"
	"github.com/squall-chaos/squall/runner/removal"
)

// remove rolls the injection back, and adds to the result how that went.
func (s *session) remove(ctx context.Context, in *injection, end *ending) {
	began := time.Now()
	took, left := s.rollback(ctx, in.changes, end)
	s.removed = time.Now()
	if !in.since.IsZero() {
		s.result.Injected.Duration = began.Sub(in.since).Round(time.Millisecond)
	}
	s.result.Rollback.Duration = took.Round(time.Millisecond)
	s.result.Left = left
	if len(left) > 0 {
		// Without the Jobs the cluster deletes what they own.
		s.lowerGuard(ctx)
	}
}

// rollback deletes the objects of the plan that may exist, the newest first:
// VirtualServices, then the ServiceEntries that they route to.
func (s *session) rollback(ctx context.Context, changes []objects.Ref, end *ending) (took time.Duration, left []objects.Left) {
	phase := event.Phase{Name: event.PhaseRollback}
	if end != nil {
		phase.Reason = end.Error()
	}
	s.guard.beats.Enter(heartbeat.Phase{Name: event.PhaseRollback, Fault: heartbeat.Ending, Rest: s.config.Timing.Rollback})
	return s.delete(ctx, changes, func() { s.record.Add(phase) })
}

// delete deletes objects, the newest first. It continues after errors and when ctx is
// done, until a separate deadline. It calls tried after the first attempt: nothing may
// delay the removal of the fault. It returns how long the last attempt was after the
// first, and the objects that are left.
func (s *session) delete(ctx context.Context, changes []objects.Ref, tried func()) (took time.Duration, left []objects.Left) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Timing.Rollback)
	defer cancel()
	began := time.Now()
	remaining := slices.Clone(changes)
	slices.Reverse(remaining)
	for pause := removal.FirstPause; ; pause = min(2*pause, removal.LongestPause) {
		failed := removal.Delete(ctx, s.config.Cluster, removal.Of(s.run.ID, remaining), s.config.Timing.Settle, func(removal.Item, removal.Deletion) {})
		if pause == removal.FirstPause {
			tried()
		}
		took = time.Since(began)
		for _, ref := range remaining {
			if !slices.ContainsFunc(failed, func(d removal.Deletion) bool { return d.Object == ref }) {
				s.record.Add(event.Deleted{Object: ref})
			}
		}
		remaining, left = nil, nil
		for _, deletion := range failed {
			s.record.Add(event.Deleted(deletion))
			remaining, left = append(remaining, deletion.Object), append(left, deletion.Left())
		}
		if len(left) == 0 || !sleep.For(ctx, pause) {
			return took, left
		}
	}
}
