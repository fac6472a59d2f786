// Package meshconfig reads the part of Istio's MeshConfig that changes which
// VirtualService is in force, for everybody who fills a mesh.Snapshot.
package meshconfig

import (
	"cmp"
	"fmt"

	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/mesh"
)

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
