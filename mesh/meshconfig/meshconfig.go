// Package meshconfig knows what everybody who fills a mesh.Snapshot must know:
// the versions of Istio's API, its defaults, and the part of its MeshConfig that
// changes which VirtualService is in force.
package meshconfig

import (
	"cmp"
	"fmt"

	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/mesh"
)

// IstioGroup is the API of VirtualServices, ServiceEntries and Sidecars.
const IstioGroup = "networking.istio.io"

// IstioVersions are the versions of Istio's API that Squall can use, newest
// first. Their schemas are the same.
var IstioVersions = []string{"v1", "v1beta1", "v1alpha3"} //nolint:gochecknoglobals // a constant list

// The ConfigMap that holds the MeshConfig.
const (
	Namespace = "istio-system"
	Name      = "istio"
)

// The names that Istio and Kubernetes use unless an installation chooses
// others.
const (
	defaultClusterDomain = "cluster.local"
	defaultRootNamespace = Namespace
)

// Defaults gives the snapshot of a mesh that is configured as Istio is by
// default, and that holds no object yet.
func Defaults() mesh.Snapshot {
	return mesh.Snapshot{
		ClusterDomain: defaultClusterDomain,
		RootNamespace: defaultRootNamespace,
		Namespaces:    map[string]map[string]string{},
	}
}

// Apply takes over into a snapshot what the ConfigMap says.
func Apply(s *mesh.Snapshot, configMap *unstructured.Unstructured) error {
	text, _, _ := unstructured.NestedString(configMap.Object, "data", "mesh")
	var config struct {
		DefaultVirtualServiceExportTo []string `yaml:"defaultVirtualServiceExportTo"`
		RootNamespace                 string   `yaml:"rootNamespace"`
	}
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		return fmt.Errorf("ConfigMap %s/%s holds no MeshConfig: %w", Namespace, Name, err)
	}
	s.DefaultExportTo = config.DefaultVirtualServiceExportTo
	s.RootNamespace = cmp.Or(config.RootNamespace, s.RootNamespace)
	return nil
}
