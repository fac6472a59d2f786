package mesh

import (
	"slices"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/mesh/render"
)

// checkAffinity refuses to replace istiod's default route where a DestinationRule has a
// consistent hash for one port: the default route has the hash, a route of a
// VirtualService only if its destination names the port, and Squall's must not name one
// (istio.io/istio/pilot/pkg/networking/core/route, hashForService and
// hashForHTTPDestination).
func (p *planner) checkAffinity(g *render.Group, base *routing.Candidate, ports []config.Port) error {
	if base != nil {
		return nil
	}
	for _, proxies := range g.Proxies(ports) {
		policies := routing.PoliciesFor(p.mesh, g.Host, proxies)
		for _, rule := range slices.Concat(policies.Rules, policies.Others) {
			for _, settings := range fields.Maps(fields.Map(fields.Map(rule.Object, "spec"), "trafficPolicy"), "portLevelSettings") {
				number, _ := fields.Int(fields.Map(settings, "port")["number"])
				if fields.Map(fields.Map(settings, "loadBalancer"), "consistentHash") == nil || !slices.Contains(proxies.Ports, number) {
					continue
				}
				return refusal.New(refusal.Affinity, "create a VirtualService for the host whose destination names the port, or name another port in target.port",
					"DestinationRule %s/%s has a consistent hash for port %d of %s, and a VirtualService without the port would lose it", rule.GetNamespace(), rule.GetName(), number, g.Host)
			}
		}
	}
	return nil
}
