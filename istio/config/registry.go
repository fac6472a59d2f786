package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/host"
)

// Entry is an entry of the service registry for a host: a Service or a
// ServiceEntry.
type Entry struct {
	Kind, Namespace, Name string
	Labels                map[string]string
	// ExportTo is empty where the default applies.
	ExportTo []string
	Ports    []Port
	// Addressed reports whether proxies listen at an address that only this entry
	// has.
	Addressed bool
	// ExternalName is the host that the entry is an alias of; empty if it is not an
	// alias.
	ExternalName string
	// Created is zero if it is not known, as in manifests.
	Created time.Time
}

// HostOf returns the host name of a Service.
func (s Snapshot) HostOf(service Service) string {
	return host.Service(service.Name, service.Namespace, s.ClusterDomain)
}

// Entries returns the entries of the registry for a host, Services first. Hosts
// compare without regard to case.
func (s Snapshot) Entries(name string) []Entry {
	var found []Entry
	for _, service := range s.Services {
		if strings.EqualFold(name, s.HostOf(service)) {
			found = append(found, Entry{
				Kind: "Service", Namespace: service.Namespace, Name: service.Name, Labels: service.Labels,
				ExportTo: service.ExportTo, Ports: service.Ports, Addressed: true, ExternalName: service.ExternalName, Created: service.Created,
			})
		}
	}
	for _, entry := range s.ServiceEntries {
		if HasHost(entry, name) {
			found = append(found, Entry{
				Kind: "ServiceEntry", Namespace: entry.GetNamespace(), Name: entry.GetName(), Labels: entry.GetLabels(),
				ExportTo: fields.Strings(entry.Object, "spec", "exportTo"), Ports: entryPorts(entry),
				Addressed: s.addressed(entry, name), Created: entry.GetCreationTimestamp().Time,
			})
		}
	}
	return found
}

// addressed reports whether a ServiceEntry has separate addresses for a host, or
// istiod allocates one for proxies that capture DNS
// (https://istio.io/latest/docs/ops/configuration/traffic-management/dns-proxy/).
func (s Snapshot) addressed(entry *unstructured.Unstructured, name string) bool {
	resolution, _, _ := unstructured.NestedString(entry.Object, "spec", "resolution")
	allocated := s.CapturesDNS && resolution != "" && resolution != "NONE" && !strings.HasPrefix(name, "*")
	return allocated || len(fields.Strings(entry.Object, "spec", "addresses")) > 0
}

// HasHost reports whether a ServiceEntry names a host.
func HasHost(entry *unstructured.Unstructured, name string) bool {
	return slices.ContainsFunc(fields.Strings(entry.Object, "spec", "hosts"), func(own string) bool { return strings.EqualFold(own, name) })
}

// Resolve returns the name by which the mesh knows a host: the first of its
// candidates that has an entry. If none has, it returns the first candidate, and
// known is false.
func (s Snapshot) Resolve(h host.Host) (name string, known bool) {
	candidates := h.Candidates(s.ClusterDomain)
	for _, candidate := range candidates {
		if len(s.Entries(candidate)) > 0 {
			return candidate, true
		}
	}
	return candidates[0], false
}

// Seen returns the entries for a host that the proxies of a namespace use in an
// egress listener, Services first. If several namespaces declare the host, istiod
// uses one of them: the proxies' own, else one with a Service, else the one whose
// entry is exported to the proxies' namespace by name or private to it, else the one
// whose entry is the oldest (istio.io/istio/pilot/pkg/model, selectServices).
//
// The error is an *AgeError if the age decides and is not known.
func (s Snapshot) Seen(name, namespace string, l Listener) ([]Entry, error) {
	var imported []Entry
	for _, entry := range s.Entries(name) {
		if s.CanSee(entry, namespace) && l.ImportsHost(entry.Namespace, name) {
			imported = append(imported, entry)
		}
	}
	if len(imported) == 0 {
		return nil, nil
	}
	preferred := func(e Entry) int {
		switch {
		case e.Namespace == namespace:
			return 0
		case e.Kind == "Service":
			return 1
		case !s.isPublic(e):
			return 2
		default:
			return 3
		}
	}
	order := slices.SortedStableFunc(slices.Values(imported), func(a, b Entry) int {
		return cmp.Or(cmp.Compare(preferred(a), preferred(b)), a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace))
	})
	first := order[0]
	for _, other := range order[1:] {
		if preferred(other) == preferred(first) && other.Namespace != first.Namespace && (first.Created.IsZero() || other.Created.IsZero()) {
			return nil, &AgeError{Kind: first.Kind, First: first.Namespace + "/" + first.Name, Second: other.Namespace + "/" + other.Name}
		}
	}
	return slices.DeleteFunc(imported, func(e Entry) bool { return e.Namespace != first.Namespace }), nil
}

// AgeError says that the older one of two objects is used, and that the creation
// time of one of them is not known, as in manifests.
type AgeError struct {
	Kind string
	// First and Second are namespace/name.
	First, Second string
}

func (e *AgeError) Error() string {
	return fmt.Sprintf("%s %s and %s %s are for the same host, the older one is effective, and the creationTimestamp of one of them is not known", e.Kind, e.First, e.Kind, e.Second)
}

// PortsOf returns the ports of entries for one host, in the order of their numbers,
// ports of earlier entries first. If UDP and TCP share a number, the TCP port counts:
// Istio does not route UDP.
func PortsOf(entries []Entry) []Port {
	var ports []Port
	for _, entry := range entries {
		for _, p := range entry.Ports {
			at := slices.IndexFunc(ports, func(have Port) bool { return have.Number == p.Number })
			switch {
			case at < 0:
				ports = append(ports, p)
			case ports[at].Protocol() == UDP:
				ports[at] = p
			}
		}
	}
	slices.SortStableFunc(ports, func(a, b Port) int { return int(a.Number - b.Number) })
	return ports
}

// entryPorts returns the ports of a ServiceEntry.
func entryPorts(entry *unstructured.Unstructured) []Port {
	var ports []Port
	for _, port := range fields.Maps(fields.Map(entry.Object, "spec"), "ports") {
		number, _ := fields.Int(port["number"])
		ports = append(ports, Port{Number: number, Name: fields.String(port, "name"), Declared: fields.String(port, "protocol")})
	}
	return ports
}
