package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner/effect"
)

// DeniedError says what a run may not do in a namespace.
type DeniedError struct {
	Namespace string
	// Missing are the permissions, such as "create jobs.batch".
	Missing []string
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("not permitted in namespace %s: %s", e.Namespace, strings.Join(e.Missing, ", "))
}

// Planned is a plan, and what it was made from.
type Planned struct {
	mesh.Plan
	// Snapshot is the part of the mesh that the plan depends on.
	Snapshot mesh.Snapshot
	// Experiment names its callers, though the file may not.
	Experiment experiments.Experiment
	// Options hold the namespaces in which objects may not be made.
	Options mesh.Options
}

// Plan reads the mesh, finds the callers of an experiment that names none, and
// decides. A namespace in which the user may not do what a run does is left
// out, if there is another one that would do.
func (r Runner) Plan(ctx context.Context, e experiments.Experiment) (Planned, error) {
	snapshot, err := r.Mesh.Snapshot(ctx)
	if err != nil {
		return Planned{}, fmt.Errorf("the mesh configuration cannot be read: %w", err)
	}
	if hosts := mesh.Callerless(snapshot, e.Spec); len(hosts) > 0 {
		callers, err := effect.Callers(ctx, effect.QueryOf(r.Querier), hosts)
		if err != nil {
			return Planned{}, fmt.Errorf("the callers, which the experiment does not name, cannot be found: %w", err)
		}
		e.Spec = mesh.WithCallers(snapshot, e.Spec, callers)
	}
	planned := Planned{Snapshot: mesh.Narrow(snapshot, e.Spec), Experiment: e, Options: r.Options}
	planned.Options.Denied = maps.Clone(r.Options.Denied)
	asked := map[string]bool{}
	for {
		planned.Plan = mesh.Decide(planned.Snapshot, e, planned.Options)
		denied, err := r.denied(ctx, planned.Plan, asked)
		if err != nil {
			return planned, err
		}
		if len(denied) == 0 {
			return planned, nil
		}
		if planned.Options.Denied == nil {
			planned.Options.Denied = map[string]string{}
		}
		maps.Copy(planned.Options.Denied, denied)
	}
}

// denied asks about the namespaces of a plan's objects that have not been asked
// about yet, and gives those in which a run may not do what it does.
func (r Runner) denied(ctx context.Context, plan mesh.Plan, asked map[string]bool) (map[string]string, error) {
	denied := map[string]string{}
	for namespace, kinds := range kindsIn(plan.Objects) {
		if asked[namespace] {
			continue
		}
		asked[namespace] = true
		if r.WithoutHeartbeat {
			kinds = slices.DeleteFunc(kinds, func(kind string) bool { return kind == "Job" })
		}
		err := r.Mesh.Permitted(ctx, namespace, kinds)
		if missing, is := errors.AsType[*DeniedError](err); is {
			denied[namespace] = missing.Error()
		} else if err != nil {
			return nil, err
		}
	}
	return denied, nil
}

// kindsIn gives the kinds of what a run makes in each namespace.
func kindsIn(objects []*unstructured.Unstructured) map[string][]string {
	kinds := map[string][]string{}
	for _, object := range objects {
		namespace := object.GetNamespace()
		if kinds[namespace] == nil {
			kinds[namespace] = []string{"Job"}
		}
		if !slices.Contains(kinds[namespace], object.GetKind()) {
			kinds[namespace] = append(kinds[namespace], object.GetKind())
		}
	}
	return kinds
}
