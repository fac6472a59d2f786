package mesh

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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

// candidates lists the VirtualServices that sidecars in the namespace could
// take the routes of host from, the one in force first: an exact host before
// any wildcard, a longer wildcard before a shorter one
// (istio.io/istio/pilot/pkg/model, computeWildcardHostVirtualServiceIndex), then
// the bucket, then age, name and namespace (istio.io/istio/pkg/config,
// configCompareByCreationTime).
func (s Snapshot) candidates(host, namespace string) []candidate {
	var found []candidate
	for _, vs := range s.VirtualServices {
		if isOurs(vs) || !appliesToSidecars(vs) {
			continue
		}
		b := s.bucketFor(vs, namespace)
		if b == hidden {
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
			a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time),
			cmp.Compare(a.GetName(), b.GetName()),
			cmp.Compare(a.GetNamespace(), b.GetNamespace()),
		)
	})
	return found
}

// patternFor gives the most specific of the hosts of a VirtualService that
// stand for a host, or nothing.
func (s Snapshot) patternFor(vs *unstructured.Unstructured, host string) string {
	best := ""
	for _, h := range stringsAt(vs.Object, "spec", "hosts") {
		h = strings.ToLower(qualify(h, vs.GetNamespace(), s.ClusterDomain))
		if h == host {
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
