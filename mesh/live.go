package mesh

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/mesh/render"
)

// live returns the VirtualService of a run that could be effective for the calls of a
// group, or nil. Anyone who may create a VirtualService in some namespace can give it
// the labels of a run, so labels alone do not block the calls of others.
func (p *planner) live(g *render.Group) *unstructured.Unstructured {
	for _, object := range p.runs {
		if object.GetNamespace() == g.Callers && object.GetName() == objects.Name(g.Host, g.Callers) {
			return object // the name of a new object is taken
		}
		if routing.PatternFor(p.mesh, object, g.Host) != "" && p.couldBeEffective(object, g) {
			return object
		}
	}
	return nil
}

// Idle returns the objects of runs that name calls of an experiment in their
// annotations, but could not be effective for them. Objects for gateways are not among
// them.
func Idle(s config.Snapshot, e experiments.Experiment) []objects.Ref {
	p := newPlanner(s, e, Options{})
	groups, _ := groupsOf(p.mesh, e.Spec) // Decide refuses with the error
	var idle []objects.Ref
	for _, g := range groups {
		seen, err := p.forCallers(g)
		if err != nil || g.Gateway != nil {
			continue // Decide refuses with the error
		}
		for _, object := range p.runs {
			if routing.AppliesToSidecars(object) && objects.IsFor(object, g.Host, g.Callers) && !seen.couldBeEffective(object, g) {
				idle = append(idle, objects.RefTo(object))
			}
		}
	}
	return idle
}

// couldBeEffective reports whether any of the group's callers would use the routes of a
// VirtualService if it were the only one of a run.
func (p *planner) couldBeEffective(object *unstructured.Unstructured, g *render.Group) bool {
	with := p.mesh
	with.VirtualServices = append(slices.Clone(p.mesh.VirtualServices), object)
	entries, _ := p.entries(g) // decide refuses with the error
	ports := config.PortsOf(entries)
	for _, proxies := range g.Proxies(ports) {
		for _, scope := range p.mesh.ScopesFor(g.Callers, proxies.Labels) {
			for _, l := range scope.Listeners {
				if !p.reachable(g, proxies, l) {
					continue
				}
				here := proxies
				if l.Port != 0 {
					here.Ports = []int64{l.Port}
				}
				// After an error, the base is the VirtualService that is effective for some of
				// the callers.
				found, _ := routing.Find(with, g.Host, withHTTPRoutes(here, ports), l)
				if found.Base != nil && found.Base.Unstructured == object {
					return true
				}
			}
		}
	}
	return false
}
