// Package host holds the names of destinations: how people write them, and how
// Istio and Kubernetes complete them.
package host

import "strings"

// DefaultDomain is the cluster domain that Kubernetes uses unless an
// installation chooses another one.
const DefaultDomain = "cluster.local"

// Service returns the host name of a Kubernetes Service in a cluster domain.
func Service(name, namespace, domain string) string {
	return name + "." + namespace + ".svc." + domain
}

// Qualify completes a short host name as istiod does: only a name without any
// dot belongs to the namespace of the object that holds it
// (istio.io/istio/pilot/pkg/model, ResolveShortnameToFQDN).
func Qualify(name, namespace, domain string) string {
	if name == "" || strings.Contains(name, ".") || name == "*" {
		return name
	}
	return Service(name, namespace, domain)
}

// Normalize returns a host name, or a pattern of host names, in the form in which
// names are compared: in lower case, without a trailing dot.
func Normalize(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }

// Host is a destination as a user names it. The zero value names nothing.
type Host struct {
	name      string // normalized
	namespace string // of a short name; empty for others
}

// Parse reads a host name. The namespace completes a short one, and is ignored
// otherwise.
func Parse(name, namespace string) Host {
	h := Host{name: Normalize(name)}
	if !strings.Contains(h.name, ".") {
		h.namespace = Normalize(namespace)
	}
	return h
}

// Candidates returns the names by which a mesh of the cluster domain may know
// the host, the first one first. A short name belongs to its
// namespace; service.namespace and service.namespace.svc may be hosts by
// themselves.
func (h Host) Candidates(domain string) []string {
	if !strings.Contains(h.name, ".") {
		return []string{Qualify(h.name, h.namespace, domain)}
	}
	return []string{h.name, h.name + ".svc." + domain, h.name + "." + domain}
}

// AsService returns the Kubernetes Service that the host names if it names one:
// a short name with its namespace, service.namespace, or either of them followed
// by svc and any domain.
func (h Host) AsService() (name, namespace string, ok bool) {
	labels := strings.Split(h.name, ".")
	if len(labels) == 1 && h.namespace != "" {
		labels = append(labels, h.namespace)
	}
	if len(labels) == 2 || len(labels) > 2 && labels[2] == "svc" {
		return labels[0], labels[1], true
	}
	return "", "", false
}

// Complete returns the full name of a Service that is named by
// service.namespace or service.namespace.svc, in a cluster domain; any other host
// as it is.
func (h Host) Complete(domain string) string {
	labels := strings.Count(h.name, ".") + 1
	if name, namespace, ok := h.AsService(); ok && labels <= 3 {
		return Service(name, namespace, domain)
	}
	return h.name
}

// Canonical returns one name for all spellings of a Service, in the default
// cluster domain whatever its own is; any other host is its own canonical name.
func (h Host) Canonical() string {
	if name, namespace, ok := h.AsService(); ok {
		return Service(name, namespace, DefaultDomain)
	}
	return h.name
}

// Spellings returns the names by which people know the host, the canonical one
// first.
func (h Host) Spellings() []string {
	name, namespace, ok := h.AsService()
	if !ok {
		return []string{h.name}
	}
	short := name + "." + namespace
	return []string{h.Canonical(), short + ".svc", short, name, h.name}
}
