package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/istio/router"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/mesh/refusal"
)

// selected returns the Gateways that select the workload. It refuses a workload that does
// not exist or that no Gateway selects, and names what there is.
func (p *planner) selected() (router.Selected, error) {
	namespace, own := p.workload.Namespace, labels.FormatLabels(p.workload.Labels)
	if _, exists := p.Mesh.Namespaces[namespace]; !exists {
		return router.Selected{}, refusal.New(refusal.NoNamespace, "check spec.callers; kubectl get namespaces lists them", "there is no namespace %s", namespace)
	}
	if !p.workload.Exists(p.Mesh) {
		return router.Selected{}, refusal.New(refusal.NoGateway, known(p),
			"no workload in %s has the labels %s, as far as the Services there tell", namespace, own)
	}
	selected := router.Select(p.Mesh, p.workload)
	if len(selected.Gateways) > 0 {
		return selected, nil
	}
	if len(selected.Unsure) > 0 {
		return selected, refusal.New(refusal.NoGateway, "name all labels of its selector: "+labels.FormatLabels(router.Selector(selected.Unsure[0])),
			"Gateway %s may select other pods than those in %s with the labels %s", nameOf(selected.Unsure[0]), namespace, own)
	}
	return selected, refusal.New(refusal.NoGateway, known(p),
		"no Gateway selects the pods in %s with the labels %s", namespace, own)
}

// known returns a hint with the workloads that Gateways select, as far as Services tell.
func known(p *planner) string {
	var found []string
	for _, gateway := range p.Mesh.Gateways {
		selector := router.Selector(gateway)
		for _, service := range p.Mesh.Services {
			if len(selector) == 0 || !selector.AsSelector().Matches(labels.Set(service.Selector)) {
				continue
			}
			if text := fmt.Sprintf("{namespace: %s, labels: {%s}}", service.Namespace, strings.ReplaceAll(labels.FormatLabels(selector), "=", ": ")); !slices.Contains(found, text) {
				found = append(found, text)
			}
		}
	}
	slices.Sort(found)
	if len(found) == 0 {
		return "create a Gateway whose selector the pods' labels include; none selects the pods of any Service"
	}
	return "name the namespace and the labels of the gateway's pods: " + strings.Join(found, " or ")
}

// ingressUsesWaypoint is the label of a Service or a namespace whose requests a gateway
// sends to the waypoint (istio.io/istio/pilot/pkg/serviceregistry/ambient,
// ingressUseWaypointFromLabels).
const ingressUsesWaypoint = "istio.io/ingress-use-waypoint"

// checkTarget refuses a target that the routes of the gateway alone do not decide about.
func (p *planner) checkTarget() error {
	g := p.Group
	seen := false
	for _, entry := range p.Mesh.Entries(g.Host) {
		seen = seen || p.Mesh.CanSee(entry, g.Callers)
		value, labelled := entry.Labels[ingressUsesWaypoint]
		if !labelled {
			value = p.Mesh.Namespaces[entry.Namespace][ingressUsesWaypoint]
		}
		if strings.EqualFold(value, "true") {
			return refusal.New(refusal.IngressWaypoint, "remove the label, or name the callers with sidecars",
				"%s %s/%s, or its namespace, has the label %s, so the gateway sends its requests to a waypoint", entry.Kind, entry.Namespace, entry.Name, ingressUsesWaypoint)
		}
	}
	if !seen {
		return refusal.New(refusal.NotVisible, "exportTo of the Service or ServiceEntry decides, and Istio's MeshConfig", "%s is not visible to namespace %s, so the gateway has no route for it", g.Host, g.Callers)
	}
	if concrete := routing.Concrete(p.Mesh, g.Host); concrete != g.Host {
		return refusal.New(refusal.ExternalName, "name that host, if it is in the mesh",
			"%s is an alias of another host, %s (a Service of type ExternalName), and proxies route calls to it as calls to that one", g.Host, concrete)
	}
	vs := router.Connecting(p.Mesh, p.workload, p.servers, g.Host)
	if vs == nil {
		return nil
	}
	for _, one := range g.Injections {
		if len(one.Match) == 0 {
			return refusal.New(refusal.GatewayConnections, "name the requests that are meant in spec.match, if the gateway has some, or callers with sidecars",
				"the gateway in %s passes connections to %s on as they are (TLS passthrough or TCP, VirtualService %s), so it cannot abort, delay or divert requests", g.Callers, g.Host, nameOf(vs))
		}
	}
	return nil
}

// checkEdges refuses edges that cannot be changed, or whose routes are not certain.
func (p *planner) checkEdges(edges []Edge, selected router.Selected) error {
	for _, check := range []func([]Edge, router.Selected) error{p.checkCertain, p.checkUnsure, p.checkOrder, p.checkRevisions, p.checkGatewayAPI, p.checkFaults, p.checkPorts, p.checkLive} {
		if err := check(edges, selected); err != nil {
			return err
		}
	}
	return nil
}

// checkCertain refuses routes that depend on what is not known.
func (p *planner) checkCertain(edges []Edge, _ router.Selected) error {
	for _, v := range p.hosts {
		if v.Err == nil {
			continue
		}
		undecided, is := v.Err.(*routing.UndecidedError) //nolint:errorlint // VirtualHost.Err
		touched := slices.ContainsFunc(edges, func(e Edge) bool { return isOn(e, v) })
		if touched || is && routing.Forwards(p.Mesh, undecided.Candidate.Unstructured, p.Group.Host) {
			return p.Undecided(v.Err, p.Group.Callers)
		}
	}
	return nil
}

// checkUnsure refuses if a Gateway that may select some of the pods has routes to the
// target, or for a host of the edges.
func (p *planner) checkUnsure(edges []Edge, selected router.Selected) error {
	for _, gateway := range selected.Unsure {
		for _, v := range router.VirtualHosts(p.Mesh, p.workload, router.Servers([]*unstructured.Unstructured{gateway})) {
			leads := slices.ContainsFunc(v.Routes, func(r router.Route) bool { return routing.Forwards(p.Mesh, r.From, p.Group.Host) })
			if leads || slices.ContainsFunc(edges, func(e Edge) bool { return e.Host == v.Host }) {
				return refusal.New(refusal.RoutesForSome, "name all labels of the gateway's pods, including the labels of its selector: "+labels.FormatLabels(router.Selector(gateway)),
					"Gateway %s, which has routes for %s, may select some of the pods in %s with the labels %s", nameOf(gateway), v.Host, p.Group.Callers, labels.FormatLabels(p.workload.Labels))
			}
		}
	}
	return nil
}

// checkOrder refuses hosts for which the routes of several Gateways are in one list, in
// the order of the Gateways. Ports without TLS count as one: two ports of a Service may
// lead to the same port of the pods.
func (p *planner) checkOrder(edges []Edge, _ router.Selected) error {
	for _, v := range p.hosts {
		if !slices.ContainsFunc(edges, func(e Edge) bool { return isOn(e, v) }) {
			continue
		}
		for _, other := range p.hosts {
			if other.Host != v.Host || other.Routing != v.Routing && (!isPlain(v) || !isPlain(other)) {
				continue
			}
			all := append(v.Gateways(), other.Gateways()...)
			if i := slices.IndexFunc(all, func(name string) bool { return name != all[0] }); i > 0 {
				return refusal.New(refusal.GatewayOrder, "bind the VirtualServices of the host to one of the Gateways",
					"Gateways %s and %s both have routes for %s on port %d, and their ages decide which routes come first", all[0], all[i], v.Host, v.Port)
			}
		}
	}
	return checkIgnored(p, edges)
}

// isPlain reports whether a virtual host is for requests without TLS. They share the route
// configuration of a port.
func isPlain(v router.VirtualHost) bool { return strings.HasPrefix(v.Routing, "http.") }

// checkIgnored refuses a server for a host of the edges that istiod may ignore, depending
// on ages that are not known.
func checkIgnored(p *planner, edges []Edge) error {
	for _, server := range p.servers {
		i := slices.IndexFunc(edges, func(e Edge) bool {
			return slices.ContainsFunc(server.Takes(p.Group.Callers), func(h string) bool { return strings.EqualFold(h, e.Host) })
		})
		if !server.Ignored || i < 0 || server.Gateway == edges[i].Gateway {
			continue
		}
		for _, gateway := range p.Mesh.Gateways {
			if created := gateway.GetCreationTimestamp(); created.IsZero() && (nameOf(gateway) == server.Gateway || nameOf(gateway) == edges[i].Gateway) {
				return refusal.New(refusal.UnknownAge, "remove one of the two servers, or plan against the cluster",
					"Gateways %s and %s both have a server for %s on port %d, the older one is effective, and their ages are not known", server.Gateway, edges[i].Gateway, edges[i].Host, server.Port)
			}
		}
	}
	return nil
}

// checkRevisions refuses a Gateway that istiod of another revision reads, as far as the
// namespace's labels tell.
func (p *planner) checkRevisions(edges []Edge, selected router.Selected) error {
	own := p.Mesh.Namespaces[p.Group.Callers][config.RevisionLabel]
	for _, gateway := range selected.Gateways {
		revision := gateway.GetLabels()[config.RevisionLabel]
		if revision != "" && !p.Mesh.Plane.Labelled && revision != own && slices.ContainsFunc(edges, func(e Edge) bool { return e.Gateway == nameOf(gateway) }) {
			return refusal.New(refusal.OtherRevision, "label the namespace with the revision, or remove the label from the Gateway",
				"Gateway %s is for the control-plane revision %s only, and namespace %s is not labelled with it", nameOf(gateway), revision, p.Group.Callers)
		}
	}
	return nil
}

// checkGatewayAPI refuses a host that a route of the Gateway API may have routes for:
// istiod adds them to the routes of VirtualServices, and a snapshot does not have the
// Gateways of the Gateway API, which decide about their pods.
func (p *planner) checkGatewayAPI(edges []Edge, _ router.Selected) error {
	for _, route := range p.Mesh.Routes {
		spec := fields.Map(route.Object, "spec")
		if !slices.ContainsFunc(fields.Maps(spec, "parentRefs"), func(parent map[string]any) bool {
			return cmp.Or(fields.String(parent, "kind"), "Gateway") == "Gateway"
		}) {
			continue
		}
		names := fields.Strings(spec, "hostnames")
		for _, e := range edges {
			if len(names) == 0 || len(router.Intersection(names, []string{e.Host})) > 0 {
				return refusal.New(refusal.GatewayAPIRoute, "this version of Squall copies the routes of VirtualServices only",
					"%s %s/%s of the Gateway API may have routes for %s too", route.GetKind(), route.GetNamespace(), route.GetName(), e.Host)
			}
		}
	}
	return nil
}

// checkBackend refuses a target that a route of the Gateway API leads to.
func checkBackend(p *planner) error {
	for _, route := range p.Mesh.Routes {
		for _, rule := range fields.Maps(fields.Map(route.Object, "spec"), "rules") {
			for _, backend := range fields.Maps(rule, "backendRefs") {
				namespace := cmp.Or(fields.String(backend, "namespace"), route.GetNamespace())
				if strings.EqualFold(host.Service(fields.String(backend, "name"), namespace, p.Mesh.ClusterDomain), p.Group.Host) {
					return refusal.New(refusal.GatewayAPIRoute, "this version of Squall copies the routes of VirtualServices only",
						"%s %s/%s of the Gateway API leads to %s, and no VirtualService of the gateway does", route.GetKind(), route.GetNamespace(), route.GetName(), p.Group.Host)
				}
			}
		}
	}
	return nil
}

// checkFaults refuses faults of other users that telemetry could not tell from the
// experiment's, if its effect must be proven.
func (p *planner) checkFaults(edges []Edge, _ router.Selected) error {
	if p.Experiment.Spec.Effect.MinRequests == 0 {
		return nil
	}
	for _, route := range routesOf(edges) {
		if !slices.ContainsFunc(fields.Maps(route.HTTP, "route"), func(weighted map[string]any) bool {
			return strings.EqualFold(fields.String(fields.Map(weighted, "destination"), "host"), p.Group.Host)
		}) {
			continue
		}
		own := fields.Map(route.HTTP, "fault")
		for _, one := range p.Group.Injections {
			if own["abort"] != nil && one.Fault.Abort != nil || own["delay"] != nil && one.Fault.Delay != nil {
				return refusal.New(refusal.ExistingFault, "remove that fault first, or set effect.minRequests to 0",
					"VirtualService %s has a fault of the same kind, so telemetry could not tell which of the two hit a request", nameOf(route.From))
			}
		}
	}
	return nil
}

// checkPorts refuses destinations without a port whose host several namespaces declare:
// istiod takes the port from the entry in the VirtualService's own namespace, if there is
// one (istio.io/istio/pilot/pkg/networking/core, buildNameToServiceMapForHTTPRoutes).
func (p *planner) checkPorts(edges []Edge, _ router.Selected) error {
	for _, route := range routesOf(edges) {
		for _, weighted := range fields.Maps(route.HTTP, "route") {
			destination := fields.Map(weighted, "destination")
			if destination["port"] != nil {
				continue
			}
			name := fields.String(destination, "host")
			entries := p.Mesh.Entries(name)
			if i := slices.IndexFunc(entries, func(e config.Entry) bool { return e.Namespace != entries[0].Namespace }); i > 0 {
				return refusal.New(refusal.Inexpressible, "write the port in the destination",
					"VirtualService %s leads to %s without a port, which namespaces %s and %s both declare, and the port depends on the VirtualService's namespace", nameOf(route.From), name, entries[0].Namespace, entries[i].Namespace)
			}
		}
	}
	return nil
}

// checkLive returns a *LiveRunError if the object of a run takes precedence for a host of
// the edges, or has the name of a new object. A public object has the labels of a run, but
// takes precedence over nothing.
func (p *planner) checkLive(edges []Edge, _ router.Selected) error {
	for _, object := range p.Runs {
		ranks := p.Mesh.VisibilityOf(object, p.Group.Callers) < config.Public
		for _, e := range edges {
			taken := object.GetNamespace() == p.Group.Callers && object.GetName() == objects.EdgeName(e.Host, e.Gateway, p.Group.Callers)
			bound := slices.Contains(router.Binds(object), e.Gateway) && len(router.Intersection(routing.Hosts(p.Mesh, object), []string{e.Host})) > 0
			if taken || ranks && bound {
				return &LiveRunError{Object: object, Host: e.Host, Gateway: e.Gateway}
			}
		}
	}
	return nil
}
