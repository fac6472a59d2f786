package objects

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Left is an object of a run that could not be deleted.
type Left struct {
	Ref
	// Reason is the error of the last attempt.
	Reason string `json:"reason,omitempty"`
	// Finalizers keep the object although the cluster has accepted its deletion.
	Finalizers []string `json:"finalizers,omitempty"`
	// Withdrawn reports that the object applies to no calls any longer.
	Withdrawn bool `json:"withdrawn,omitempty"`
}

// Removal returns the shell command that removes the object.
func (l Left) Removal() string {
	if len(l.Finalizers) == 0 {
		return l.Ref.Removal()
	}
	// Without its finalizers the object is gone, unless its deletion was not accepted.
	kind := strings.ToLower(l.Kind)
	return fmt.Sprintf(`kubectl -n %s patch %s %s --type merge -p '{"metadata":{"finalizers":null}}' && %s --ignore-not-found`, l.Namespace, kind, l.Name, l.Ref.Removal())
}

// Explanation returns in words what keeps the object and whether its fault is active,
// as far as both are known.
func (l Left) Explanation() string {
	var words []string
	if len(l.Finalizers) > 0 {
		words = append(words, "kept by finalizers: "+strings.Join(l.Finalizers, ", "))
	} else if l.Reason != "" {
		words = append(words, l.Reason)
	}
	if l.Withdrawn {
		words = append(words, "its fault was taken out")
	}
	return strings.Join(words, "; ")
}

// withdrawnDomain is the domain of the host that a withdrawn VirtualService has. The
// top-level domain is reserved for private use (ICANN, .internal).
const withdrawnDomain = ".withdrawn.squall.internal"

// WithdrawnSpec returns a spec with which the VirtualService of a reference applies to no
// calls: it is for a host that does not exist. Its callers use the routes that are
// effective without it, also after these change. The webhook of Istio accepts it.
func WithdrawnSpec(ref Ref) map[string]any {
	host := ref.Name + withdrawnDomain
	return map[string]any{
		"hosts":    []any{host},
		"exportTo": []any{"."},
		"http":     []any{map[string]any{"route": []any{map[string]any{"destination": map[string]any{"host": host}}}}},
	}
}

// isWithdrawn reports whether a VirtualService has the spec of WithdrawnSpec.
func isWithdrawn(object *unstructured.Unstructured) bool {
	hosts, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "hosts")
	return len(hosts) == 1 && strings.HasSuffix(hosts[0], withdrawnDomain)
}
