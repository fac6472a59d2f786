package mesh

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// scope is what a set of proxies imports: that of one Sidecar, or everything
// where no Sidecar applies (istio.io/istio/pilot/pkg/model, SidecarScope).
type scope struct {
	sidecar   string // namespace/name, empty where none applies
	revision  string
	selector  map[string]string
	listeners []listener
}

// listener is one egress listener of a Sidecar. Each imports for itself.
type listener struct {
	port    int64 // 0 for the one that takes every port
	imports map[string]imports
}

// everything is the import of proxies that no Sidecar applies to.
var everything = []listener{{imports: map[string]imports{"*": {hosts: []string{"*"}}}}} //nolint:gochecknoglobals // a constant

// imports are the hosts that a listener imports from one namespace, and those
// that it leaves out of these.
type imports struct{ hosts, excluded []string }

// scopes gives the Sidecars that can apply to the proxies of a namespace, in
// the order in which istiod tries them: those with a workloadSelector by age,
// then the oldest one without, else that of the root namespace
// (push_context.go, initSidecarScopes and doGetSidecarScope).
func (s Snapshot) scopes(namespace string) []scope {
	byAge := slices.SortedStableFunc(slices.Values(s.Sidecars), func(a, b *unstructured.Unstructured) int { return compareAge(a, b) })
	var selecting []scope
	var own, root *unstructured.Unstructured
	for _, sidecar := range byAge {
		selector := mapAt(mapAt(sidecar.Object, "spec"), "workloadSelector")
		if !s.discovers(sidecar.GetNamespace()) {
			continue
		}
		inNamespace := sidecar.GetNamespace() == namespace
		switch {
		case inNamespace && selector != nil:
			selecting = append(selecting, scopeOf(sidecar, namespace))
		case inNamespace && own == nil:
			own = sidecar
		case sidecar.GetNamespace() == s.RootNamespace && selector == nil && root == nil:
			root = sidecar
		}
	}
	if last := cmp.Or(own, root); last != nil {
		return append(selecting, scopeOf(last, namespace))
	}
	return append(selecting, scope{listeners: everything})
}

// compareAge orders as istiod does: by creation time, which has whole seconds,
// then by name, then by namespace (istio.io/istio/pilot/pkg/model,
// configCompareByCreationTime).
func compareAge(a, b *unstructured.Unstructured) int {
	return cmp.Or(
		a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time),
		cmp.Compare(a.GetName(), b.GetName()),
		cmp.Compare(a.GetNamespace(), b.GetNamespace()),
	)
}

// scopeOf reads a Sidecar for the proxies of a namespace.
func scopeOf(sidecar *unstructured.Unstructured, namespace string) scope {
	spec := mapAt(sidecar.Object, "spec")
	found := scope{sidecar: sidecar.GetNamespace() + "/" + sidecar.GetName(), revision: sidecar.GetLabels()[revisionLabel], selector: map[string]string{}}
	for key, value := range mapAt(mapAt(spec, "workloadSelector"), "labels") {
		found.selector[key], _ = value.(string)
	}
	for _, egress := range mapsAt(spec, "egress") {
		port, _ := asInt(mapAt(egress, "port")["number"])
		if protocol, _ := mapAt(egress, "port")["protocol"].(string); strings.EqualFold(protocol, "HTTP_PROXY") {
			port = 0 // takes calls to every port
		}
		found.listeners = append(found.listeners, listener{port, importsOf(stringsAt(egress, "hosts"), namespace)})
	}
	if len(found.listeners) == 0 {
		found.listeners = everything
	}
	return found
}

// importsOf reads the hosts of an egress listener: namespace/host, where the
// namespace may be *, . for the proxies' own, or begin with ~ for an exclusion
// (sidecar.go, convertIstioListenerToWrapper).
func importsOf(hosts []string, namespace string) map[string]imports {
	all := map[string]imports{}
	for _, host := range hosts {
		from, name, ok := strings.Cut(host, "/")
		if !ok || strings.Contains(name, "/") {
			continue
		}
		from, excluded := strings.CutPrefix(from, "~")
		switch {
		case excluded && from == "":
			from = "*"
		case from == ".":
			from = namespace
		}
		entry := all[from]
		if excluded {
			entry.excluded = append(entry.excluded, name)
		} else {
			entry.hosts = append(entry.hosts, name)
		}
		all[from] = entry
	}
	return all
}

// appliesTo reports whether the scope may apply, and whether it certainly does,
// to pods that carry at least the labels.
func (s scope) appliesTo(labels map[string]string) (may, certainly bool) {
	certainly = true
	for key, value := range s.selector {
		own, has := labels[key]
		if has && own != value {
			return false, false
		}
		certainly = certainly && has
	}
	return true, certainly
}

// scopesFor gives the scopes that can apply to pods of a namespace that carry
// at least the labels.
func (s Snapshot) scopesFor(namespace string, labels map[string]string) []scope {
	var possible []scope
	for _, scope := range s.scopes(namespace) {
		may, certainly := scope.appliesTo(labels)
		if may {
			possible = append(possible, scope)
		}
		if certainly {
			break
		}
	}
	return possible
}

// importsVirtualService reports whether the listener imports a VirtualService
// of a namespace: one of its hosts must match, in either direction, and not be
// excluded (istio.io/istio/pilot/pkg/model, SelectVirtualServices).
func (l listener) importsVirtualService(namespace string, hosts []string) bool {
	return slices.ContainsFunc(hosts, func(host string) bool {
		if l.excludes(namespace, host) {
			return false
		}
		return slices.ContainsFunc(l.hostsFrom(namespace), func(imported string) bool { return hostsMatch(host, imported) })
	})
}

// importsHost reports whether the listener imports a Service or ServiceEntry of
// a namespace, by which alone the proxies route calls to the host
// (sidecar.go, selectServices).
func (l listener) importsHost(namespace, host string) bool {
	return !l.excludes(namespace, host) && slices.ContainsFunc(l.hostsFrom(namespace), func(imported string) bool { return hostWithin(host, imported) })
}

func (l listener) hostsFrom(namespace string) []string {
	return slices.Concat(l.imports[namespace].hosts, l.imports["*"].hosts)
}

func (l listener) excludes(namespace, host string) bool {
	return slices.ContainsFunc(slices.Concat(l.imports[namespace].excluded, l.imports["*"].excluded), func(excluded string) bool { return hostWithin(host, excluded) })
}

// hostWithin reports whether a host is covered by another, which may be a
// wildcard (istio.io/istio/pkg/config/host, SubsetOf).
func hostWithin(host, pattern string) bool {
	suffix, wild := strings.CutPrefix(pattern, "*")
	switch {
	case !wild:
		return host == pattern
	case strings.HasPrefix(host, "*"):
		return len(host) >= len(pattern) && strings.HasSuffix(host[1:], suffix)
	default:
		return strings.HasSuffix(host, suffix)
	}
}

// hostsMatch reports whether either of two hosts covers the other
// (istio.io/istio/pkg/config/host, Matches).
func hostsMatch(a, b string) bool { return hostWithin(a, b) || hostWithin(b, a) }
