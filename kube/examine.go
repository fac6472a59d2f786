package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/squall-chaos/squall/istio/config"
)

// APIs are the versions that an API server serves of the APIs that Squall uses.
type APIs struct {
	Istio   []string
	Gateway []string
	// Used is the version of Istio's API that Squall writes.
	Used schema.GroupVersion
}

// APIs reads the versions that the cluster serves. It returns an error if the
// cluster serves no version of Istio's API that Squall supports.
func (c *Cluster) APIs(ctx context.Context) (apis APIs, err error) {
	if apis.Used, err = c.istioVersion(ctx); err != nil {
		return apis, err
	}
	for group, versions := range map[string]*[]string{istioGroup: &apis.Istio, gatewayGroup: &apis.Gateway} {
		var found metav1.APIGroup
		if _, err := c.getJSON(ctx, "/apis/"+group, &found); err != nil {
			return apis, fmt.Errorf("which versions of %s the cluster serves: %w", group, c.Explain(err))
		}
		for _, version := range found.Versions {
			*versions = append(*versions, version.Version)
		}
	}
	return apis, nil
}

// Istiods returns the versions of the control planes in their namespace, the user's or
// istio-system.
func (c *Cluster) Istiods(ctx context.Context) ([]string, error) {
	deployments, err := c.istiods(ctx, cmp.Or(c.overrides.Namespace, config.DefaultNamespace))
	versions := make([]string, len(deployments))
	for i, deployment := range deployments {
		versions[i] = cmp.Or(config.VersionOf(deployment), "of an unknown version")
	}
	slices.Sort(versions)
	return slices.Compact(versions), err
}

// Namespaces returns the labels of every namespace by its name.
func (c *Cluster) Namespaces(ctx context.Context) (map[string]map[string]string, error) {
	labels := map[string]map[string]string{}
	err := c.names(ctx, "namespaces", func(item metav1.PartialObjectMetadata) { labels[item.Name] = item.Labels })
	return labels, err
}
