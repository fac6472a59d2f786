package runner

import (
	"context"
	"slices"
	"time"

	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
)

// Deleter deletes the objects of a run.
type Deleter interface {
	// Delete deletes an object of a run, and returns nil if it no longer exists. For a
	// reference without a UID it deletes the object of that name only if it belongs
	// to the run.
	Delete(ctx context.Context, object objects.Ref, run string) error
}

// The pauses between attempts to delete objects.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
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
}

// rollback deletes the objects that may exist, the newest first: VirtualServices,
// then the ServiceEntries that they route to, then the Jobs that own both. It
// continues after errors and when ctx is done, until a separate deadline. It returns
// how long the last attempt was after the first, and the objects that are left.
func (s *session) rollback(ctx context.Context, changes []objects.Ref, end *ending) (took time.Duration, left []objects.Ref) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Timing.Rollback)
	defer cancel()
	phase := event.Phase{Name: event.PhaseRollback}
	if end != nil {
		phase.Reason = end.Error()
	}
	began := time.Now()
	left = slices.Clone(changes)
	slices.Reverse(left)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		failed := deleteAll(ctx, s.config.Cluster, s.run.ID, left, s.config.Timing.Settle)
		if pause == firstPause {
			// The phase is recorded only now: nothing may delay the removal of the fault.
			s.record.Add(phase)
		}
		took = time.Since(began)
		remaining := refsOf(failed)
		for _, ref := range left {
			if !slices.Contains(remaining, ref) {
				s.record.Add(event.Deleted{Object: ref})
			}
		}
		for _, deletion := range failed {
			s.record.Add(event.Deleted(deletion))
		}
		left = remaining
		if len(left) == 0 || !sleep.For(ctx, pause) {
			return took, left
		}
	}
}

// Deletion is the result of an attempt to delete an object.
type Deletion struct {
	Object objects.Ref
	// Error is empty when the object is gone.
	Error string
}

func refsOf(deletions []Deletion) []objects.Ref {
	refs := make([]objects.Ref, len(deletions))
	for i, d := range deletions {
		refs[i] = d.Object
	}
	return refs
}

// deleteAll tries to delete each object once, in the given order: the
// VirtualServices of a run, its ServiceEntries, its Jobs. It returns the failures. It
// keeps the ServiceEntries while a VirtualService is left, and for settle afterwards:
// until then proxies may route to them.
func deleteAll(ctx context.Context, from Deleter, run string, all []objects.Ref, settle time.Duration) []Deletion {
	var failed []Deletion
	routed, settled := false, true
	for _, ref := range all {
		if ref.Kind == objects.KindServiceEntry && routed {
			failed = append(failed, Deletion{Object: ref, Error: "kept until the VirtualService is deleted"})
			continue
		}
		if ref.Kind == objects.KindServiceEntry && !settled {
			settled = true
			sleep.For(ctx, settle)
		}
		err := from.Delete(ctx, ref, run)
		if err != nil {
			failed = append(failed, Deletion{Object: ref, Error: err.Error()})
		}
		if ref.Kind == objects.KindVirtualService {
			routed, settled = routed || err != nil, false
		}
	}
	return failed
}
