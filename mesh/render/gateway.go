package render

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/match"
	"github.com/squall-chaos/squall/mesh/refusal"
)

// GatewayRoutes renders the routes of a gateway with the faults of a group.
type GatewayRoutes struct{ r *renderer }

// NewGatewayRoutes returns a renderer for a group and a place. Of the input it uses neither
// the effective routes nor the listeners. The error is a *refusal.Error.
func NewGatewayRoutes(in Input) (GatewayRoutes, error) {
	r := &renderer{
		mesh: in.Mesh, group: in.Group, place: in.Place, experiment: in.Experiment,
		blackholes: newBlackholes(in.Mesh, in.Group, in.Place, in.Ports, in.BlackholeAddress),
	}
	r.blackholes.portOf = func(destination map[string]any) int64 { return portOf(r, destination) }
	return GatewayRoutes{r: r}, r.blackholes.check()
}

// Faulted returns routes of a server with a port, with the injections on exactly the
// requests that their conditions match and that lead to the target. bases are the
// VirtualServices of the routes. reached reports for each condition, in the order of the
// injections, whether a route carries the fault for it; an injection without conditions
// has one.
func (g GatewayRoutes) Faulted(routes []map[string]any, bases []*routing.Candidate, port int64, active []Injection) (out []any, reached []bool, err error) {
	g.r.bases, g.r.listening = bases, port
	if out, err = g.r.faulted(routes, active); err != nil {
		return nil, nil, err
	}
	for _, aim := range g.r.aims {
		reached = append(reached, aim.reached)
	}
	return out, reached, nil
}

// CanHit reports whether a route of a server with a port can carry an injection.
func (g GatewayRoutes) CanHit(s Injection, route map[string]any, port int64) bool {
	g.r.listening = port
	return g.r.canHit(s, route)
}

// Object returns a VirtualService without a spec.
func (g GatewayRoutes) Object() *unstructured.Unstructured {
	return newVirtualService(g.r.mesh.APIVersion, g.r.group, g.r.place)
}

// Helpers returns the ServiceEntries of blackholes. The routes must be rendered before.
func (g GatewayRoutes) Helpers() []*unstructured.Unstructured { return g.r.blackholes.objects() }

// Signature returns how the requests that are hit look in telemetry.
func (g GatewayRoutes) Signature() Signature {
	signature := g.r.signature
	signature.Blackholes = g.r.blackholes.hosts()
	return signature
}

// UsesServerPort reports whether a destination of a route has the port of the server.
func (g GatewayRoutes) UsesServerPort(route map[string]any) bool {
	for _, weighted := range fields.Maps(route, "route") {
		destination := fields.Map(weighted, "destination")
		if fields.Map(destination, "port") == nil && len(portsOf(g.r, destination)) != 1 {
			return true
		}
	}
	return false
}

// leadsTo reports whether a destination is the target of an injection.
func leadsTo(r *renderer, s Injection, destination map[string]any) bool {
	name := host.Qualify(fields.String(destination, "host"), r.place.Namespace, r.mesh.ClusterDomain)
	return strings.EqualFold(name, r.group.Host) &&
		(s.Target.Subset == "" || destination["subset"] == s.Target.Subset) &&
		(s.Target.Port == 0 || portOf(r, destination) == int64(s.Target.Port))
}

// portOf returns the port that a destination means: its own, else the only port of its
// host, else the port of the server (istio.io/istio/pilot/pkg/networking/core/route,
// GetDestinationCluster).
func portOf(r *renderer, destination map[string]any) int64 {
	if number, ok := fields.Int(fields.Map(destination, "port")["number"]); ok {
		return number
	}
	if ports := portsOf(r, destination); len(ports) == 1 {
		return ports[0].Number
	}
	return r.listening
}

// portsOf returns the ports of the host of a destination.
func portsOf(r *renderer, destination map[string]any) []config.Port {
	name := host.Qualify(fields.String(destination, "host"), r.place.Namespace, r.mesh.ClusterDomain)
	return config.PortsOf(slices.DeleteFunc(r.mesh.Entries(name), func(e config.Entry) bool { return !r.mesh.CanSee(e, r.group.Callers) }))
}

// checkMixed refuses an abort or a delay on a route that sends a share of its requests to
// other hosts: Envoy injects both before it chooses the destination.
func checkMixed(r *renderer, s Injection, route map[string]any) error {
	if r.group.Gateway == nil || s.Fault.Abort == nil && s.Fault.Delay == nil {
		return nil
	}
	all := fields.Maps(route, "route")
	for _, weighted := range all {
		if weight, _ := fields.Int(weighted["weight"]); weight == 0 && len(all) > 1 || r.isTarget(s, weighted) || r.blackholes.isOurs(weighted) {
			continue
		}
		destination := fields.Map(weighted, "destination")
		return refusal.New(refusal.Inexpressible, "use a blackhole, which is for one destination, or name the other one as the target too",
			"an http route of %s divides its requests between %s and %s, and a proxy aborts and delays them before it chooses", DescribeBase(r.now.Base), r.group.Host, fields.String(destination, "host"))
	}
	return nil
}

// DescribeTarget returns the target of an injection in words.
func DescribeTarget(name string, s Injection) string {
	if s.Target.Port != 0 {
		name = fmt.Sprintf("port %d of %s", s.Target.Port, name)
	}
	if s.Target.Subset != "" {
		name = "subset " + s.Target.Subset + " of " + name
	}
	return name
}

// DescribeCondition returns a condition in words.
func DescribeCondition(c match.Condition) string { return describeCondition(c) }
