package preview

import (
	"context"

	"github.com/squall-chaos/squall/istio/config"
)

// Permissions checks permissions.
type Permissions interface {
	// Permitted returns an error if the user may not do in a namespace what a run does
	// that creates objects of these kinds.
	Permitted(ctx context.Context, namespace string, kinds []string) error
}

// Mesh is a runner.Mesh that always has the same state: all experiments are planned for
// one state.
type Mesh struct {
	State config.Snapshot
	// Cluster is nil for a mesh from files, where everything is permitted.
	Cluster Permissions
}

// Snapshot implements runner.Mesh.
func (m Mesh) Snapshot(context.Context) (config.Snapshot, error) { return m.State, nil }

// Permitted implements runner.Mesh.
func (m Mesh) Permitted(ctx context.Context, namespace string, kinds []string) error {
	if m.Cluster == nil {
		return nil
	}
	return m.Cluster.Permitted(ctx, namespace, kinds)
}
