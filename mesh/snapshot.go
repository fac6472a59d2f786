// Package mesh knows what Istio does with VirtualServices: which one is in
// force for a caller, where a temporary one takes precedence over it, and how
// to render it so that it carries a fault and changes nothing else.
//
// It is pure: a Snapshot and an Experiment go in, a Plan comes out. It never
// touches a cluster; package kube does.
package mesh

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/host"
)

// Snapshot is the mesh configuration that a plan is made from.
type Snapshot struct {
	// APIVersion is the newest version of networking.istio.io that the
	// cluster serves, such as networking.istio.io/v1.
	APIVersion string
	// ClusterDomain ends the name of every Kubernetes Service: cluster.local.
	ClusterDomain string
	// RootNamespace is where a Sidecar without selector applies to the whole
	// mesh: istio-system.
	RootNamespace string

	VirtualServices []*unstructured.Unstructured
	ServiceEntries  []*unstructured.Unstructured
	Sidecars        []*unstructured.Unstructured
	// Routes are the Gateway API's HTTPRoutes and GRPCRoutes.
	Routes   []*unstructured.Unstructured
	Services []Service
	// Namespaces holds each namespace's labels.
	Namespaces map[string]map[string]string
	// DefaultExportTo is what an omitted exportTo of a VirtualService means;
	// empty means every namespace (MeshConfig, defaultVirtualServiceExportTo).
	DefaultExportTo []string
	// DefaultServiceExportTo is the same for Services and ServiceEntries.
	DefaultServiceExportTo []string
	// Discovered tells whether istiod watches a namespace with the given labels
	// (MeshConfig, discoverySelectors); nil means that it watches all.
	Discovered func(labels map[string]string) bool
}

// Service is a Kubernetes Service.
type Service struct {
	Namespace, Name string
	Labels          map[string]string
	// ExportTo are the namespaces that its networking.istio.io/exportTo
	// annotation names; empty means every namespace.
	ExportTo []string
	Ports    []Port
	// ExternalName is the host that a Service of that type stands for.
	ExternalName string
}

// serviceHost gives a Service's host name.
func (s Snapshot) serviceHost(service Service) string {
	return host.Service(service.Name, service.Namespace, s.ClusterDomain)
}

// knows reports whether the mesh routes calls to the host at all: a Service
// or a ServiceEntry stands for it. Hosts compare without regard to case.
func (s Snapshot) knows(host string) bool { return len(s.standIns(host)) > 0 }

// standIn is a Service or a ServiceEntry that stands for a host.
type standIn struct {
	kind, namespace, name string
	labels                map[string]string
	exportTo              []string
	ports                 []Port
	addressed             bool   // proxies listen at an address of its own
	external              string // the host that it only stands for
}

// standIns gives what stands for a host: Services first.
func (s Snapshot) standIns(host string) []standIn {
	var found []standIn
	for _, service := range s.Services {
		if strings.EqualFold(host, s.serviceHost(service)) {
			found = append(found, standIn{"Service", service.Namespace, service.Name, service.Labels, service.ExportTo, service.Ports, true, service.ExternalName})
		}
	}
	for _, entry := range s.ServiceEntries {
		if !isOurs(entry) && containsFold(stringsAt(entry.Object, "spec", "hosts"), host) {
			addressed := len(stringsAt(entry.Object, "spec", "addresses")) > 0
			found = append(found, standIn{"ServiceEntry", entry.GetNamespace(), entry.GetName(), entry.GetLabels(), stringsAt(entry.Object, "spec", "exportTo"), entryPorts(entry), addressed, ""})
		}
	}
	return found
}

// sees reports whether the proxies of a namespace may see what stands for a
// host.
func (s Snapshot) sees(i standIn, namespace string) bool {
	exportTo := i.exportTo
	if len(exportTo) == 0 {
		exportTo = s.DefaultServiceExportTo
	}
	switch {
	case !s.discovers(i.namespace):
		return false
	case len(exportTo) == 0, slices.Contains(exportTo, "*"), slices.Contains(exportTo, namespace):
		return true
	default:
		return i.namespace == namespace && slices.Contains(exportTo, ".")
	}
}

// discovers reports whether istiod watches a namespace.
func (s Snapshot) discovers(namespace string) bool {
	return s.Discovered == nil || s.Discovered(s.Namespaces[namespace])
}

// resolve returns the name by which the mesh knows a host: the first of its
// candidates that has a registry entry, or the first candidate if none has.
func (s Snapshot) resolve(h host.Host) (name string, known bool) {
	candidates := h.Candidates(s.ClusterDomain)
	for _, candidate := range candidates {
		if s.knows(candidate) {
			return candidate, true
		}
	}
	return candidates[0], false
}

func containsFold(list []string, wanted string) bool {
	for _, item := range list {
		if strings.EqualFold(item, wanted) {
			return true
		}
	}
	return false
}

// stringsAt reads a list of strings; anything else there reads as empty.
func stringsAt(object map[string]any, fields ...string) []string {
	list, _, err := unstructured.NestedStringSlice(object, fields...)
	if err != nil {
		return nil
	}
	return list
}

// mapsAt reads a list of objects without copying them; items of another type
// are left out.
func mapsAt(object map[string]any, field string) []map[string]any {
	list, _ := object[field].([]any)
	var maps []map[string]any
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			maps = append(maps, m)
		}
	}
	return maps
}

func mapAt(object map[string]any, field string) map[string]any {
	m, _ := object[field].(map[string]any)
	return m
}
