package mesh

import (
	"fmt"
	"slices"
	"strings"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/refusal"
)

// place is a namespace for an object, and its visibility there for the callers.
type place struct {
	namespace  string
	exportTo   string
	visibility config.Visibility
}

// places returns the places for an object of a group, in the order of preference:
// the home namespace, the callers' namespace, the target's.
func (p *planner) places(g *group) []place {
	namespaces := []string{p.options.HomeNamespace, g.callers}
	for _, entry := range p.mesh.Entries(g.host) {
		namespaces = append(namespaces, entry.Namespace)
	}
	var found []place
	for _, namespace := range namespaces {
		at := place{namespace: namespace, exportTo: g.callers, visibility: config.Exported}
		if namespace == g.callers {
			at = place{namespace: namespace, exportTo: ".", visibility: config.Private}
		}
		if namespace != "" && !slices.Contains(found, at) {
			found = append(found, at)
		}
	}
	return found
}

// choose returns the first place where an object takes precedence over the base,
// is imported by all listeners, and is permitted.
func (p *planner) choose(g *group, base *routing.Candidate, views []view) (place, error) {
	var reasons []string
	for _, at := range p.places(g) {
		err := p.checkPlace(g, at, base, views)
		if err == nil {
			return at, nil
		}
		reasons = append(reasons, at.namespace+": "+err.Error())
	}
	if base != nil && base.Visibility == config.Private && !base.IsWildcard() {
		return place{}, refusal.New(refusal.PrivateBase, "remove exportTo from it, or name callers in another namespace",
			"VirtualService %s is effective and private to %s, where nothing outranks it", base.Name(), g.callers)
	}
	return place{}, refusal.New(refusal.NoPlacement, "--home-namespace names another one; exportTo of the effective VirtualService, the egress hosts of the Sidecar and the permissions decide",
		"no namespace can hold a VirtualService that takes precedence for these callers: %s", strings.Join(reasons, "; "))
}

// checkPlace returns why an object cannot be at a place.
func (p *planner) checkPlace(g *group, at place, base *routing.Candidate, views []view) error {
	_, exists := p.mesh.Namespaces[at.namespace]
	switch {
	case !exists:
		return fmt.Errorf("there is no such namespace")
	case !p.mesh.Watches(at.namespace):
		return fmt.Errorf("istiod does not watch it (discoverySelectors)")
	case base != nil && !base.IsWildcard() && at.visibility >= base.Visibility:
		return fmt.Errorf("%s is %s too, and older", base.Name(), at.visibility)
	case p.options.Denied[at.namespace] != "":
		return fmt.Errorf("%s", p.options.Denied[at.namespace])
	}
	for _, v := range views {
		if !v.listener.ImportsVirtualService(at.namespace, []string{g.host}) {
			return fmt.Errorf("Sidecar %s does not import it", v.sidecar) //nolint:staticcheck // a kind begins it
		}
	}
	return nil
}

// checkBystanders refuses a place where the object would change the routes of
// other proxies of the callers' namespace. A new exact host replaces a wildcard
// for every proxy that imports it, even if it has no route for the proxy; and a
// copy of a wildcard has routes for all proxies.
func (p *planner) checkBystanders(g *group, base *routing.Candidate, at place) error {
	if base != nil && !base.IsWildcard() {
		return nil
	}
	for _, scope := range p.mesh.Scopes(g.callers) {
		for _, l := range scope.Listeners {
			if !l.ImportsVirtualService(at.namespace, []string{g.host}) {
				continue
			}
			found := routing.Candidates(p.mesh, g.host, g.callers, l)
			switch {
			case base != nil && (len(found) == 0 || !sameBase(&found[0], base)):
				return refusal.New(refusal.WildcardForOthers, "create a VirtualService for exactly this host",
					"other proxies of %s do not use the routes of VirtualService %s (for %s), and a copy of its routes would reach them", g.callers, base.Name(), base.Pattern)
			case base == nil && len(found) > 0 && found[0].IsWildcard():
				return refusal.New(refusal.WildcardForOthers, "create a VirtualService for exactly this host",
					"other proxies of %s use the routes of VirtualService %s (for %s), and one for the exact host would replace them", g.callers, found[0].Name(), found[0].Pattern)
			}
		}
	}
	return nil
}
