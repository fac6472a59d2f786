package mesh

import (
	"fmt"
	"slices"
	"strings"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/mesh/render"
)

// places returns the places for an object of a group, in the order of preference:
// the home namespace, the callers' namespace, the target's.
func (p *planner) places(g *render.Group) []render.Place {
	namespaces := []string{p.options.HomeNamespace, g.Callers}
	for _, entry := range p.mesh.Entries(g.Host) {
		namespaces = append(namespaces, entry.Namespace)
	}
	var found []render.Place
	for _, namespace := range namespaces {
		at := render.Place{Namespace: namespace, ExportTo: g.Callers, Visibility: config.Exported}
		if namespace == g.Callers {
			at = render.Place{Namespace: namespace, ExportTo: ".", Visibility: config.Private}
		}
		if namespace != "" && !slices.Contains(found, at) {
			found = append(found, at)
		}
	}
	return found
}

// choose returns the first place where an object takes precedence over the base,
// is imported by all listeners, and is permitted.
func (p *planner) choose(g *render.Group, base *routing.Candidate, views []view) (render.Place, error) {
	var reasons []string
	for _, at := range p.places(g) {
		err := p.checkPlace(g, at, base, views)
		if err == nil {
			return at, nil
		}
		reasons = append(reasons, at.Namespace+": "+err.Error())
	}
	if base != nil && base.Visibility == config.Private && !base.IsWildcard() {
		return render.Place{}, refusal.New(refusal.PrivateBase, "remove exportTo from it, or name callers in another namespace",
			"VirtualService %s is effective and private to %s, where nothing outranks it", base.Name(), g.Callers)
	}
	return render.Place{}, refusal.New(refusal.NoPlacement, "--home-namespace names another one; exportTo of the effective VirtualService, the egress hosts of the Sidecar and the permissions decide",
		"no namespace can hold a VirtualService that takes precedence for these callers: %s", strings.Join(reasons, "; "))
}

// checkPlace returns why an object cannot be at a place.
func (p *planner) checkPlace(g *render.Group, at render.Place, base *routing.Candidate, views []view) error {
	_, exists := p.mesh.Namespaces[at.Namespace]
	switch {
	case !exists:
		return fmt.Errorf("there is no such namespace")
	case !p.mesh.Watches(at.Namespace):
		return fmt.Errorf("istiod does not watch it (discoverySelectors)")
	case base != nil && !base.IsWildcard() && at.Visibility >= base.Visibility:
		return fmt.Errorf("%s is %s too, and older", base.Name(), at.Visibility)
	case p.options.Denied[at.Namespace] != "":
		return fmt.Errorf("%s", p.options.Denied[at.Namespace])
	}
	for _, v := range views {
		if !v.listener.ImportsVirtualService(at.Namespace, []string{g.Host}) {
			return fmt.Errorf("Sidecar %s does not import it", v.sidecar) //nolint:staticcheck // a kind begins it
		}
	}
	return nil
}

// checkBystanders refuses a place where the object would change the routes of
// other proxies of the callers' namespace. A new exact host replaces a wildcard
// for every proxy that imports it, even if it has no route for the proxy; and a
// copy of a wildcard has routes for all proxies.
func (p *planner) checkBystanders(g *render.Group, base *routing.Candidate, at render.Place) error {
	if base != nil && !base.IsWildcard() {
		return nil
	}
	for _, scope := range p.mesh.Scopes(g.Callers) {
		for _, l := range scope.Listeners {
			if !l.ImportsVirtualService(at.Namespace, []string{g.Host}) {
				continue
			}
			found := routing.Candidates(p.mesh, g.Host, g.Callers, l)
			switch {
			case base != nil && (len(found) == 0 || !sameBase(&found[0], base)):
				return refusal.New(refusal.WildcardForOthers, "create a VirtualService for exactly this host",
					"other proxies of %s do not use the routes of VirtualService %s (for %s), and a copy of its routes would reach them", g.Callers, base.Name(), base.Pattern)
			case base == nil && len(found) > 0 && found[0].IsWildcard():
				return refusal.New(refusal.WildcardForOthers, "create a VirtualService for exactly this host",
					"other proxies of %s use the routes of VirtualService %s (for %s), and one for the exact host would replace them", g.Callers, found[0].Name(), found[0].Pattern)
			}
		}
	}
	return nil
}
