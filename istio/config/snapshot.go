// Package config holds Istio's configuration as data: the objects of a mesh, the
// settings of its MeshConfig, and what the proxies of a namespace can see of
// them.
//
// It is pure. Packages kube and manifests fill a Snapshot.
package config

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Snapshot is the configuration of a mesh at one moment. Its methods only read
// it.
type Snapshot struct {
	// APIVersion is the newest version of networking.istio.io that the cluster
	// serves, such as networking.istio.io/v1.
	APIVersion string
	// ClusterDomain ends the host name of every Kubernetes Service: cluster.local.
	ClusterDomain string
	// Doubt is why the cluster domain may be another one; nil if it is known, or if
	// nothing contradicts it.
	Doubt *DomainError
	// Settings are the settings of the control plane that configures the proxies. If
	// there are several, For returns a snapshot with the ones of some proxies.
	Settings
	// ControlPlanes are the control planes of the cluster. It is empty in a snapshot
	// whose only control plane has the Settings.
	ControlPlanes []ControlPlane
	// Plane is the control plane of the proxies, in a snapshot that For returns.
	Plane ControlPlane
	// Tags are the revisions that the values of istio.io/rev mean which are not
	// revisions themselves.
	Tags map[string]string
	// TagsUnread is whether there may be other tags.
	TagsUnread bool
	// Overrides are what the user says about the control plane.
	Overrides Overrides

	VirtualServices []*unstructured.Unstructured
	ServiceEntries  []*unstructured.Unstructured
	Sidecars        []*unstructured.Unstructured
	// Gateways are Istio's; the Gateway API has other ones.
	Gateways []*unstructured.Unstructured
	// DestinationRules are empty if the user may not read them, and then
	// WithoutDestinationRules is true.
	DestinationRules        []*unstructured.Unstructured
	WithoutDestinationRules bool
	// Routes are the HTTPRoutes and GRPCRoutes of the Gateway API.
	Routes   []*unstructured.Unstructured
	Services []Service
	// Namespaces has the labels of each namespace.
	Namespaces map[string]map[string]string
}

// Service is a Kubernetes Service.
type Service struct {
	Namespace, Name string
	Labels          map[string]string
	// ExportTo are the namespaces that its annotation networking.istio.io/exportTo
	// names; empty means the default.
	ExportTo []string
	Ports    []Port
	// ExternalName is the host that a Service of that type is an alias of.
	ExternalName string
	// Created is zero if it is not known, as in manifests.
	Created time.Time
	// Selector are the labels of the pods behind it; empty for others.
	Selector map[string]string
}

// Watches reports whether istiod watches a namespace.
func (s Snapshot) Watches(namespace string) bool {
	return s.Discovered == nil || s.Discovered(s.Namespaces[namespace])
}

// With returns a copy of the snapshot with one VirtualService replaced.
func (s Snapshot) With(vs *unstructured.Unstructured) Snapshot {
	s.VirtualServices = slices.Clone(s.VirtualServices)
	for i, old := range s.VirtualServices {
		if old.GetNamespace() == vs.GetNamespace() && old.GetName() == vs.GetName() {
			s.VirtualServices[i] = vs
		}
	}
	return s
}

// Only returns a copy of the snapshot with those VirtualServices, ServiceEntries and
// DestinationRules for which keep returns true.
func (s Snapshot) Only(keep func(*unstructured.Unstructured) bool) Snapshot {
	s.VirtualServices = filter(s.VirtualServices, keep)
	s.ServiceEntries = filter(s.ServiceEntries, keep)
	s.DestinationRules = filter(s.DestinationRules, keep)
	return s
}

func filter(objects []*unstructured.Unstructured, keep func(*unstructured.Unstructured) bool) []*unstructured.Unstructured {
	var kept []*unstructured.Unstructured
	for _, object := range objects {
		if keep(object) {
			kept = append(kept, object)
		}
	}
	return kept
}
