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

// DefaultNamespace is the namespace of the control plane unless an installation chooses
// another one.
const DefaultNamespace = "istio-system"

// Settings are what decides about routes in the MeshConfig of a control plane.
type Settings struct {
	// RootNamespace is the namespace whose Sidecar without a selector applies to
	// the whole mesh: istio-system.
	RootNamespace string
	// DefaultExportTo is the value of an omitted exportTo of a VirtualService;
	// empty means every namespace (defaultVirtualServiceExportTo).
	DefaultExportTo []string
	// DefaultServiceExportTo is the same for Services and ServiceEntries.
	DefaultServiceExportTo []string
	// DefaultRuleExportTo is the same for DestinationRules.
	DefaultRuleExportTo []string
	// ConnectTimeout is how long a proxy waits for a connection unless a
	// DestinationRule says otherwise (connectTimeout).
	ConnectTimeout time.Duration
	// Retries is how often a proxy tries an HTTP request again unless its route says
	// otherwise (defaultHttpRetryPolicy).
	Retries int64
	// CapturesDNS reports whether proxies answer DNS queries, and so have an address for
	// every ServiceEntry (defaultConfig.proxyMetadata).
	CapturesDNS bool
	// DrainDuration is how long a proxy keeps the connections of a listener or a
	// filter chain that is replaced (defaultConfig.drainDuration).
	DrainDuration time.Duration
	// RegistryOnly reports whether proxies refuse calls to hosts that they do not
	// import, unless their Sidecar decides (outboundTrafficPolicy).
	RegistryOnly bool
	// Discovered reports whether istiod watches a namespace with the given labels
	// (discoverySelectors); nil means that it watches all.
	Discovered func(labels map[string]string) bool
}

// DefaultSettings returns Istio's default settings (istio.io/istio/pkg/config/mesh,
// DefaultMeshConfig and DefaultProxyConfig).
func DefaultSettings() Settings {
	return Settings{RootNamespace: DefaultNamespace, ConnectTimeout: 10 * time.Second, Retries: 2, DrainDuration: 45 * time.Second}
}

// Defaults returns the snapshot of a mesh with Istio's default settings and no
// objects.
func Defaults() Snapshot {
	return Snapshot{ClusterDomain: host.DefaultDomain, Settings: DefaultSettings(), Namespaces: map[string]map[string]string{}}
}

// meshKey is the key of the MeshConfig in its ConfigMap.
const meshKey = "mesh"

// HasMeshConfig reports whether a ConfigMap has the name of one with a MeshConfig, and
// has one.
func HasMeshConfig(configMap *unstructured.Unstructured) bool {
	_, found, _ := unstructured.NestedString(configMap.Object, "data", meshKey)
	_, named := revisionOfConfigMap(configMap.GetName())
	return found && named
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

// Apply applies the MeshConfig in a ConfigMap. It returns an error, and leaves the
// settings as they are, if the MeshConfig cannot be read.
func (s *Settings) Apply(configMap *unstructured.Unstructured) error {
	text, _, _ := unstructured.NestedString(configMap.Object, "data", meshKey)
	var config meshConfig
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		return fmt.Errorf("ConfigMap %s/%s does not hold a MeshConfig: %w", configMap.GetNamespace(), configMap.GetName(), err)
	}
	var selectors []labels.Selector
	for _, d := range config.DiscoverySelectors {
		selector := &metav1.LabelSelector{MatchLabels: d.MatchLabels}
		for _, e := range d.MatchExpressions {
			selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator), Values: e.Values})
		}
		parsed, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			return fmt.Errorf("ConfigMap %s/%s has an invalid discoverySelector: %w", configMap.GetNamespace(), configMap.GetName(), err)
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
