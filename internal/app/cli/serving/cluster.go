package serving

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/squall-chaos/squall/internal/app/liveruns"
	"github.com/squall-chaos/squall/internal/app/serve/runs"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/removal"
)

// servedCluster is the cluster of a squall serve.
type servedCluster struct {
	lister   liveruns.Lister
	cluster  *kube.Cluster
	identity string
	log      *slog.Logger
}

var _ runs.Cluster = servedCluster{}

// ActiveRuns implements runs.Cluster.
func (c servedCluster) ActiveRuns(ctx context.Context) ([]objects.ActiveRun, error) {
	seen, err := c.lister.List(ctx)
	return seen.Runs, err
}

// removeTimeout limits a removal.
const removeTimeout = 30 * time.Second

// Remove implements runs.Cluster.
func (c servedCluster) Remove(ctx context.Context, active []objects.ActiveRun, owner string) error {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	remover := liveruns.Remover{Lister: c.lister, Objects: c.cluster, Owner: owner}
	left, err := remover.Remove(ctx, active, func(run string, done removal.Deletion) {
		if done.Error != "" {
			c.log.Warn("cannot delete an object yet", "run", run, "object", done.Object.String(), "error", done.Error)
		}
	})
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d objects are left", len(left))
	}
	return err
}

// Emit writes a Kubernetes Event.
func (c servedCluster) Emit(ctx context.Context, event runs.Event) error {
	return c.cluster.Emit(ctx, kube.Event{
		About: event.About, Warning: event.Warning, Reason: event.Reason, Message: event.Message, Reporter: c.identity,
	})
}
