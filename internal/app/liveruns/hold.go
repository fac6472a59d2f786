package liveruns

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/mesh/objects"
)

// Holds sets and ends holds on runs.
type Holds interface {
	// SetHold holds the runs of a namespace for a time from now.
	SetHold(ctx context.Context, namespace, by string, length time.Duration) (objects.Hold, error)
	// EndHold ends the hold in a namespace, and reports whether there was one.
	EndHold(ctx context.Context, namespace string) (ended bool, err error)
}

// Holder holds runs, and releases them.
type Holder struct {
	Lister Lister
	Holds  Holds
	// Owner is who holds the runs.
	Owner string
}

// Hold holds all runs of the cluster, or of the lister's only namespace, for a time
// from now. If the user may not hold all runs, it holds the runs of the namespaces that
// it knows: of live runs and the fallback. The error says which runs are not held.
func (h Holder) Hold(ctx context.Context, length time.Duration) (holds []objects.Hold, err error) {
	first := h.Lister.Namespace
	if first == "" {
		first = objects.HoldEverywhere
	}
	hold, err := h.Holds.SetHold(ctx, first, h.Owner, length)
	if err == nil {
		return []objects.Hold{hold}, nil
	}
	if h.Lister.Namespace != "" || !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
		return nil, hint.With(fmt.Errorf("runs are not held: %w", err), "the role squall-faults permits it in a namespace; --hold 0 does without")
	}
	for _, namespace := range h.known(ctx) {
		if hold, failure := h.Holds.SetHold(ctx, namespace, h.Owner, length); failure == nil {
			holds = append(holds, hold)
		}
	}
	return holds, hint.With(fmt.Errorf("runs of other namespaces are not held: %w", err), "the role squall-hold permits it; --hold 0 does without")
}

// known returns the namespaces of live runs and of their callers, and the fallback.
func (h Holder) known(ctx context.Context) []string {
	namespaces := map[string]bool{h.Lister.Fallback: true}
	listing, err := h.Lister.List(ctx)
	if err != nil {
		return []string{h.Lister.Fallback}
	}
	for _, run := range listing.Runs {
		for _, ref := range run.Objects {
			namespaces[ref.Namespace] = true
		}
		for _, fault := range run.Faults {
			if fault.Callers != "" {
				namespaces[fault.Callers] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(namespaces))
}

// Release ends the hold of the lister's only namespace, or without one the hold of the
// cluster and of the fallback. It returns the namespaces of the Leases that it has
// deleted.
func (h Holder) Release(ctx context.Context) (released []string, err error) {
	namespaces := []string{objects.HoldEverywhere, h.Lister.Fallback}
	if h.Lister.Namespace != "" {
		namespaces = []string{h.Lister.Namespace}
	}
	for _, namespace := range slices.Compact(namespaces) {
		ended, failure := h.Holds.EndHold(ctx, namespace)
		if ended {
			released = append(released, namespace)
		}
		if err == nil && failure != nil {
			err = failure
		}
	}
	if err != nil {
		err = hint.With(fmt.Errorf("the hold cannot be ended: %w", err), "use -n NAMESPACE for the hold of one namespace")
	}
	return released, err
}
