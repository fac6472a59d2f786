package routing

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
)

// WithConnections returns the VirtualServices that have TCP or TLS routes for a
// host and that an egress listener of the proxies in a namespace imports, in the
// order in which istiod goes through them. Unlike for HTTP, it goes through all of
// them, wildcards included (istio.io/istio/pilot/pkg/networking/core,
// buildSidecarOutboundTCPFilterChainOpts and
// buildSidecarOutboundTLSFilterChainOpts).
func WithConnections(s config.Snapshot, name, namespace string, l config.Listener) []*unstructured.Unstructured {
	var found []*unstructured.Unstructured
	for _, vs := range s.VirtualServices {
		if !AppliesToSidecars(vs) || s.VisibilityOf(vs, namespace) == config.Hidden || PatternFor(s, vs, name) == "" {
			continue
		}
		spec := fields.Map(vs.Object, "spec")
		if len(fields.Maps(spec, "tcp"))+len(fields.Maps(spec, "tls")) == 0 || !l.ImportsVirtualService(vs.GetNamespace(), Hosts(s, vs)) {
			continue
		}
		found = append(found, vs)
	}
	slices.SortFunc(found, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(cmp.Compare(s.VisibilityOf(a, namespace), s.VisibilityOf(b, namespace)), config.CompareAge(a, b))
	})
	return found
}
