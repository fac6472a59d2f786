package mesh

import (
	"errors"
	"slices"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/mesh/render"
)

// view is what is effective for some callers of a group in one egress listener.
type view struct {
	routing.Effective
	listener config.Listener
	sidecar  string // namespace/name; empty if no Sidecar applies
}

// views returns what is effective for the callers in every egress listener by
// which they can reach the target. All of them must have the same base, because
// one object is for all of them. After an error the views are those up to the one
// that it is about.
func (p *planner) views(g *render.Group, ports []config.Port) ([]view, error) {
	var views []view
	for _, proxies := range g.Proxies(ports) {
		known := len(views)
		scopes := p.mesh.ScopesFor(g.Callers, proxies.Labels)
		for _, scope := range scopes {
			if err := checkScopeRevision(p, scope, g.Callers); err != nil {
				return views, err
			}
			reached := false
			for _, l := range scope.Listeners {
				if !p.reachable(g, proxies, l) {
					continue
				}
				reached = true
				here := proxies
				if l.Port != 0 {
					here.Ports = []int64{l.Port}
				}
				found, err := routing.Find(p.mesh, g.Host, withHTTPRoutes(here, ports), l)
				views = append(views, view{Effective: found, listener: l, sidecar: scope.Sidecar})
				if err != nil {
					return views, undecided(err, g.Callers)
				}
			}
			// Where a Sidecar permits only what it imports, the proxies refuse the calls, so
			// the fault misses none.
			if !reached && !scope.RegistryOnly {
				return views, notImported(scope, g.Host)
			}
		}
		if len(views) == known {
			return views, notImported(scopes[0], g.Host)
		}
	}
	for _, other := range views[1:] {
		if !sameBase(other.Base, views[0].Base) {
			return views, refusal.New(refusal.DifferentRoutes, "name the callers of each kind, by their labels and the port, in a separate experiment",
				"the callers in %s do not use the same routes to %s: %s and %s", g.Callers, g.Host, render.DescribeBase(views[0].Base), render.DescribeBase(other.Base))
		}
	}
	return views, nil
}

// reachable reports whether proxies can reach the target by an egress listener.
func (p *planner) reachable(g *render.Group, proxies routing.Proxies, l config.Listener) bool {
	if l.Port != 0 && len(proxies.Ports) > 0 && !slices.Contains(proxies.Ports, l.Port) {
		return false
	}
	seen, err := p.mesh.Seen(g.Host, g.Callers, l)
	return err == nil && len(seen) > 0
}

// notImported returns the refusal of a host that no listener of a scope imports.
func notImported(scope config.Scope, name string) error {
	return refusal.New(refusal.NotImported, "add the host to the Sidecar's egress hosts, or name callers that call it",
		"Sidecar %s does not import %s, so the callers' proxies have no route for it", scope.Sidecar, name)
}

// undecided returns the refusal for routes that routing.Find cannot decide.
func undecided(err error, callers string) error {
	why, ok := errors.AsType[*routing.UndecidedError](err)
	if !ok {
		return err
	}
	name := why.Candidate.Name()
	switch why.Why {
	case routing.AmbiguousCase:
		return refusal.New(refusal.WildcardForOthers, "write the host in lower case there",
			"VirtualService %s names %s, in another case than the mesh, next to %s (for %s), and which one is effective depends on the proxy", name, why.Candidate.Pattern, why.Other.Name(), why.Other.Pattern)
	case routing.OtherRevision:
		return refusal.New(refusal.OtherRevision, "label the namespace with the revision, or remove the label from the VirtualService",
			"VirtualService %s is for the control-plane revision %s only, and namespace %s is not labelled with it", name, why.Revision, callers)
	case routing.RoutesForSome:
		return refusal.New(refusal.RoutesForSome, "name the callers' labels as the VirtualService does, and the port; several namespaces or labels are several callers",
			"VirtualService %s has routes for some proxies or ports only, so the fault would miss the others of %s", name, callers)
	case routing.WildcardWithoutRoutes:
		return refusal.New(refusal.WildcardForOthers, "create a VirtualService for exactly this host",
			"VirtualService %s (for %s) is the effective one and has no route for these callers; a new one for the host would replace it for other callers", name, why.Candidate.Pattern)
	case routing.UnknownAge:
		return unknownAge(&config.AgeError{Kind: "VirtualService", First: name, Second: why.Other.Name()})
	default:
		return err
	}
}

func sameBase(a, b *routing.Candidate) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Unstructured == b.Unstructured
}
