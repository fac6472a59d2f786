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

// APIs are the versions that an API server serves of what Squall reads.
type APIs struct {
	Istio   []string
	Gateway []string
	// Used is the one of Istio's that Squall writes.
	Used schema.GroupVersion
}

// APIs asks which versions the cluster serves. It is an error when it serves
// none of Istio's that Squall knows.
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

// Istiods gives the versions of the control planes in Istio's own namespace.
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

// istiodVersion reads the tag of a Deployment's image, or else its label.
func istiodVersion(deployment *unstructured.Unstructured) string {
	label := deployment.GetLabels()["app.kubernetes.io/version"]
	containers, _, _ := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	for _, container := range containers {
		c, _ := container.(map[string]any)
		image, _ := c["image"].(string)
		image, _, _ = strings.Cut(image, "@") // a digest says nothing
		if _, tag, tagged := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":"); tagged {
			return tag
		}
	}
	return cmp.Or(label, "of an unknown version")
}

// Namespaces gives the labels of every namespace.
func (c *Cluster) Namespaces(ctx context.Context) (map[string]map[string]string, error) {
	labels := map[string]map[string]string{}
	err := c.names(ctx, "namespaces", func(item metav1.PartialObjectMetadata) { labels[item.Name] = item.Labels })
	return labels, err
}
