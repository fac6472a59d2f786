package mesh

import (
	"cmp"
	"slices"
)

// liveRun gives the run that disturbs the same calls already, if one does.
func (s Snapshot) liveRun(host, callers string) (run string, live bool) {
	for _, vs := range s.VirtualServices {
		annotations := vs.GetAnnotations()
		if isOurs(vs) && annotations[HostAnnotation] == host && annotations[CallersAnnotation] == callers {
			return vs.GetLabels()[RunLabel], true
		}
	}
	return "", false
}

// revisionLabel binds an object to one control-plane revision; istiod of
// another revision does not see it.
const revisionLabel = "istio.io/rev"

// checkCallers refuses a namespace whose proxies take no VirtualService.
func (s Snapshot) checkCallers(namespace string) error {
	labels, exists := s.Namespaces[namespace]
	if !exists {
		return refuse(NoNamespace, "check spec.callers; kubectl get namespaces lists them", "there is no namespace %s", namespace)
	}
	if labels["istio.io/dataplane-mode"] == "ambient" {
		return refuse(Ambient, "move the callers to sidecars, or name callers that have them", "namespace %s is ambient: its ztunnel knows no VirtualService, so a fault would do nothing", namespace)
	}
	return nil
}

// useWaypointLabel sends calls to a host through a waypoint, which takes its
// routes from other namespaces than the callers'.
const useWaypointLabel = "istio.io/use-waypoint"

// checkTarget refuses a host whose calls are not routed by the callers' own
// proxies and VirtualServices alone.
func (s Snapshot) checkTarget(host string) error {
	type owner struct{ kind, namespace, name string }
	// A Hostname stands for a host of a ServiceEntry, in any namespace.
	owners := map[owner]bool{{"Hostname", "", host}: true}
	for _, i := range s.standIns(host) {
		if i.external != "" {
			return refuse(ExternalName, "name that host, if a ServiceEntry knows it", "Service %s/%s only stands for another host, %s (type ExternalName), so proxies route calls by that one", i.namespace, i.name, i.external)
		}
		owners[owner{i.kind, i.namespace, i.name}] = true
		waypoint, own := i.labels[useWaypointLabel]
		if !own {
			waypoint = s.Namespaces[i.namespace][useWaypointLabel]
		}
		if waypoint != "" && waypoint != "none" {
			return refuse(Waypoint, "name a target without a waypoint", "calls to %s go through a waypoint, which this version of Squall does not know", host)
		}
	}
	for _, route := range s.Routes {
		for _, parent := range mapsAt(mapAt(route.Object, "spec"), "parentRefs") {
			kind, _ := parent["kind"].(string)
			name, _ := parent["name"].(string)
			namespace, _ := parent["namespace"].(string)
			if owners[owner{kind, cmp.Or(namespace, route.GetNamespace()), name}] || owners[owner{kind, "", name}] {
				return refuse(GatewayAPIRoute, "this version of Squall derives shadows from VirtualServices only", "%s %s/%s of the Gateway API routes calls to %s", route.GetKind(), route.GetNamespace(), route.GetName(), host)
			}
		}
	}
	return nil
}

// checkPorts refuses ports that the target does not have, and aborts and delays
// where no port could speak HTTP.
func checkPorts(g *group, ports []Port) error {
	for _, one := range g.injections {
		if len(ports) == 0 {
			return refuse(UnknownPorts, "a Service needs spec.ports, and a ServiceEntry too; with --mesh its manifest must be among the files", "%s has no port that namespace %s can see, so its proxies have no route for it", g.host, g.callers)
		}
		reachable := slices.DeleteFunc(slices.Clone(ports), func(p Port) bool {
			return one.Target.Port != 0 && int64(one.Target.Port) != p.Number
		})
		if len(reachable) == 0 {
			return refuse(NoSuchPort, "name one of its ports, or leave target.port out", "%s has no port %d", g.host, one.Target.Port)
		}
		if one.Fault.Blackhole == nil && !slices.ContainsFunc(reachable, Port.hasHTTPRoutes) {
			return refuse(NotHTTP, "name its protocol in the port's name or appProtocol, or use a blackhole", "abort and delay act on HTTP and gRPC only, and %s speaks something else on port %d (%s)", g.host, reachable[0].Number, reachable[0].Name)
		}
		if one.Fault.Blackhole != nil && !slices.ContainsFunc(reachable, Port.hasHTTPRoutes) && !slices.ContainsFunc(reachable, func(p Port) bool { return len(requestless(one, p)) > 0 && p.speaks() != speaksUDP }) {
			return refuse(NotHTTP, "leave spec.match out", "spec.match is about requests, and %s has connections only on port %d (%s)", g.host, reachable[0].Number, reachable[0].Name)
		}
	}
	return nil
}

// checkRevision refuses a VirtualService that would be in force, if only the
// callers' proxies certainly saw it.
func (s Snapshot) checkRevision(c candidate, namespace string) error {
	revision := c.GetLabels()[revisionLabel]
	if revision == "" || revision == s.Namespaces[namespace][revisionLabel] {
		return nil
	}
	return refuse(OtherRevision, "label the namespace with the revision, or remove the label from the VirtualService",
		"VirtualService %s is for the control-plane revision %s only, and namespace %s is not labelled to be of it", c.name(), revision, namespace)
}

// checkScopeRevision refuses a Sidecar of which it cannot be told whether the
// callers' control plane reads it.
func (s Snapshot) checkScopeRevision(scope scope, namespace string) error {
	if scope.revision == "" || scope.revision == s.Namespaces[namespace][revisionLabel] {
		return nil
	}
	return refuse(OtherRevision, "label the namespace with the revision, or remove the label from the Sidecar",
		"Sidecar %s is for the control-plane revision %s only, and namespace %s is not labelled to be of it", scope.sidecar, scope.revision, namespace)
}
