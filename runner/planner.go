package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/effect"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Mesh is a mesh as a planner needs it.
type Mesh interface {
	// Snapshot returns the configuration of the mesh.
	Snapshot(ctx context.Context) (config.Snapshot, error)
	// Permitted returns an error if a run may not do what it does in a namespace in
	// which it creates objects of these kinds. An error of type *DeniedError has the
	// missing permissions.
	Permitted(ctx context.Context, namespace string, kinds []string) error
}

// PlannerConfig is what a planner needs.
type PlannerConfig struct {
	Mesh Mesh
	// Querier finds the callers of an experiment that has none.
	Querier steadystate.Querier
	Options mesh.Options
	// WithoutHeartbeat plans runs without heartbeat Jobs, which need no permission to
	// create them.
	WithoutHeartbeat bool
}

// Planner plans experiments. It creates nothing.
type Planner struct {
	config PlannerConfig
	query  effect.Query
}

// NewPlanner returns a planner. It returns an error if the config lacks the mesh or
// the querier.
func NewPlanner(config PlannerConfig) (*Planner, error) {
	switch {
	case config.Mesh == nil:
		return nil, errors.New("runner: no mesh")
	case config.Querier == nil:
		return nil, errors.New("runner: no querier")
	default:
		return &Planner{config: config, query: effect.QueryOf(config.Querier)}, nil
	}
}

// Planned is a plan with what it was made from.
type Planned struct {
	mesh.Plan
	// Snapshot is the part of the mesh that the plan depends on.
	Snapshot config.Snapshot
	// Experiment is the experiment with its callers, also if its file names none.
	Experiment experiments.Experiment
	// Options include the namespaces in which objects may not be created.
	Options mesh.Options
}

// Plan reads the mesh and plans an experiment. If the experiment has no callers, it
// takes those that Prometheus knows. It places no object in a namespace in which
// the user may not do what a run does, if there is another one.
func (p *Planner) Plan(ctx context.Context, e experiments.Experiment) (Planned, error) {
	snapshot, err := p.config.Mesh.Snapshot(ctx)
	if err != nil {
		return Planned{}, hint.With(fmt.Errorf("the mesh configuration cannot be read: %w", err), clusterHint)
	}
	if hosts := mesh.Callerless(snapshot, e.Spec); len(hosts) > 0 {
		callers, err := effect.Callers(ctx, p.query, hosts)
		if err != nil {
			err = fmt.Errorf("the callers, which the experiment does not name, cannot be found: %w", err)
			if hint.Of(err) == "" {
				err = hint.With(err, "name the callers, or check --prometheus or SQUALL_PROMETHEUS; nothing was injected")
			}
			return Planned{}, err
		}
		for host, found := range callers {
			callers[host] = mesh.AsGateways(snapshot, host, found)
		}
		e.Spec = mesh.WithCallers(snapshot, e.Spec, callers)
	}
	planned := Planned{Snapshot: mesh.Narrow(snapshot, e.Spec), Experiment: e, Options: p.config.Options}
	planned.Options.Denied = maps.Clone(p.config.Options.Denied)
	checked := map[string]bool{}
	for {
		planned.Plan = mesh.Decide(planned.Snapshot, e, planned.Options)
		denied, err := p.denied(ctx, planned.Plan, checked)
		if err != nil {
			return planned, hint.With(err, clusterHint)
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

// clusterHint is the hint of an error of the cluster.
const clusterHint = "check --kubeconfig, --context and the permissions; nothing was injected"

// denied checks the namespaces of a plan's objects that are not checked yet. It
// returns those in which a run may not do what it does, and why.
func (p *Planner) denied(ctx context.Context, plan mesh.Plan, checked map[string]bool) (map[string]string, error) {
	denied := map[string]string{}
	for namespace, kinds := range kindsIn(plan.Objects) {
		if checked[namespace] {
			continue
		}
		checked[namespace] = true
		if p.config.WithoutHeartbeat {
			kinds = slices.DeleteFunc(kinds, func(kind string) bool { return kind == objects.KindJob })
		}
		err := p.config.Mesh.Permitted(ctx, namespace, kinds)
		if missing, is := errors.AsType[*DeniedError](err); is {
			denied[namespace] = missing.Error()
		} else if err != nil {
			return nil, err
		}
	}
	return denied, nil
}

// kindsIn returns the kinds of what a run creates in each namespace.
func kindsIn(planned []*unstructured.Unstructured) map[string][]string {
	kinds := map[string][]string{}
	for _, object := range planned {
		namespace := object.GetNamespace()
		if kinds[namespace] == nil {
			kinds[namespace] = []string{objects.KindJob}
		}
		if !slices.Contains(kinds[namespace], object.GetKind()) {
			kinds[namespace] = append(kinds[namespace], object.GetKind())
		}
	}
	return kinds
}

// again plans the same experiment for another state of the mesh.
func (p Planned) again(snapshot config.Snapshot) Planned {
	p.Snapshot = snapshot
	p.Plan = mesh.Decide(snapshot, p.Experiment, p.Options)
	return p
}

// Bases returns the objects that the planned objects are derived from.
func (p Planned) Bases() []mesh.Version {
	var bases []mesh.Version
	for _, d := range p.Decisions {
		bases = append(bases, d.Bases...)
	}
	return bases
}
