package mesh

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/host"
)

// bucket is how visible a VirtualService is to the proxies of one namespace.
// istiod looks through the buckets in this order and takes the oldest object
// of the first one that has the host (istio.io/istio/pilot/pkg/model,
// SelectVirtualServices); age means nothing across buckets.
type bucket int

const (
	private  bucket = iota // exported to its own namespace only, and that is the proxy's
	exported               // exported by name to the proxy's namespace
	public                 // exported to every namespace
	hidden                 // not visible
)

func (b bucket) String() string {
	return [...]string{"private", "exported by name", "public", "hidden"}[b]
}

// bucketFor gives the bucket of a VirtualService for proxies in a namespace
// (istio.io/istio/pilot/pkg/model, initVirtualServices).
func (s Snapshot) bucketFor(vs *unstructured.Unstructured, namespace string) bucket {
	exportTo := stringsAt(vs.Object, "spec", "exportTo")
	if len(exportTo) == 0 {
		exportTo = s.DefaultExportTo
	}
	own := vs.GetNamespace() == namespace
	switch {
	case !s.discovers(vs.GetNamespace()):
		return hidden
	case len(exportTo) == 0, slices.Contains(exportTo, "*"):
		return public
	case own && (slices.Contains(exportTo, ".") || slices.Contains(exportTo, namespace)):
		return private
	case !own && slices.Contains(exportTo, namespace):
		return exported
	default:
		return hidden
	}
}

// candidate is a VirtualService that could be in force for a host.
type candidate struct {
	*unstructured.Unstructured
	bucket bucket
	// pattern is the host by which it names the target: the target itself, or
	// the most specific of its wildcards.
	pattern string
}

// wildcard tells that the target is named only by a pattern.
func (c candidate) wildcard() bool { return strings.HasPrefix(c.pattern, "*") }

func (c candidate) name() string { return c.GetNamespace() + "/" + c.GetName() }

// candidates lists the VirtualServices that an egress listener of the proxies
// in the namespace could take the routes of host from, the one in force first:
// an exact host before any wildcard, a longer wildcard before a shorter one
// (istio.io/istio/pilot/pkg/model, computeWildcardHostVirtualServiceIndex), then
// the bucket, then age. All of the same pattern as the first are listed: where
// an exact one has no route for a proxy, the next is used.
func (s Snapshot) candidates(host, namespace string, l listener) []candidate {
	var found []candidate
	for _, vs := range s.VirtualServices {
		if isOurs(vs) || !appliesToSidecars(vs) {
			continue
		}
		b := s.bucketFor(vs, namespace)
		if b == hidden || !l.importsVirtualService(vs.GetNamespace(), s.hostsOf(vs)) {
			continue
		}
		if pattern := s.patternFor(vs, host); pattern != "" {
			found = append(found, candidate{vs, b, pattern})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(
			compareBool(a.wildcard(), b.wildcard()),
			cmp.Compare(len(b.pattern), len(a.pattern)),
			cmp.Compare(a.bucket, b.bucket),
			compareAge(a.Unstructured, b.Unstructured),
		)
	})
	return slices.DeleteFunc(found, func(c candidate) bool {
		return !strings.EqualFold(c.pattern, found[0].pattern) && !c.oddlyBeside(found[0], host)
	})
}

// oddlyBeside reports whether a wildcard stands beside an exact host that is
// written in another case. Istiod does not know the two apart, and takes the
// one that it finds first.
func (c candidate) oddlyBeside(exact candidate, host string) bool {
	return c.wildcard() && !exact.wildcard() && exact.pattern != host
}

// hostsOf gives the hosts of a VirtualService, fully qualified, in their own
// case.
func (s Snapshot) hostsOf(vs *unstructured.Unstructured) []string {
	hosts := stringsAt(vs.Object, "spec", "hosts")
	for i, h := range hosts {
		hosts[i] = host.Qualify(h, vs.GetNamespace(), s.ClusterDomain)
	}
	return hosts
}

// patternFor gives the most specific of the hosts of a VirtualService that
// stand for a host, or nothing. An exact one does so in any case, a wildcard
// only in the host's own (istio.io/istio/pilot/pkg/networking/core/route,
// separateVSHostsAndServices).
func (s Snapshot) patternFor(vs *unstructured.Unstructured, host string) string {
	best := ""
	for _, h := range s.hostsOf(vs) {
		if strings.EqualFold(h, host) {
			return h
		}
		if suffix, ok := strings.CutPrefix(h, "*"); ok && strings.HasSuffix(host, suffix) && len(h) > len(best) {
			best = h
		}
	}
	return best
}

// appliesToSidecars reports whether a VirtualService is bound to the mesh; an
// omitted list of gateways means that it is.
func appliesToSidecars(vs *unstructured.Unstructured) bool {
	gateways := stringsAt(vs.Object, "spec", "gateways")
	return len(gateways) == 0 || slices.Contains(gateways, meshGateway)
}

// meshGateway is the reserved name that stands for all sidecars.
const meshGateway = "mesh"

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// inForce is what routes the calls of some callers to a host today.
type inForce struct {
	// base is the VirtualService, or nil where istiod's default route is used.
	base *candidate
	// routes are its http routes with delegates replaced by their children's,
	// and delegates these children.
	routes    []map[string]any
	delegates []*unstructured.Unstructured
	// passed are those of the same host that are skipped because they have no
	// route for these callers.
	passed []candidate
}

// name gives the base as namespace/name.
func (f inForce) name() string { return f.base.name() }

// proxies are those of one namespace that istiod generates the same routes
// for, as far as an experiment can tell: they carry at least the labels, and
// call one of the ports.
type proxies struct {
	namespace string
	labels    map[string]string
	ports     []int64 // empty when they are not known
}

// coverage is for how many of some proxies istiod generates a route.
type coverage int

const (
	none coverage = iota
	some
	all
)

// covered tells for how many of the proxies the match is generated. Istiod
// evaluates port, gateways and the source conditions when it generates the
// routes of a proxy; in a match that has gateways it ignores the source
// conditions (istio.io/istio/pilot/pkg/networking/core/route, TranslateRoute
// and sourceMatchHTTP).
func (p proxies) covered(match map[string]any, port int64) coverage {
	if own, set := asInt(match["port"]); set && own != 0 && own != port {
		if port == 0 {
			return some
		}
		return none
	}
	if gateways, _ := match["gateways"].([]any); len(gateways) > 0 {
		if slices.Contains(gateways, any(meshGateway)) {
			return all
		}
		return none
	}
	if namespace, _ := match["sourceNamespace"].(string); namespace != "" && namespace != p.namespace {
		return none
	}
	result := all
	for key, value := range mapAt(match, "sourceLabels") {
		switch own, has := p.labels[key]; {
		case !has:
			result = some
		case own != value:
			return none
		}
	}
	return result
}

// coveredBy tells for how many of the proxies any of the routes is generated.
func (p proxies) coveredBy(routes []map[string]any) coverage {
	ports := p.ports
	if len(ports) == 0 {
		ports = []int64{0}
	}
	least, most := all, none
	for _, port := range ports {
		best := none
		for _, route := range routes {
			matches := mapsAt(route, "match")
			if len(matches) == 0 {
				best = all
			}
			for _, match := range matches {
				best = max(best, p.covered(match, port))
			}
		}
		least, most = min(least, best), max(most, best)
	}
	switch {
	case least == all:
		return all
	case most == none:
		return none
	default:
		return some
	}
}

// findInForce finds what is in force for some proxies in an egress listener. A
// VirtualService that has no route for a proxy is skipped, except that the most
// specific wildcard is the only one that is looked at
// (istio.io/istio/pilot/pkg/networking/core/route,
// buildSidecarVirtualHostsForVirtualService).
func (s Snapshot) findInForce(host string, p proxies, l listener) (inForce, error) {
	var passed []candidate
	found := s.candidates(host, p.namespace, l)
	for _, c := range found {
		if c.oddlyBeside(found[0], host) {
			return inForce{base: &found[0]}, refuse(WildcardForOthers, "write the host in lower case there",
				"VirtualService %s names %s, in another case than the mesh, beside %s (for %s), and which one is in force depends on the proxy", found[0].name(), found[0].pattern, c.name(), c.pattern)
		}
	}
	for _, c := range found {
		if err := s.checkRevision(c, p.namespace); err != nil {
			return inForce{base: &c}, err
		}
		routes, delegates := s.httpRoutes(c.Unstructured)
		for _, child := range delegates {
			if err := s.checkRevision(candidate{child, c.bucket, c.pattern}, p.namespace); err != nil {
				return inForce{base: &c}, err
			}
		}
		switch p.coveredBy(routes) {
		case all:
			return inForce{base: &c, routes: routes, delegates: delegates, passed: passed}, nil
		case some:
			return inForce{base: &c}, refuse(RoutesForSome, "name the callers' labels as the VirtualService does, and the port; several namespaces or labels are several callers",
				"VirtualService %s has routes for some proxies or ports only, so the fault would miss the others of %s", c.name(), p.namespace)
		case none:
			if c.wildcard() {
				return inForce{base: &c}, refuse(WildcardForOthers, "give the host a VirtualService of its own",
					"VirtualService %s (for %s) is the one in force and has no route for these callers; a new one for the host would take it away from other callers", c.name(), c.pattern)
			}
			passed = append(passed, c)
		}
	}
	return inForce{passed: passed}, nil
}
