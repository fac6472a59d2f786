// Package render renders the VirtualService that carries the faults of one group of
// calls, and the ServiceEntries of its blackholes: the effective routes, with each
// fault on exactly the requests that it is for, and everything else unchanged.
package render

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/match"
	"github.com/squall-chaos/squall/mesh/objects"
)

// Input is what a group of calls is rendered from.
type Input struct {
	Mesh  config.Snapshot
	Group *Group
	// Now is what is effective for the callers today.
	Now routing.Effective
	// Listeners are the egress listeners by which the callers reach the target, at
	// least one.
	Listeners []config.Listener
	Place     Place
	// Ports are the target's ports that the callers can see.
	Ports      []config.Port
	Experiment string
	// BlackholeAddress is the address of dropped connections; empty means
	// DefaultBlackholeAddress.
	BlackholeAddress string
}

// Output is a rendered group.
type Output struct {
	// Helpers are the ServiceEntries of blackholes.
	Helpers []*unstructured.Unstructured
	// States are the states of the VirtualService, one for each of the given times.
	States []*unstructured.Unstructured
	// Before and During are the HTTP routes today and in the first state in which a
	// fault is active, with fully qualified hosts.
	Before, During []map[string]any
	Signature      Signature
	// Undiverted and Diverted are the TCP and TLS routes of the connections that
	// blackholes take, today and in that state.
	Undiverted, Diverted Connections
	// Connections are the VirtualServices whose TCP and TLS routes were narrowed.
	Connections []*unstructured.Unstructured
}

// Render renders a group in its states at some times from the start of the
// experiment. The error is a *refusal.Error if the faults cannot be rendered exactly.
func Render(in Input, times []time.Duration) (Output, error) {
	r := &renderer{
		mesh: in.Mesh, group: in.Group, now: in.Now, listener: in.Listeners[0], place: in.Place, experiment: in.Experiment,
		blackholes: newBlackholes(in.Mesh, in.Group, in.Place, in.Ports, in.BlackholeAddress),
	}
	if err := r.checkConnections(in.Listeners); err != nil {
		return Output{}, err
	}
	if err := r.blackholes.check(); err != nil {
		return Output{}, err
	}
	home := in.Place.Namespace
	if r.now.Base != nil {
		home = r.now.Base.GetNamespace()
	}
	out := Output{Before: qualified(r.copyRoutes(), home, in.Mesh.ClusterDomain)}
	for _, t := range times {
		active := in.Group.Active(t)
		object, err := r.render(active)
		if err != nil {
			return Output{}, err
		}
		if len(active) > 0 && out.During == nil {
			routes, _ := fields.Map(object.Object, "spec")["http"].([]any)
			out.During = qualified(routes, in.Place.Namespace, in.Mesh.ClusterDomain)
			out.Undiverted = connectionsOf(map[string]any{"tcp": r.undiverted["tcp"], "tls": r.undiverted["tls"]}, in.Place.Namespace, in.Mesh.ClusterDomain)
			out.Diverted = connectionsOf(fields.Map(object.Object, "spec"), in.Place.Namespace, in.Mesh.ClusterDomain)
		}
		out.States = append(out.States, object)
	}
	// The ports of the blackholes are known when all states are rendered.
	out.Helpers = r.blackholes.objects()
	out.Connections = r.connections
	out.Signature = r.signature
	out.Signature.Blackholes = r.blackholes.hosts()
	return out, nil
}

// renderer renders the VirtualService that carries the faults of one group: the
// effective routes, with each fault on exactly the requests that it is for.
type renderer struct {
	mesh       config.Snapshot
	group      *Group
	now        routing.Effective
	listener   config.Listener
	place      Place
	experiment string
	blackholes *blackholes
	signature  Signature
	// connections are the VirtualServices whose TCP and TLS routes were narrowed.
	connections []*unstructured.Unstructured
	// bases are the VirtualServices of the routes of a gateway, in their order, and
	// listening is the port of its server; nil and 0 for sidecars.
	bases     []*routing.Candidate
	listening int64

	// The fields below are about the state that is being rendered.
	clones int    // the number of routes that were added
	aims   []*aim // the conditions of the active injections
	// diverted has the numbers of the injections for which a TCP or TLS route was
	// diverted.
	diverted map[int]bool
	// undiverted has these routes by their protocol, as they are without the injections.
	undiverted map[string][]any
}

// render returns the object in the state in which the given injections are active.
//
// A base for the exact host is rendered for the experiment's callers and ports
// only: where the object has no route for a proxy, istiod uses the base as before.
// It would not do so for a wildcard, so then every route is kept.
func (r *renderer) render(active []Injection) (*unstructured.Unstructured, error) {
	object := newVirtualService(r.mesh.APIVersion, r.group, r.place)
	r.diverted, r.undiverted = map[int]bool{}, map[string][]any{}
	spec := map[string]any{}
	if r.now.Base != nil {
		if revision := r.now.Base.GetLabels()[config.RevisionLabel]; revision != "" {
			object.SetLabels(map[string]string{config.RevisionLabel: revision})
		}
		for field, value := range fields.Map(r.now.Base.Object, "spec") {
			// istiod still finds the TCP and TLS routes in the base.
			if !slices.Contains([]string{"http", "tcp", "tls", "gateways"}, field) {
				spec[field] = runtime.DeepCopyJSONValue(value)
			}
		}
	}
	spec["hosts"] = []any{r.group.Host}
	spec["exportTo"] = []any{r.place.ExportTo}
	spec["http"] = r.copyRoutes()
	if r.now.Base != nil && r.now.Base.GetNamespace() != r.place.Namespace {
		routing.QualifyDestinations(spec, r.now.Base.GetNamespace(), r.mesh.ClusterDomain)
	}
	routes, err := r.guarded(fields.Maps(spec, "http"))
	if err != nil {
		return nil, err
	}
	if spec["http"], err = r.faulted(routes, active); err != nil {
		return nil, err
	}
	if err := r.renderConnections(spec, active); err != nil {
		return nil, err
	}
	if err := r.checkReached(active); err != nil {
		return nil, err
	}
	if len(fields.Maps(spec, "http")) == 0 {
		delete(spec, "http")
		if spec["tcp"] == nil && spec["tls"] == nil {
			// Istio requires a route, and nothing is diverted now: add one that no
			// request matches.
			spec["http"] = []any{map[string]any{
				"match": []any{map[string]any{"gateways": []any{routing.MeshGateway}, "port": unusedPort}},
				"route": []any{map[string]any{"destination": map[string]any{"host": r.group.Host}}},
			}}
		}
	}
	object.Object["spec"] = spec
	return object, nil
}

// newVirtualService returns the object without a spec.
func newVirtualService(apiVersion string, g *Group, at Place) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{}}
	object.SetAPIVersion(apiVersion)
	object.SetKind(objects.KindVirtualService)
	object.SetNamespace(at.Namespace)
	object.SetName(g.name())
	object.SetAnnotations(map[string]string{objects.HostAnnotation: g.Host, objects.CallersAnnotation: g.Callers})
	return object
}

// unusedPort is a port that no Service has, so no request goes to it.
const unusedPort = int64(65535)

// copyRoutes returns a copy of the effective HTTP routes, or istiod's default route.
// That one has no port, so that requests keep theirs.
func (r *renderer) copyRoutes() []any {
	if r.now.Base == nil {
		return []any{map[string]any{
			"name":  "default",
			"route": []any{map[string]any{"destination": map[string]any{"host": r.group.Host}}},
		}}
	}
	copied := make([]any, len(r.now.Routes))
	for i, route := range r.now.Routes {
		copied[i] = runtime.DeepCopyJSON(route)
	}
	return copied
}

// qualified returns a copy of HTTP routes with fully qualified hosts, so that
// routes of objects in different namespaces can be compared.
func qualified(routes []any, namespace, domain string) []map[string]any {
	copied := map[string]any{"http": runtime.DeepCopyJSONValue(routes)}
	routing.QualifyDestinations(copied, namespace, domain)
	return fields.Maps(copied, "http")
}

// guarded narrows routes to the callers and ports that the experiment is for.
func (r *renderer) guarded(routes []map[string]any) ([]map[string]any, error) {
	guard, narrowed, err := r.guardHere()
	if !narrowed || err != nil {
		return routes, err
	}
	var kept []map[string]any
	for _, route := range routes {
		match, err := match.Narrow(fields.Maps(route, "match"), guard, r.group.Callers)
		if err != nil {
			return nil, err
		}
		if len(match) > 0 {
			route["match"] = fields.List(match)
			kept = append(kept, route)
		}
	}
	return kept, nil
}

// guardHere returns the guard of the group for the object; narrowed is false if the
// routes must not be narrowed. Without a base, the guard includes the target's
// ports: port 80 is the only port on which istiod routes the hosts of a
// VirtualService without a Service on it (httproute.go,
// BuildSidecarOutboundVirtualHosts), and calls that pass through today must still do
// so. An empty guard that is narrowed leaves no HTTP route at all.
func (r *renderer) guardHere() (guard []match.Condition, narrowed bool, err error) {
	guard = r.group.guard()
	if r.now.Base != nil {
		return guard, len(guard) > 0 && !r.now.Base.IsWildcard(), nil
	}
	var ports []match.Condition
	for _, port := range r.blackholes.known {
		if port.HasHTTPRoutes() {
			ports = append(ports, match.Condition{"port": port.Number})
		}
	}
	on80 := slices.ContainsFunc(ports, func(c match.Condition) bool { return c["port"] == int64(80) })
	switch {
	case on80:
		return guard, len(guard) > 0, nil
	case len(guard) == 0:
		return ports, true, nil
	default:
		guard, err = match.Intersect(guard, ports, r.group.Callers)
		return guard, true, err
	}
}

// Signature is how the requests that a plan disturbs look in Istio's metrics.
type Signature struct {
	// Destinations are the hosts that the disturbed routes forward to.
	Destinations []string
	// Aborts and Delays report whether the callers' proxies set the flags of aborted
	// and delayed requests.
	Aborts, Delays bool
	// Blackholes are the hosts that blackholed requests are sent to.
	Blackholes []string
}
