package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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
			return apis, fmt.Errorf("which versions of %s the cluster serves: %w", group, c.explain(err))
		}
		for _, version := range found.Versions {
			*versions = append(*versions, version.Version)
		}
	}
	return apis, nil
}

// Istiods returns the versions of the control planes in istio-system.
func (c *Cluster) Istiods(ctx context.Context) ([]string, error) {
	var versions []string
	err := c.pages("deployments", func(options metav1.ListOptions) (string, error) {
		options.LabelSelector = "app=istiod"
		list, err := c.objects.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(config.MeshConfigNamespace).List(ctx, options)
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			versions = append(versions, istiodVersion(&list.Items[i]))
		}
		return list.GetContinue(), nil
	})
	slices.Sort(versions)
	return slices.Compact(versions), err
}

// istiodVersion returns the tag of a Deployment's image, or else its version label.
func istiodVersion(deployment *unstructured.Unstructured) string {
	label := deployment.GetLabels()["app.kubernetes.io/version"]
	containers, _, _ := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	for _, container := range containers {
		c, _ := container.(map[string]any)
		image, _ := c["image"].(string)
		image, _, _ = strings.Cut(image, "@") // a digest is not a version
		if _, tag, tagged := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":"); tagged {
			return tag
		}
	}
	return cmp.Or(label, "of an unknown version")
}

// Namespaces returns the labels of every namespace by its name.
func (c *Cluster) Namespaces(ctx context.Context) (map[string]map[string]string, error) {
	labels := map[string]map[string]string{}
	err := c.names(ctx, "namespaces", func(item metav1.PartialObjectMetadata) { labels[item.Name] = item.Labels })
	return labels, err
}
