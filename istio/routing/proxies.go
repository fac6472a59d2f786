package routing

import (
	"slices"

	"github.com/squall-chaos/squall/istio/fields"
)

// Proxies are proxies of one namespace that carry at least the labels and call
// one of the ports. As far as these are known, istiod generates the same routes
// for all of them.
type Proxies struct {
	Namespace string
	Labels    map[string]string
	Ports     []int64 // empty if they are not known
}

// Coverage is for how many of some proxies istiod generates a route.
type Coverage int

// The coverages.
const (
	None Coverage = iota
	Some
	All
)

// covered returns for how many of the proxies istiod generates a match on a port.
// It evaluates port, gateways and the source conditions when it generates the
// routes of a proxy; in a match that has gateways it ignores the source
// conditions (istio.io/istio/pilot/pkg/networking/core/route, TranslateRoute and
// sourceMatchHTTP).
func (p Proxies) covered(match map[string]any, port int64) Coverage {
	if own, set := fields.Int(match["port"]); set && own != 0 && own != port {
		if port == 0 {
			return Some
		}
		return None
	}
	if gateways, _ := match["gateways"].([]any); len(gateways) > 0 {
		if slices.Contains(gateways, any(MeshGateway)) {
			return All
		}
		return None
	}
	if namespace := fields.String(match, "sourceNamespace"); namespace != "" && namespace != p.Namespace {
		return None
	}
	result := All
	for key, value := range fields.Map(match, "sourceLabels") {
		switch own, has := p.Labels[key]; {
		case !has:
			result = Some
		case own != value:
			return None
		}
	}
	return result
}

// CoveredBy returns for how many of the proxies istiod generates any of the
// routes.
func (p Proxies) CoveredBy(routes []map[string]any) Coverage {
	ports := p.Ports
	if len(ports) == 0 {
		ports = []int64{0}
	}
	least, most := All, None
	for _, port := range ports {
		best := None
		for _, route := range routes {
			matches := fields.Maps(route, "match")
			if len(matches) == 0 {
				best = All
			}
			for _, match := range matches {
				best = max(best, p.covered(match, port))
			}
		}
		least, most = min(least, best), max(most, best)
	}
	switch {
	case least == All:
		return All
	case most == None:
		return None
	default:
		return Some
	}
}
