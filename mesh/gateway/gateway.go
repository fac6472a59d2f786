// Package gateway plans faults on the calls that go through a gateway: it finds the
// routes by which the gateway reaches the target, a namespace from which copies of them
// take precedence, and refuses what it cannot do exactly.
package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/router"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/mesh/render"
)

// Input is what the calls of a group through a gateway are planned from.
type Input struct {
	// Mesh has no objects of runs.
	Mesh config.Snapshot
	// Runs are the VirtualServices of runs.
	Runs       []*unstructured.Unstructured
	Group      *render.Group
	Experiment experiments.Experiment
	// HomeNamespace is tried first for new objects; it may be empty.
	HomeNamespace string
	// Denied has the namespaces in which objects cannot be created, with the reason.
	Denied           map[string]string
	BlackholeAddress string
	// Undecided returns the refusal for an error of package routing.
	Undecided func(err error, namespace string) error
	// Times are the times from the start of the experiment at which its faults change.
	Times []time.Duration
}

// Plan is how faults reach the calls through a gateway.
type Plan struct {
	Output
	Place render.Place
	// Bases are the VirtualServices whose routes the objects have copies of, and those
	// that they delegate to.
	Bases []*unstructured.Unstructured
	// Alone reports whether the namespace has no other workloads.
	Alone  bool
	Reason string
}

// Hosts returns the hosts by which clients send the requests that are hit.
func (p Plan) Hosts() []string {
	var hosts []string
	for _, edge := range p.Edges {
		if !slices.Contains(hosts, edge.Edge.Host) {
			hosts = append(hosts, edge.Edge.Host)
		}
	}
	return hosts
}

// Requests returns the requests that are hit, in words.
func (p Plan) Requests() []string {
	var all []string
	for _, edge := range p.Edges {
		all = append(all, edge.Requests...)
	}
	return all
}

// LiveRunError says that a run already disturbs requests of a plan.
type LiveRunError struct {
	Object *unstructured.Unstructured
	// Host is the host of the requests, and Gateway the Gateway, as namespace/name.
	Host, Gateway string
}

func (e *LiveRunError) Error() string {
	return fmt.Sprintf("%s disturbs the requests for %s through Gateway %s", objects.RefTo(e.Object), e.Host, e.Gateway)
}

// planner plans one group.
type planner struct {
	Input

	workload router.Workload
	servers  []router.Server
	hosts    []router.VirtualHost
}

// Decide plans the faults of a group. The error is a *refusal.Error, or a *LiveRunError.
func Decide(in Input) (Plan, error) {
	p := &planner{Input: in, workload: router.Workload{Namespace: in.Group.Callers, Labels: in.Group.Gateway}}
	selected, err := p.selected()
	if err != nil {
		return Plan{}, err
	}
	p.servers = router.Servers(selected.Gateways)
	p.hosts = router.VirtualHosts(p.Mesh, p.workload, p.servers)
	if err := p.checkTarget(); err != nil {
		return Plan{}, err
	}
	// Which edges are hit does not depend on the place.
	probe := render.Place{Namespace: in.Group.Callers, ExportTo: "."}
	found, err := p.render(probe, p.edges(selected.Gateways, p.hosts))
	if err != nil {
		if certain := p.checkCertain(nil, selected); certain != nil {
			return Plan{}, certain
		}
		return Plan{}, cmp.Or(checkBackend(p), err)
	}
	var edges []Edge
	for _, edge := range found.Edges {
		edges = append(edges, edge.Edge)
	}
	if err := p.checkEdges(edges, selected); err != nil {
		return Plan{}, err
	}
	return p.place(edges)
}

// edges returns the edges of virtual hosts: one for each host and Gateway.
func (p *planner) edges(gateways []*unstructured.Unstructured, all []router.VirtualHost) []Edge {
	type key struct{ host, gateway string }
	at := map[key]int{}
	var edges []Edge
	for _, v := range all {
		for _, name := range v.Gateways() {
			here := key{host: v.Host, gateway: name}
			i, known := at[here]
			if !known {
				i, at[here] = len(edges), len(edges)
				edges = append(edges, Edge{Host: v.Host, Gateway: name, SourceLabels: p.beyond(gateways, name)})
			}
			routes := slices.DeleteFunc(slices.Clone(v.Routes), func(r router.Route) bool { return r.Gateway != name })
			edges[i].Servers = append(edges[i].Servers, EdgeServer{Port: v.Port, Routes: routes})
		}
	}
	return edges
}

// beyond returns those labels of the workload that a Gateway does not select by: without
// them it may select other pods of the namespace too.
func (p *planner) beyond(gateways []*unstructured.Unstructured, name string) map[string]string {
	i := slices.IndexFunc(gateways, func(g *unstructured.Unstructured) bool { return g.GetNamespace()+"/"+g.GetName() == name })
	rest := maps.Clone(p.workload.Labels)
	for key, value := range router.Selector(gateways[i]) {
		if rest[key] == value {
			delete(rest, key)
		}
	}
	return rest
}

// place returns the plan for the first namespace from which the objects take precedence.
func (p *planner) place(edges []Edge) (Plan, error) {
	bases, visibility := basesOf(edges)
	var reasons []string
	for _, at := range p.places(bases) {
		plan, err := p.planAt(at, edges, visibility)
		if err == nil {
			plan.Place, plan.Bases, plan.Alone = at, bases, p.workload.IsAlone(p.Mesh)
			plan.Reason = reasonOf(plan, edges)
			return plan, nil
		}
		if known, ok := errors.AsType[*refusal.Error](err); ok {
			return Plan{}, known
		}
		reasons = append(reasons, at.Namespace+": "+err.Error())
	}
	if visibility == config.Private {
		return Plan{}, refusal.New(refusal.PrivateBase, "remove exportTo from it, or name requests of another host in spec.match",
			"VirtualService %s is effective and private to %s, where nothing outranks it", nameOf(privateOf(edges)), p.Group.Callers)
	}
	return Plan{}, refusal.New(refusal.NoPlacement, "--home-namespace names another one; exportTo of the effective VirtualService, the hosts of the Gateway and the permissions decide",
		"no namespace can hold a VirtualService that takes precedence in the gateway: %s", strings.Join(reasons, "; "))
}

// reasonOf explains the placement.
func reasonOf(plan Plan, edges []Edge) string {
	var names []string
	for _, base := range plan.Bases {
		if name := nameOf(base); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var gateways []string
	for _, edge := range edges {
		if !slices.Contains(gateways, edge.Gateway) {
			gateways = append(gateways, edge.Gateway)
		}
	}
	return fmt.Sprintf("bound to Gateway %s, precedes the routes of %s for %s", strings.Join(gateways, ", "), strings.Join(names, ", "), strings.Join(plan.Hosts(), ", "))
}

// places returns the places for the objects, in the order of preference: the home
// namespace, the gateway's, the namespaces of the bases.
func (p *planner) places(bases []*unstructured.Unstructured) []render.Place {
	namespaces := []string{p.HomeNamespace, p.Group.Callers}
	for _, base := range bases {
		namespaces = append(namespaces, base.GetNamespace())
	}
	var found []render.Place
	for _, namespace := range namespaces {
		at := render.Place{Namespace: namespace, ExportTo: p.Group.Callers, Visibility: config.Exported}
		if namespace == p.Group.Callers {
			at.ExportTo, at.Visibility = ".", config.Private
		}
		if namespace != "" && !slices.Contains(found, at) {
			found = append(found, at)
		}
	}
	return found
}

// planAt returns the plan for one place, or why the objects cannot be there.
func (p *planner) planAt(at render.Place, edges []Edge, visibility config.Visibility) (Plan, error) {
	_, exists := p.Mesh.Namespaces[at.Namespace]
	switch {
	case !exists:
		return Plan{}, errors.New("there is no such namespace")
	case !p.Mesh.Watches(at.Namespace):
		return Plan{}, errors.New("istiod does not watch it (discoverySelectors)")
	case at.Visibility >= visibility:
		return Plan{}, fmt.Errorf("an effective VirtualService is %s too, and older", at.Visibility)
	case p.Denied[at.Namespace] != "":
		return Plan{}, errors.New(p.Denied[at.Namespace])
	}
	out, err := p.render(at, edges)
	if err != nil {
		return Plan{}, err
	}
	if err := p.verify(out); err != nil {
		return Plan{}, err
	}
	return Plan{Output: out}, nil
}

// verify adds the objects to the mesh, and returns an error unless each of them comes
// first for its host, and everything else is as before.
func (p *planner) verify(out Output) error {
	for state := range p.Times {
		with := p.Mesh
		with.VirtualServices = slices.Clone(p.Mesh.VirtualServices)
		for _, edge := range out.Edges {
			with.VirtualServices = append(with.VirtualServices, edge.States[state])
		}
		now := map[[2]string]router.VirtualHost{}
		for _, v := range router.VirtualHosts(with, p.workload, p.servers) {
			now[[2]string{v.Routing, v.Host}] = v
		}
		if len(now) != len(p.hosts) {
			return errors.New("the Gateway would have routes for other hosts too")
		}
		for _, before := range p.hosts {
			isOurs := func(r router.Route) bool {
				return slices.ContainsFunc(out.Edges, func(e EdgeOutput) bool { return e.States[state] == r.From })
			}
			touched := slices.ContainsFunc(out.Edges, func(e EdgeOutput) bool { return isOn(e.Edge, before) })
			if err := comesFirst(now[[2]string{before.Routing, before.Host}], before, isOurs, touched); err != nil {
				return err
			}
		}
	}
	return nil
}

// isOn reports whether an edge is a virtual host.
func isOn(e Edge, v router.VirtualHost) bool {
	return e.Host == v.Host && slices.Contains(v.Gateways(), e.Gateway)
}

// comesFirst returns an error unless the routes of our objects come before the other ones
// of a virtual host, which are as before. If it is not touched, it has none of ours.
func comesFirst(now, before router.VirtualHost, isOurs func(router.Route) bool, touched bool) error {
	rest := slices.DeleteFunc(slices.Clone(now.Routes), isOurs)
	switch {
	case !reflect.DeepEqual(rest, before.Routes):
		return fmt.Errorf("it would change the other routes for %s", before.Host)
	case touched != (len(rest) < len(now.Routes)):
		return fmt.Errorf("the Gateway does not take routes for %s from there", before.Host)
	}
	other := map[bool]bool{} // by whether a route of this kind catches all requests
	for _, route := range now.Routes {
		switch all := route.CatchesAll(); {
		case !isOurs(route):
			other[all] = true
		case other[all]:
			return fmt.Errorf("routes for %s come before it", before.Host)
		}
	}
	return nil
}

// basesOf returns the VirtualServices whose routes edges have, with those that they
// delegate to, and the best visibility of the former.
func basesOf(edges []Edge) (bases []*unstructured.Unstructured, best config.Visibility) {
	best = config.Hidden
	for _, route := range routesOf(edges) {
		best = min(best, route.Visibility)
		for _, base := range append([]*unstructured.Unstructured{route.From}, route.Delegates...) {
			if !slices.Contains(bases, base) {
				bases = append(bases, base)
			}
		}
	}
	return bases, best
}

// privateOf returns a VirtualService that is private to the gateway's namespace.
func privateOf(edges []Edge) *unstructured.Unstructured {
	all := routesOf(edges)
	return all[slices.IndexFunc(all, func(r router.Route) bool { return r.Visibility == config.Private })].From
}

func routesOf(edges []Edge) []router.Route {
	var all []router.Route
	for _, edge := range edges {
		for _, server := range edge.Servers {
			all = append(all, server.Routes...)
		}
	}
	return all
}

func nameOf(object *unstructured.Unstructured) string {
	return object.GetNamespace() + "/" + object.GetName()
}
