package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/squall-chaos/squall/mesh"
)

// driftInterval is how often a run looks whether its objects, and those that
// they were derived from, are still what they were.
const driftInterval = time.Second

// watchDrift calls end when an object has changed or is gone, until ctx ends.
// A shadow of routes that have changed would bring the old ones back; an object
// of ours that somebody has deleted or edited is no fault of ours any more.
// Errors of the cluster are left to the heartbeat.
func (s *session) watchDrift(ctx context.Context, objects []mesh.Version, end context.CancelCauseFunc) {
	ticker := time.NewTicker(driftInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, object := range objects {
			attempt, cancel := context.WithTimeout(ctx, driftInterval)
			now, err := s.Mesh.Generation(attempt, object.Ref)
			cancel()
			reason := ""
			switch {
			case errors.Is(err, ErrGone):
				reason = fmt.Sprintf("%s was deleted while the fault was in force", object.Ref)
			case err == nil && now != object.Generation:
				reason = fmt.Sprintf("%s was changed while the fault was in force", object.Ref)
			default:
				continue
			}
			end(&ending{Stopped, reason, "start again when the change is done"})
			return
		}
	}
}
