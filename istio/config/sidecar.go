package config

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/fields"
)

// Scope is what a set of proxies imports: the imports of one Sidecar, or
// everything where no Sidecar applies (istio.io/istio/pilot/pkg/model,
// SidecarScope).
type Scope struct {
	// Sidecar is namespace/name; empty where no Sidecar applies.
	Sidecar string
	// Revision is the revision of the control plane that the Sidecar is bound to.
	Revision  string
	Listeners []Listener
	// RegistryOnly reports whether the proxies refuse calls to hosts that they do not
	// import; others pass them through.
	RegistryOnly bool

	selector map[string]string
}

// Listener is an egress listener of a Sidecar. Each has separate imports.
type Listener struct {
	// Port is the only port that the listener takes calls to; 0 means every port.
	Port int64

	imports map[string]imports // by namespace, or *
}

// registryOnly is the mode of an outboundTrafficPolicy in which proxies refuse calls
// to hosts that they do not import.
const registryOnly = "REGISTRY_ONLY"

// everything is the imports of proxies without a Sidecar.
var everything = []Listener{{imports: map[string]imports{"*": {hosts: []string{"*"}}}}} //nolint:gochecknoglobals // a constant

// imports are the hosts that a listener imports from one namespace, except the
// excluded ones.
type imports struct{ hosts, excluded []string }

// Scopes returns the scopes that can apply to the proxies of a namespace, in the
// order in which istiod tries them: Sidecars with a workloadSelector by age, then
// the oldest one without, else the Sidecar of the root namespace (push_context.go,
// initSidecarScopes and doGetSidecarScope).
func (s Snapshot) Scopes(namespace string) []Scope {
	byAge := slices.SortedStableFunc(slices.Values(s.Sidecars), func(a, b *unstructured.Unstructured) int { return CompareAge(a, b) })
	var selecting []Scope
	var own, root *unstructured.Unstructured
	for _, sidecar := range byAge {
		selector := fields.Map(fields.Map(sidecar.Object, "spec"), "workloadSelector")
		if !s.Watches(sidecar.GetNamespace()) {
			continue
		}
		inNamespace := sidecar.GetNamespace() == namespace
		switch {
		case inNamespace && selector != nil:
			selecting = append(selecting, s.scopeOf(sidecar, namespace))
		case inNamespace && own == nil:
			own = sidecar
		case sidecar.GetNamespace() == s.RootNamespace && selector == nil && root == nil:
			root = sidecar
		}
	}
	if last := cmp.Or(own, root); last != nil {
		return append(selecting, s.scopeOf(last, namespace))
	}
	return append(selecting, Scope{Listeners: everything, RegistryOnly: s.RegistryOnly})
}

// scopeOf reads a Sidecar for the proxies of a namespace.
func (s Snapshot) scopeOf(sidecar *unstructured.Unstructured, namespace string) Scope {
	spec := fields.Map(sidecar.Object, "spec")
	found := Scope{Sidecar: sidecar.GetNamespace() + "/" + sidecar.GetName(), Revision: sidecar.GetLabels()[RevisionLabel], selector: map[string]string{}, RegistryOnly: s.RegistryOnly}
	if mode := fields.String(fields.Map(spec, "outboundTrafficPolicy"), "mode"); mode != "" {
		found.RegistryOnly = mode == registryOnly
	}
	for key, value := range fields.Map(fields.Map(spec, "workloadSelector"), "labels") {
		found.selector[key], _ = value.(string)
	}
	for _, egress := range fields.Maps(spec, "egress") {
		port, _ := fields.Int(fields.Map(egress, "port")["number"])
		if protocol, _ := fields.Map(egress, "port")["protocol"].(string); strings.EqualFold(protocol, "HTTP_PROXY") {
			port = 0 // it takes calls to every port
		}
		found.Listeners = append(found.Listeners, Listener{Port: port, imports: importsOf(fields.Strings(egress, "hosts"), namespace)})
	}
	if len(found.Listeners) == 0 {
		found.Listeners = everything
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
func (s Scope) appliesTo(labels map[string]string) (may, certainly bool) {
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

// ScopesFor returns the scopes that can apply to pods of a namespace that carry
// at least the labels.
func (s Snapshot) ScopesFor(namespace string, labels map[string]string) []Scope {
	var possible []Scope
	for _, scope := range s.Scopes(namespace) {
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

// ImportsVirtualService reports whether the listener imports a VirtualService
// of a namespace: one of its hosts must match, in either direction, and not be
// excluded (istio.io/istio/pilot/pkg/model, SelectVirtualServices).
func (l Listener) ImportsVirtualService(namespace string, hosts []string) bool {
	return slices.ContainsFunc(hosts, func(host string) bool {
		if l.excludes(namespace, host) {
			return false
		}
		return slices.ContainsFunc(l.hostsFrom(namespace), func(imported string) bool { return hostsMatch(host, imported) })
	})
}

// ImportsHost reports whether the listener imports a Service or ServiceEntry of
// a namespace, by which alone the proxies route calls to the host
// (sidecar.go, selectServices).
func (l Listener) ImportsHost(namespace, host string) bool {
	return !l.excludes(namespace, host) && slices.ContainsFunc(l.hostsFrom(namespace), func(imported string) bool { return HostWithin(host, imported) })
}

func (l Listener) hostsFrom(namespace string) []string {
	return slices.Concat(l.imports[namespace].hosts, l.imports["*"].hosts)
}

func (l Listener) excludes(namespace, host string) bool {
	return slices.ContainsFunc(slices.Concat(l.imports[namespace].excluded, l.imports["*"].excluded), func(excluded string) bool { return HostWithin(host, excluded) })
}

// HostWithin reports whether a host is covered by another, which may be a
// wildcard (istio.io/istio/pkg/config/host, SubsetOf).
func HostWithin(host, pattern string) bool {
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
func hostsMatch(a, b string) bool { return HostWithin(a, b) || HostWithin(b, a) }
