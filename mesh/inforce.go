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
	// wildcard tells that it names the host only by a pattern.
	wildcard bool
}

func (c candidate) name() string { return c.GetNamespace() + "/" + c.GetName() }

// candidates lists the VirtualServices that sidecars in the namespace could
// take the routes of host from, the one in force first: an exact host before
// any wildcard, then the bucket, then age, name and namespace
// (istio.io/istio/pkg/config, configCompareByCreationTime).
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
		exact, wildcard := s.names(vs, host)
		if exact || wildcard {
			found = append(found, candidate{vs, b, !exact})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(
			compareBool(a.wildcard, b.wildcard),
			cmp.Compare(a.bucket, b.bucket),
			a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time),
			cmp.Compare(a.GetName(), b.GetName()),
			cmp.Compare(a.GetNamespace(), b.GetNamespace()),
		)
	})
	return found
}

// names reports whether a VirtualService names the host, and how.
func (s Snapshot) names(vs *unstructured.Unstructured, host string) (exact, wildcard bool) {
	for _, h := range stringsAt(vs.Object, "spec", "hosts") {
		h = strings.ToLower(qualify(h, vs.GetNamespace(), s.ClusterDomain))
		if h == host {
			exact = true
		}
		if suffix, ok := strings.CutPrefix(h, "*"); ok && strings.HasSuffix(host, suffix) {
			wildcard = true
		}
	}
	return exact, wildcard
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
