package mesh

import (
	"errors"
	"slices"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/mesh/render"
)

// entries returns the entries of the registry by which the callers of a group see the
// target. All egress listeners must see the entries of one namespace, because one object
// is for all of them. There are none if no listener imports the host.
func (p *planner) entries(g *render.Group) ([]config.Entry, error) {
	var found []config.Entry
	for _, proxies := range g.Proxies(nil) {
		for _, scope := range p.mesh.ScopesFor(g.Callers, proxies.Labels) {
			for _, l := range scope.Listeners {
				seen, err := p.mesh.Seen(g.Host, g.Callers, l)
				if err != nil {
					return nil, unknownAge(err)
				}
				switch {
				case len(seen) == 0:
				case len(found) == 0:
					found = seen
				case found[0].Namespace != seen[0].Namespace:
					return nil, refusal.New(refusal.DifferentRoutes, "name the callers of each kind, by their labels, in a separate experiment",
						"the callers in %s do not use the same entry for %s: that in %s and that in %s", g.Callers, g.Host, found[0].Namespace, seen[0].Namespace)
				}
			}
		}
	}
	return found, nil
}

// unknownAge returns the refusal for an order that the creation times decide.
func unknownAge(err error) error {
	age, ok := errors.AsType[*config.AgeError](err)
	if !ok {
		return err
	}
	return refusal.New(refusal.UnknownAge, "remove one of the two, or plan against the cluster; a manifest may have metadata.creationTimestamp", "%v", age)
}

// withHTTPRoutes returns proxies for the ports for which they may have
// HTTP routes: a port for TLS or TCP has none, whatever a VirtualService has for it.
// Proxies without such a port are returned as they are.
func withHTTPRoutes(proxies routing.Proxies, ports []config.Port) routing.Proxies {
	var numbers []int64
	for _, number := range proxies.Ports {
		if slices.ContainsFunc(ports, func(p config.Port) bool { return p.Number == number && p.HasHTTPRoutes() }) {
			numbers = append(numbers, number)
		}
	}
	if len(numbers) > 0 {
		proxies.Ports = numbers
	}
	return proxies
}
