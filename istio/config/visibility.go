package config

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/fields"
)

// Visibility is how a VirtualService is visible to the proxies of one namespace.
// istiod tries the values in this order and takes the oldest object of the first
// one that has the host (istio.io/istio/pilot/pkg/model, SelectVirtualServices);
// age decides nothing between two of them.
type Visibility int

// The visibilities.
const (
	Private  Visibility = iota // exported to its own namespace only, and that is the proxy's
	Exported                   // exported by name to the proxy's namespace
	Public                     // exported to every namespace
	Hidden                     // not visible
)

func (v Visibility) String() string {
	return [...]string{"private", "exported by name", "public", "hidden"}[v]
}

// VisibilityOf returns the visibility of a VirtualService for proxies in a
// namespace (istio.io/istio/pilot/pkg/model, initVirtualServices).
func (s Snapshot) VisibilityOf(vs *unstructured.Unstructured, namespace string) Visibility {
	exportTo := fields.Strings(vs.Object, "spec", "exportTo")
	if len(exportTo) == 0 {
		exportTo = s.DefaultExportTo
	}
	own := vs.GetNamespace() == namespace
	switch {
	case !s.Watches(vs.GetNamespace()):
		return Hidden
	case len(exportTo) == 0, slices.Contains(exportTo, "*"):
		return Public
	case own && (slices.Contains(exportTo, ".") || slices.Contains(exportTo, namespace)):
		return Private
	case !own && slices.Contains(exportTo, namespace):
		return Exported
	default:
		return Hidden
	}
}

// CanSee reports whether an entry of the registry is exported to the proxies of a
// namespace.
func (s Snapshot) CanSee(entry Entry, namespace string) bool {
	switch {
	case !s.Watches(entry.Namespace):
		return false
	case s.isPublic(entry):
		return true
	default:
		exportTo := s.exportToOf(entry)
		return slices.Contains(exportTo, namespace) || entry.Namespace == namespace && slices.Contains(exportTo, ".")
	}
}

// isPublic reports whether an entry of the registry is exported to every namespace.
func (s Snapshot) isPublic(entry Entry) bool {
	exportTo := s.exportToOf(entry)
	return len(exportTo) == 0 || slices.Contains(exportTo, "*")
}

// exportToOf returns the exportTo of an entry, or its default.
func (s Snapshot) exportToOf(entry Entry) []string {
	if len(entry.ExportTo) == 0 {
		return s.DefaultServiceExportTo
	}
	return entry.ExportTo
}

// CompareAge orders objects as istiod does: by creation time, which has whole
// seconds, then by name, then by namespace (istio.io/istio/pilot/pkg/model,
// configCompareByCreationTime).
func CompareAge(a, b *unstructured.Unstructured) int {
	return cmp.Or(
		a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time),
		cmp.Compare(a.GetName(), b.GetName()),
		cmp.Compare(a.GetNamespace(), b.GetNamespace()),
	)
}
