package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/router"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/mesh/render"
	"github.com/squall-chaos/squall/mesh/similar"
)

// checkCalls refuses calls that a fault cannot be placed on, whatever routes them. It
// sets the decision's Blocker.
func (p *planner) checkCalls(d *Decision, g *render.Group) error {
	switch {
	case !g.Known:
		return unknownHost(p, g)
	case g.Callers == "":
		return refusal.New(refusal.NoCallers, "add spec.callers with the namespace of the workloads that call "+g.Host, "the experiment names no callers")
	}
	if err := p.checkCallers(g.Callers); err != nil {
		return err
	}
	if err := p.checkGateway(g); err != nil {
		return err
	}
	if err := p.checkTarget(g.Host); err != nil {
		return err
	}
	if object := p.live(g); object != nil {
		run := object.GetLabels()[objects.RunLabel]
		d.Blocker = objects.Key{Run: run, Namespace: object.GetNamespace()}
		return refusal.New(refusal.LiveRun, objects.LiveRunHint(run), "run %s already disturbs the calls from %s to %s, with %s", run, g.Callers, g.Host, objects.RefTo(object))
	}
	if !slices.ContainsFunc(p.mesh.Entries(g.Host), func(entry config.Entry) bool { return p.mesh.CanSee(entry, g.Callers) }) {
		return refusal.New(refusal.NotVisible, "exportTo of the Service or ServiceEntry decides, and Istio's MeshConfig", "%s is not visible to namespace %s, so its proxies have no route for it", g.Host, g.Callers)
	}
	return nil
}

// unknownHost returns the refusal of a target that the registry does not have.
func unknownHost(p *planner, g *render.Group) error {
	if named := routing.Unregistered(p.mesh, g.Host, g.Callers); len(named) > 0 {
		return refusal.New(refusal.UnknownHost, "create a ServiceEntry for the host, or name the host that the VirtualService routes to",
			"the mesh has no Service and no ServiceEntry for %s: only VirtualService %s names it, and proxies use that on port 80 alone", g.Host, named[0].Name())
	}
	return refusal.New(refusal.UnknownHost, similar.Host(p.mesh, g.Host)+"check the spelling; kubectl get services,serviceentries -A lists the hosts", "the mesh does not know the host %s: there is no Service and no ServiceEntry for it", g.Host)
}

// checkCallers refuses a namespace whose proxies do not use VirtualServices.
func (p *planner) checkCallers(namespace string) error {
	labels, exists := p.mesh.Namespaces[namespace]
	if !exists {
		return refusal.New(refusal.NoNamespace, similar.Namespace(p.mesh, namespace)+"check spec.callers; kubectl get namespaces lists them", "there is no namespace %s", namespace)
	}
	if config.IsAmbient(labels) {
		return refusal.New(refusal.Ambient, "move the callers to sidecars, or name callers that have sidecars", "namespace %s is ambient: ztunnel does not use VirtualServices, so a fault would have no effect", namespace)
	}
	return nil
}

// checkGateway refuses callers that are a gateway: it takes its routes only from
// VirtualServices that are bound to a Gateway (istio.io/istio/pilot/pkg/model,
// VirtualServicesForGateway).
func (p *planner) checkGateway(g *render.Group) error {
	for _, one := range g.Injections {
		for _, caller := range one.Callers {
			gateway, pods := p.mesh.GatewayOf(g.Callers, caller.Labels)
			if caller.Namespace == g.Callers && pods == config.OnlyGateway {
				return refusal.New(refusal.GatewayCallers, gatewayHint(gateway, g.Callers),
					"the callers in %s are the pods of Gateway %s/%s, and a gateway does not use the VirtualServices of sidecars", g.Callers, gateway.GetNamespace(), gateway.GetName())
			}
		}
	}
	return nil
}

// gatewayHint returns how to name the pods of a Gateway as callers.
func gatewayHint(gateway *unstructured.Unstructured, namespace string) string {
	selector := strings.ReplaceAll(labels.FormatLabels(router.Selector(gateway)), "=", ": ")
	return fmt.Sprintf("write callers: [{gateway: {namespace: %s, labels: {%s}}}], or name the workloads with sidecars that call the host", namespace, strings.ReplaceAll(selector, ",", ", "))
}

// checkTarget refuses a host whose calls are not routed by the callers' own
// proxies and VirtualServices alone.
func (p *planner) checkTarget(name string) error {
	type owner struct{ kind, namespace, name string }
	// A parent of the kind Hostname is a host of a ServiceEntry in any namespace.
	owners := map[owner]bool{{kind: "Hostname", name: name}: true}
	for _, entry := range p.mesh.Entries(name) {
		owners[owner{kind: entry.Kind, namespace: entry.Namespace, name: entry.Name}] = true
	}
	for _, route := range p.mesh.Routes {
		for _, parent := range fields.Maps(fields.Map(route.Object, "spec"), "parentRefs") {
			own := owner{kind: fields.String(parent, "kind"), name: fields.String(parent, "name")}
			qualified := owner{kind: own.kind, namespace: cmp.Or(fields.String(parent, "namespace"), route.GetNamespace()), name: own.name}
			if owners[qualified] || owners[own] {
				return refusal.New(refusal.GatewayAPIRoute, "this version of Squall derives shadows from VirtualServices only", "%s %s/%s of the Gateway API routes calls to %s", route.GetKind(), route.GetNamespace(), route.GetName(), name)
			}
		}
	}
	return nil
}

// checkPorts refuses ports that the target does not have, and aborts and delays
// where no port can have the protocol HTTP.
func checkPorts(g *render.Group, ports []config.Port) error {
	for _, one := range g.Injections {
		if len(ports) == 0 {
			return refusal.New(refusal.UnknownPorts, "a Service needs spec.ports, and a ServiceEntry too; with --mesh its manifest must be among the files", "%s has no port that namespace %s can see, so its proxies have no route for it", g.Host, g.Callers)
		}
		reachable := slices.DeleteFunc(slices.Clone(ports), func(p config.Port) bool {
			return one.Target.Port != 0 && int64(one.Target.Port) != p.Number
		})
		if len(reachable) == 0 {
			return refusal.New(refusal.NoSuchPort, "name one of its ports, "+similar.Ports(ports)+", or leave target.port out", "%s has no port %d", g.Host, one.Target.Port)
		}
		if one.Fault.Blackhole == nil && !slices.ContainsFunc(reachable, config.Port.HasHTTPRoutes) {
			return refusal.New(refusal.NotHTTP, "name its protocol in the port's name or appProtocol, or use a blackhole", "abort and delay act on HTTP and gRPC only, and %s has another protocol on port %d (%s)", g.Host, reachable[0].Number, reachable[0].Name)
		}
		if one.Fault.Blackhole != nil && !slices.ContainsFunc(reachable, config.Port.HasHTTPRoutes) && !slices.ContainsFunc(reachable, func(p config.Port) bool { return len(render.Requestless(one, p)) > 0 && p.Protocol() != config.UDP }) {
			return refusal.New(refusal.NotHTTP, "leave spec.match out", "spec.match is about requests, and %s has connections only on port %d (%s)", g.Host, reachable[0].Number, reachable[0].Name)
		}
	}
	return nil
}

// checkScopeRevision refuses a Sidecar that the callers' control plane may not
// read.
func checkScopeRevision(p *planner, scope config.Scope, namespace string) error {
	if scope.Revision == "" || p.mesh.Plane.Labelled || scope.Revision == p.mesh.Namespaces[namespace][config.RevisionLabel] {
		return nil
	}
	return refusal.New(refusal.OtherRevision, "label the namespace with the revision, or remove the label from the Sidecar",
		"Sidecar %s is for the control-plane revision %s only, and namespace %s is not labelled with it", scope.Sidecar, scope.Revision, namespace)
}

// checkSharing refuses blackholes of connections that proxies cannot tell from those to
// other hosts, or that they route by another host.
func (p *planner) checkSharing(g *render.Group, views []view, ports []config.Port) error {
	for _, one := range g.Injections {
		if one.Fault.Blackhole == nil {
			continue
		}
		for _, port := range ports {
			if len(render.Requestless(one, port)) == 0 {
				continue
			}
			for _, v := range views {
				if others := routing.Sharers(p.mesh, g.Host, port, g.Callers, v.listener); len(others) > 0 {
					return refusal.New(refusal.SharedListener, "set addresses in the ServiceEntries, or name target.port if another port is meant",
						"proxies of %s cannot tell connections to port %d of %s from those to %s: the ServiceEntries have no addresses, so all of them share one listener", g.Callers, port.Number, g.Host, strings.Join(others, ", "))
				}
				if taken, ok := routing.TakenServerName(p.mesh, g.Host, port, g.Callers, v.listener); ok {
					return refusal.New(refusal.SharedListener, "write the tls routes of each host in a VirtualService for this host alone, or set addresses in the ServiceEntries",
						"proxies of %s use VirtualService %s/%s for connections with the server name %s on port %d because it is also for %s, which they handle before, so one for %s would come too late",
						g.Callers, taken.By.GetNamespace(), taken.By.GetName(), g.Host, port.Number, taken.Host, g.Host)
				}
			}
		}
	}
	return nil
}
