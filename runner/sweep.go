package runner

import (
	"context"
	"slices"
	"time"

	"github.com/squall-chaos/squall/internal/clock"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
)

// sweep deletes the objects of runs that have expired, and reports whether it has
// deleted any. Kubernetes does so itself, unless a run has no heartbeat.
func (s *session) sweep(ctx context.Context) bool {
	snapshot, err := s.Mesh.Snapshot(ctx)
	if err != nil {
		return false
	}
	owned := objects.Owned{Objects: slices.Concat(snapshot.VirtualServices, snapshot.ServiceEntries)}
	swept := false
	for _, run := range objects.ActiveRuns(owned, time.Now().Add(-clock.Skew)) {
		if !run.Expired {
			continue
		}
		for _, ref := range run.Objects {
			deletion := event.Deleted{Object: ref}
			s.record.add(event.Deleting{Ref: ref})
			if s.record.sync(ctx) != nil {
				return swept // the preflight reports why
			}
			if err := s.Mesh.Delete(ctx, ref, run.ID); err != nil {
				deletion.Error = err.Error()
			}
			swept = swept || deletion.Error == ""
			s.record.add(deletion)
		}
	}
	return swept
}
