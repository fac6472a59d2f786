package config

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"gopkg.in/yaml.v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/squall-chaos/squall/istio/host"
)

// IstioGroup is the API group of VirtualServices, ServiceEntries and Sidecars.
const IstioGroup = "networking.istio.io"

// IstioVersions are the versions of Istio's API that are understood here, newest
// first. Their schemas are the same.
var IstioVersions = []string{"v1", "v1beta1", "v1alpha3"} //nolint:gochecknoglobals // a constant list

// The ConfigMap that holds the MeshConfig.
const (
	MeshConfigNamespace = "istio-system"
	MeshConfigName      = "istio"
)

// Defaults returns the snapshot of a mesh with Istio's default settings and no
// objects.
func Defaults() Snapshot {
	return Snapshot{
		ClusterDomain: host.DefaultDomain,
		RootNamespace: MeshConfigNamespace,
		Namespaces:    map[string]map[string]string{},
		// istio.io/istio/pkg/config/mesh, DefaultMeshConfig and DefaultProxyConfig.
		ConnectTimeout: 10 * time.Second,
		Retries:        2,
		DrainDuration:  45 * time.Second,
	}
}

// meshConfig are the fields of Istio's MeshConfig that matter here.
type meshConfig struct {
	DefaultVirtualServiceExportTo  []string `yaml:"defaultVirtualServiceExportTo"`
	DefaultServiceExportTo         []string `yaml:"defaultServiceExportTo"`
	DefaultDestinationRuleExportTo []string `yaml:"defaultDestinationRuleExportTo"`
	RootNamespace                  string   `yaml:"rootNamespace"`
	ConnectTimeout                 string   `yaml:"connectTimeout"`
	DefaultHTTPRetryPolicy         *struct {
		Attempts int64 `yaml:"attempts"`
	} `yaml:"defaultHttpRetryPolicy"`
	OutboundTrafficPolicy struct {
		Mode string `yaml:"mode"`
	} `yaml:"outboundTrafficPolicy"`
	DefaultConfig struct {
		DrainDuration string            `yaml:"drainDuration"`
		ProxyMetadata map[string]string `yaml:"proxyMetadata"`
	} `yaml:"defaultConfig"`
	DiscoverySelectors []struct {
		MatchLabels      map[string]string `yaml:"matchLabels"`
		MatchExpressions []struct {
			Key      string   `yaml:"key"`
			Operator string   `yaml:"operator"`
			Values   []string `yaml:"values"`
		} `yaml:"matchExpressions"`
	} `yaml:"discoverySelectors"`
}

// Apply applies the MeshConfig in a ConfigMap to a snapshot. It returns an error,
// and leaves the snapshot as it is, if the MeshConfig cannot be read.
func Apply(s *Snapshot, configMap *unstructured.Unstructured) error {
	text, _, _ := unstructured.NestedString(configMap.Object, "data", "mesh")
	var config meshConfig
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		return fmt.Errorf("ConfigMap %s/%s does not hold a MeshConfig: %w", MeshConfigNamespace, MeshConfigName, err)
	}
	var selectors []labels.Selector
	for _, d := range config.DiscoverySelectors {
		selector := &metav1.LabelSelector{MatchLabels: d.MatchLabels}
		for _, e := range d.MatchExpressions {
			selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator), Values: e.Values})
		}
		parsed, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			return fmt.Errorf("ConfigMap %s/%s has an invalid discoverySelector: %w", MeshConfigNamespace, MeshConfigName, err)
		}
		selectors = append(selectors, parsed)
	}
	if len(selectors) > 0 {
		s.Discovered = func(own map[string]string) bool {
			return slices.ContainsFunc(selectors, func(selector labels.Selector) bool { return selector.Matches(labels.Set(own)) })
		}
	}
	s.ConnectTimeout = durationOr(config.ConnectTimeout, s.ConnectTimeout)
	s.CapturesDNS = config.DefaultConfig.ProxyMetadata["ISTIO_META_DNS_CAPTURE"] == "true"
	s.DrainDuration = durationOr(config.DefaultConfig.DrainDuration, s.DrainDuration)
	if policy := config.DefaultHTTPRetryPolicy; policy != nil {
		s.Retries = policy.Attempts
	}
	s.RegistryOnly = config.OutboundTrafficPolicy.Mode == registryOnly
	s.DefaultServiceExportTo = config.DefaultServiceExportTo
	s.DefaultRuleExportTo = config.DefaultDestinationRuleExportTo
	s.DefaultExportTo = config.DefaultVirtualServiceExportTo
	s.RootNamespace = cmp.Or(config.RootNamespace, s.RootNamespace)
	return nil
}

// durationOr returns a duration that is written as in protobuf's JSON, or another one
// if there is no such duration.
func durationOr(text string, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(text); err == nil {
		return d
	}
	return otherwise
}
