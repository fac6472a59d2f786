package mesh

import (
	"errors"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/mesh/render"
)

// forCallers returns the planner with the mesh as the control plane of a group's callers
// has it.
func (p *planner) forCallers(g *render.Group) (*planner, error) {
	if p.mesh.Doubt != nil {
		return nil, refusal.New(refusal.ClusterDomain, "name the domain with --cluster-domain", "%s", p.mesh.Doubt)
	}
	if g.Callers == "" {
		return p, nil
	}
	var callers []experiments.Caller
	for _, one := range g.Injections {
		callers = append(callers, one.Callers...)
	}
	seen, err := seenBy(p.mesh, g.Callers, callers)
	if err != nil {
		return nil, err
	}
	own := *p
	own.mesh = seen
	return &own, nil
}

// SeenBy returns a snapshot as the control plane of a decision's callers has it; as it is
// if that is not known.
func SeenBy(s config.Snapshot, d Decision) config.Snapshot {
	var callers []experiments.Caller
	for _, i := range d.Injections {
		callers = append(callers, i.Callers...)
	}
	seen, err := seenBy(s, d.Callers, callers)
	if err != nil {
		return s
	}
	return seen
}

// seenBy returns a snapshot as the control plane of all callers in a namespace has it.
func seenBy(s config.Snapshot, namespace string, callers []experiments.Caller) (config.Snapshot, error) {
	seen, err := s.For(namespace, nil)
	first := true
	for _, caller := range callers {
		if caller.In() != namespace {
			continue
		}
		other, failed := s.For(namespace, caller.PodLabels())
		switch {
		case failed != nil:
			return s, unknownControlPlane(failed)
		case first:
			seen, err, first = other, nil, false
		case seen.Plane.Name() != other.Plane.Name():
			return s, refusal.New(refusal.ControlPlane, "name the callers of each control plane in a separate experiment",
				"the callers in %s have different control planes: %s and %s", namespace, seen.Plane.Name(), other.Plane.Name())
		}
	}
	return seen, unknownControlPlane(err)
}

// unknownControlPlane returns the refusal of callers whose control plane is not known.
func unknownControlPlane(err error) error {
	unknown, ok := errors.AsType[*config.ControlPlaneError](err)
	if !ok {
		return err
	}
	next := "name it with --revision, or add the label " + config.RevisionLabel + " to the callers' labels"
	if unknown.Several {
		next = "name its namespace with --istio-namespace"
	}
	return refusal.New(refusal.ControlPlane, next, "%s", unknown)
}
