package runner

import (
	"context"
	"time"

	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner/event"
)

// sweep deletes what runs have left whose time is over, and reports whether
// there was anything. Kubernetes does so by itself, unless a run went without a
// heartbeat.
func (s *session) sweep(ctx context.Context) bool {
	snapshot, err := s.Mesh.Snapshot(ctx)
	if err != nil {
		return false
	}
	swept := false
	for _, expired := range snapshot.Expired(time.Now()) {
		deletion := event.Deleted{Object: mesh.RefTo(expired)}
		s.record.add(event.Deleting{Ref: deletion.Object})
		if s.record.sync(ctx) != nil {
			return swept // the preflight says why
		}
		if err := s.Mesh.Delete(ctx, deletion.Object, expired.GetLabels()[mesh.RunLabel]); err != nil {
			deletion.Error = err.Error()
		}
		swept = swept || deletion.Error == ""
		s.record.add(deletion)
	}
	return swept
}
