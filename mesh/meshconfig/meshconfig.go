// Package meshconfig knows what everybody who fills a mesh.Snapshot must know:
// the versions of Istio's API, its defaults, and the part of its MeshConfig that
// changes which VirtualService is in force.
package meshconfig

import (
	"cmp"
	"fmt"
	"slices"

	"gopkg.in/yaml.v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

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
		DefaultServiceExportTo        []string `yaml:"defaultServiceExportTo"`
		RootNamespace                 string   `yaml:"rootNamespace"`
		DiscoverySelectors            []struct {
			MatchLabels      map[string]string `yaml:"matchLabels"`
			MatchExpressions []struct {
				Key      string   `yaml:"key"`
				Operator string   `yaml:"operator"`
				Values   []string `yaml:"values"`
			} `yaml:"matchExpressions"`
		} `yaml:"discoverySelectors"`
	}
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		return fmt.Errorf("ConfigMap %s/%s holds no MeshConfig: %w", Namespace, Name, err)
	}
	var selectors []labels.Selector
	for _, d := range config.DiscoverySelectors {
		selector := &metav1.LabelSelector{MatchLabels: d.MatchLabels}
		for _, e := range d.MatchExpressions {
			selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator), Values: e.Values})
		}
		parsed, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			return fmt.Errorf("ConfigMap %s/%s has a discoverySelector that is none: %w", Namespace, Name, err)
		}
		selectors = append(selectors, parsed)
	}
	if len(selectors) > 0 {
		s.Discovered = func(own map[string]string) bool {
			return slices.ContainsFunc(selectors, func(selector labels.Selector) bool { return selector.Matches(labels.Set(own)) })
		}
	}
	s.DefaultServiceExportTo = config.DefaultServiceExportTo
	s.DefaultExportTo = config.DefaultVirtualServiceExportTo
	s.RootNamespace = cmp.Or(config.RootNamespace, s.RootNamespace)
	return nil
}
