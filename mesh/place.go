package mesh

import (
	"fmt"
	"slices"
	"strings"
)

// placement is where an object would stand, and for whom.
type placement struct {
	namespace string
	exportTo  string
	bucket    bucket
}

// placements gives the namespaces that a shadow may stand in, in the order of
// preference: the one that is asked for, the callers', the target's.
func (s Snapshot) placements(g *group, home string) []placement {
	namespaces := []string{home, g.callers}
	for _, standIn := range s.standIns(g.host) {
		namespaces = append(namespaces, standIn.namespace)
	}
	var found []placement
	for _, namespace := range namespaces {
		p := placement{namespace, g.callers, exported}
		if namespace == g.callers {
			p = placement{namespace, ".", private}
		}
		if namespace != "" && !slices.Contains(found, p) {
			found = append(found, p)
		}
	}
	return found
}

// choose gives the first placement that takes precedence over the base, that
// all listeners import, and that is permitted.
func (s Snapshot) choose(g *group, o Options, base *candidate, seen []sight) (placement, error) {
	var reasons []string
	for _, p := range s.placements(g, o.HomeNamespace) {
		reason := ""
		_, exists := s.Namespaces[p.namespace]
		switch {
		case !exists:
			reason = "there is no such namespace"
		case base != nil && !base.wildcard() && p.bucket >= base.bucket:
			reason = fmt.Sprintf("%s is %s too, and older", base.name(), p.bucket)
		case o.Denied[p.namespace] != "":
			reason = o.Denied[p.namespace]
		default:
			for _, sight := range seen {
				if !sight.importsVirtualService(p.namespace, []string{g.host}) {
					reason = fmt.Sprintf("Sidecar %s does not import it", sight.sidecar)
				}
			}
		}
		if reason == "" {
			return p, nil
		}
		reasons = append(reasons, p.namespace+": "+reason)
	}
	if base != nil && base.bucket == private && !base.wildcard() {
		return placement{}, refuse(PrivateBase, "remove exportTo from it, or name callers in another namespace",
			"VirtualService %s is in force and private to %s, where nothing outranks it", base.name(), g.callers)
	}
	return placement{}, refuse(NoPlacement, "--home-namespace names another one; exportTo of the VirtualService in force, the egress hosts of the Sidecar and the permissions decide",
		"no namespace would do for a VirtualService that these callers take routes from: %s", strings.Join(reasons, "; "))
}

// sight is one way in which some callers see the target: what is in force for
// them in one egress listener.
type sight struct {
	listener
	sidecar string
	inForce
}

// see finds what is in force for the callers, in every egress listener by which
// they can reach the target. They must all agree: one object stands for all.
func (s Snapshot) see(g *group, ports []Port) ([]sight, error) {
	standIns := s.standIns(g.host)
	var seen []sight
	for _, proxies := range g.proxies(ports) {
		for _, scope := range s.scopesFor(g.callers, proxies.labels) {
			reached := false
			for _, l := range scope.listeners {
				if l.port != 0 && len(proxies.ports) > 0 && !slices.Contains(proxies.ports, l.port) {
					continue
				}
				if !slices.ContainsFunc(standIns, func(i standIn) bool {
					return i.visibleTo(g.callers) && l.importsHost(i.namespace, g.host)
				}) {
					continue
				}
				reached = true
				here := proxies
				if l.port != 0 {
					here.ports = []int64{l.port}
				}
				found, err := s.findInForce(g.host, here, l)
				seen = append(seen, sight{l, scope.sidecar, found})
				if err != nil {
					return seen, err
				}
			}
			if reached {
				continue
			}
			if scope.sidecar == "" {
				return seen, refuse(NotVisible, "exportTo of the Service or ServiceEntry decides", "%s is not visible to namespace %s, so its proxies have no route for it", g.host, g.callers)
			}
			return seen, refuse(NotImported, "add the host to the Sidecar's egress hosts, or name callers that call it", "Sidecar %s does not import %s, so the callers' proxies have no route for it", scope.sidecar, g.host)
		}
	}
	for _, other := range seen[1:] {
		if !sameBase(other.base, seen[0].base) {
			return seen, refuse(DifferentRoutes, "name the callers of each kind, by their labels and the port, in an experiment of its own",
				"the callers in %s do not take the same routes to %s: %s and %s", g.callers, g.host, describeBase(seen[0].base), describeBase(other.base))
		}
	}
	return seen, nil
}

func sameBase(a, b *candidate) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Unstructured == b.Unstructured
}

func describeBase(base *candidate) string {
	if base == nil {
		return "the default route"
	}
	return "VirtualService " + base.name()
}

// checkBystanders refuses a placement that would take a wildcard VirtualService
// away from other proxies of the callers' namespace: a new exact host does so
// even where it has no route for a proxy.
func (s Snapshot) checkBystanders(g *group, base *candidate, p placement) error {
	if base != nil && !base.wildcard() {
		return nil
	}
	for _, scope := range s.scopes(g.callers) {
		for _, l := range scope.listeners {
			if !l.importsVirtualService(p.namespace, []string{g.host}) {
				continue
			}
			found := s.candidates(g.host, g.callers, l)
			if len(found) > 0 && found[0].wildcard() && !sameBase(&found[0], base) {
				return refuse(WildcardForOthers, "give the host a VirtualService of its own",
					"other proxies of %s take their routes from VirtualService %s (for %s), and one for the exact host would take them away", g.callers, found[0].name(), found[0].pattern)
			}
		}
	}
	return nil
}
