package runs

import (
	"context"
	"slices"
	"time"

	"github.com/squall-chaos/squall/mesh/objects"
)

// SweepTimeout bounds Sweep.
const SweepTimeout = 30 * time.Second

// Sweep removes the objects of all expired runs, of any process. Kubernetes does
// so by itself, except for runs without a heartbeat.
func (l *Live) Sweep(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, SweepTimeout)
	defer cancel()
	removed, err := l.sweep(bounded)
	if ctx.Err() != nil {
		return // this replica does not lead any more
	}
	if err != nil {
		l.config.Log.Error("cannot remove the objects of expired runs", "error", err)
	}
	l.config.Metrics.Swept(removed, err)
}

// sweep returns the number of objects that it has removed.
func (l *Live) sweep(ctx context.Context) (removed int, err error) {
	active, err := l.config.Cluster.ActiveRuns(ctx)
	if err != nil {
		return 0, err
	}
	expired := slices.DeleteFunc(active, func(run objects.ActiveRun) bool { return !run.Expired })
	for _, run := range expired {
		removed += len(run.Objects)
	}
	if removed == 0 {
		return 0, nil
	}
	if err := l.config.Cluster.Remove(ctx, expired, "squall serve, "+l.config.Identity+": expired"); err != nil {
		return 0, err
	}
	l.config.Log.Warn("removed expired runs", "runs", len(expired), "objects", removed)
	return removed, nil
}
