package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/squall-chaos/squall/istio/config"
)

// Override sets what the user says about the control planes of the cluster. It must be
// called before any other method.
func (c *Cluster) Override(o config.Overrides) { c.overrides = o }

// The resources that describe control planes.
var (
	configMaps  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}                                                           //nolint:gochecknoglobals // a constant
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}                                           //nolint:gochecknoglobals // a constant
	webhooks    = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"} //nolint:gochecknoglobals // a constant
)

// controlPlanes reads what describes the control planes of a mesh whose Services and
// Namespaces are known. Objects that may not be read are left out.
func (c *connection) controlPlanes(ctx context.Context, s config.Snapshot) (found config.Found, err error) {
	for _, namespace := range c.controlPlaneNamespaces(s.Services) {
		of, err := c.istiods(ctx, namespace)
		if err != nil && !apierrors.IsForbidden(err) {
			return found, err
		}
		found.Deployments = append(found.Deployments, of...)
		for _, revision := range c.revisions(s, namespace, of) {
			name := config.ControlPlane{Namespace: namespace, Revision: revision}.ConfigMap()
			object, err := c.objects.Resource(configMaps).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err):
			case apierrors.IsForbidden(err):
				found.Unread = append(found.Unread, namespace+"/"+name)
			case err != nil:
				return found, fmt.Errorf("get Istio's MeshConfig: %w", c.Explain(err))
			default:
				found.ConfigMaps = append(found.ConfigMaps, object)
			}
		}
	}
	if hasTags(s) {
		found.Tags, err = c.tags(ctx)
		found.TagsUnread = apierrors.IsForbidden(err)
		if found.TagsUnread {
			err = nil
		}
	}
	return found, err
}

// controlPlaneNamespaces returns the namespaces of the control planes: the user's, else
// those that have a Service of istiod.
func (c *connection) controlPlaneNamespaces(services []config.Service) []string {
	if c.overrides.Namespace != "" {
		return []string{c.overrides.Namespace}
	}
	var namespaces []string
	for _, plane := range config.Istiods(services) {
		if !slices.Contains(namespaces, plane.Namespace) {
			namespaces = append(namespaces, plane.Namespace)
		}
	}
	if len(namespaces) == 0 {
		return []string{config.DefaultNamespace}
	}
	slices.Sort(namespaces)
	return namespaces
}

// revisions returns the revisions of which a namespace may have a MeshConfig: those that
// have a Service or a Deployment of istiod there. A control plane outside the cluster has
// neither. Then they are the default revision and the ones in the labels of namespaces.
func (c *connection) revisions(s config.Snapshot, namespace string, istiods []*unstructured.Unstructured) []string {
	var found []string
	add := func(revision string) {
		if revision != "" && !slices.Contains(found, revision) {
			found = append(found, revision)
		}
	}
	for _, plane := range config.Istiods(s.Services) {
		if plane.Namespace == namespace {
			add(plane.Revision)
		}
	}
	for _, deployment := range istiods {
		add(deployment.GetLabels()[config.RevisionLabel])
	}
	if len(found) > 0 {
		return found
	}
	add(cmp.Or(c.overrides.Revision, config.DefaultRevision))
	for _, labels := range s.Namespaces {
		add(labels[config.RevisionLabel])
	}
	return found
}

// istiods lists the Deployments of istiod in a namespace.
func (c *connection) istiods(ctx context.Context, namespace string) ([]*unstructured.Unstructured, error) {
	return c.selected(ctx, deployments, namespace, config.IstiodSelector)
}

// hasTags reports whether a namespace has a revision that no control plane has, and that is
// not a tag of a Service.
func hasTags(s config.Snapshot) bool {
	known := map[string]bool{config.DefaultRevision: true, "": true}
	for _, service := range s.Services {
		if service.Labels[config.RevisionLabel] != "" {
			known[service.Labels[config.RevisionLabel]] = true
		}
	}
	for _, labels := range s.Namespaces {
		if !known[labels[config.RevisionLabel]] {
			return true
		}
	}
	return false
}

// tags lists the MutatingWebhookConfigurations of tags; only their metadata.
func (c *connection) tags(ctx context.Context) (found []*unstructured.Unstructured, err error) {
	err = c.pages(webhooks.Resource, func(options metav1.ListOptions) (string, error) {
		options.LabelSelector = config.TagSelector
		list, err := c.metadata.Resource(webhooks).List(ctx, options)
		if err != nil {
			return "", err
		}
		for _, item := range list.Items {
			tag := &unstructured.Unstructured{}
			tag.SetName(item.Name)
			tag.SetLabels(item.Labels)
			found = append(found, tag)
		}
		return list.GetContinue(), nil
	})
	return found, err
}
