package mesh

import (
	"slices"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/mesh/render"
)

// checkNames refuses a host whose calls are routed in different ways, depending on
// the name that the callers use for it. An object for the host would take its other
// names away from the VirtualServices that route them today.
func (p *planner) checkNames(g *render.Group, views []view, ports []config.Port) error {
	if err := p.checkAlias(g, views, ports); err != nil {
		return err
	}
	for _, v := range views {
		for _, proxies := range g.Proxies(ports) {
			for _, other := range routing.OtherNames(p.mesh, g.Host, withHTTPRoutes(proxies, ports), v.listener, v.Base) {
				return refusal.New(refusal.OtherNames, "write "+g.Host+" in the hosts of VirtualService "+other.Name()+", or name the host that it routes to",
					"VirtualService %s routes calls to %s, another name of %s, and one for %s would replace its routes", other.Name(), other.Pattern, g.Host, g.Host)
			}
		}
	}
	return nil
}

// checkAlias refuses an ExternalName Service that has no effective VirtualService:
// proxies then route calls to it as those to the host behind it
// (istio.io/istio/pilot/pkg/networking/core/route, BuildSidecarVirtualHostWrapper). It
// also refuses one with a port that the host behind it does not have for the callers: an
// alias has no listener (buildSidecarOutboundListener), so calls may pass the proxy without
// its routes.
func (p *planner) checkAlias(g *render.Group, views []view, ports []config.Port) error {
	concrete := routing.Concrete(p.mesh, g.Host)
	if concrete == g.Host {
		return nil
	}
	routed := func(v view) bool {
		if v.Base == nil {
			return false
		}
		behind := routing.Candidates(p.mesh, concrete, g.Callers, v.listener)
		return len(behind) == 0 || !routing.MayComeBefore(behind[0], *v.Base)
	}
	if slices.ContainsFunc(views, func(v view) bool { return !routed(v) }) || !slices.ContainsFunc(ports, config.Port.HasHTTPRoutes) {
		return refusal.New(refusal.ExternalName, "name that host, if it is in the mesh",
			"%s is an alias of another host, %s (a Service of type ExternalName), and proxies route calls to it as calls to that one", g.Host, concrete)
	}
	return checkAliasPorts(p, g, views, ports, concrete)
}

// checkAliasPorts refuses an alias with an HTTP port that the host behind it does not have
// for the callers.
func checkAliasPorts(p *planner, g *render.Group, views []view, ports []config.Port, concrete string) error {
	for _, v := range views {
		behind, err := p.mesh.Seen(concrete, g.Callers, v.listener)
		if err != nil {
			return unknownAge(err)
		}
		for _, proxies := range g.Proxies(ports) {
			for _, number := range withHTTPRoutes(proxies, ports).Ports {
				if !slices.ContainsFunc(config.PortsOf(behind), func(port config.Port) bool { return port.Number == number && port.HasHTTPRoutes() }) {
					return refusal.New(refusal.ExternalName, "export "+concrete+" with this port to "+g.Callers+", or name it as the target",
						"%s is an alias of another host, %s, which has no HTTP port %d for %s, so proxies may have no listener for the calls", g.Host, concrete, number, g.Callers)
				}
			}
		}
	}
	return nil
}
