package runner

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/runner/event"
)

// Rivals reads the faults of other runs.
type Rivals interface {
	// Earlier returns the VirtualServices of all runs, in all namespaces, that existed
	// when an object was created. The object is as the cluster has returned it.
	Earlier(ctx context.Context, created *unstructured.Unstructured) ([]*unstructured.Unstructured, error)
}

// yield returns an ending if another run had a fault on the same calls when this run
// created its VirtualService. The names of objects keep two runs apart only within a
// namespace. Of two runs that create theirs at the same time, exactly one sees the
// other, because the API server orders all writes.
func (s *session) yield(ctx context.Context, planned Planned, created *unstructured.Unstructured) *ending {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	all, err := s.config.Cluster.Earlier(ctx, created)
	if err != nil {
		return fail(ctx, event.StatusFailed, fmt.Errorf("it cannot be checked whether another run disturbs the same calls: %w", err))
	}
	others := slices.DeleteFunc(all, func(object *unstructured.Unstructured) bool {
		return object.GetLabels()[objects.RunLabel] == s.run.ID
	})
	snapshot := planned.Snapshot
	snapshot.VirtualServices = slices.Concat(slices.DeleteFunc(slices.Clone(snapshot.VirtualServices), func(object *unstructured.Unstructured) bool { return objects.IsOurs(object) }), others)
	if first, is := planned.again(snapshot).Refusal(); is && first.Cause == refusal.LiveRun {
		return refused(first.Reason, first.Hint)
	}
	return nil
}
