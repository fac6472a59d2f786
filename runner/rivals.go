package runner

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/runner/event"
)

// Rivals reads the faults of other runs.
type Rivals interface {
	// Earlier returns the VirtualServices of all runs, in all namespaces, that existed
	// when an object was created, and for which wanted returns true. The object is as the
	// cluster has returned it. For an object that was not created, they are those that
	// exist now.
	Earlier(ctx context.Context, object *unstructured.Unstructured, wanted func(*unstructured.Unstructured) bool) ([]*unstructured.Unstructured, error)
}

// yield returns an ending if another run had a fault on the same calls when this run
// created its VirtualService. The names of objects keep two runs apart only within a
// namespace. Of two runs that create theirs at the same time, exactly one sees the
// other, because the API server orders all writes.
func (s *session) yield(ctx context.Context, planned Planned, created *unstructured.Unstructured) *ending {
	rival, is, err := s.rival(ctx, planned, created)
	switch {
	case err != nil:
		return fail(ctx, event.StatusFailed, err)
	case is:
		return refused(rival.Reason, rival.Hint)
	default:
		return nil
	}
}

// rival returns the refusal because of another run that disturbs the same calls, if there
// is one. The object is as in Rivals.
func (s *session) rival(ctx context.Context, planned Planned, object *unstructured.Unstructured) (d mesh.Decision, is bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	snapshot := planned.Snapshot
	others, err := s.config.Cluster.Earlier(ctx, object, func(object *unstructured.Unstructured) bool {
		alone := snapshot
		alone.VirtualServices = []*unstructured.Unstructured{object}
		return object.GetLabels()[objects.RunLabel] != s.run.ID && len(mesh.Narrow(alone, planned.Experiment.Spec).VirtualServices) > 0
	})
	if err != nil {
		return d, false, fmt.Errorf("it cannot be checked whether another run disturbs the same calls: %w", err)
	}
	snapshot.VirtualServices = slices.Concat(slices.DeleteFunc(slices.Clone(snapshot.VirtualServices), func(object *unstructured.Unstructured) bool { return objects.IsOurs(object) }), others)
	d, is = planned.again(snapshot).Refusal()
	return d, is && d.Cause == refusal.LiveRun, nil
}
