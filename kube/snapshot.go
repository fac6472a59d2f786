package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/squall-chaos/squall/istio/config"
)

const (
	istioGroup   = config.IstioGroup
	gatewayGroup = "gateway.networking.k8s.io"
	// pageSize is the maximum number of objects in one response.
	pageSize = 500
)

// Snapshot reads the mesh configuration, all kinds at the same time.
func (c Mesh) Snapshot(ctx context.Context) (config.Snapshot, error) {
	version, err := c.istioVersion(ctx)
	if err != nil {
		return config.Snapshot{}, err
	}
	s := config.Defaults()
	s.APIVersion = version.String()
	parent := ctx
	group, ctx := errgroup.WithContext(parent)
	for resource, into := range map[string]*[]*unstructured.Unstructured{
		"virtualservices": &s.VirtualServices,
		"serviceentries":  &s.ServiceEntries,
		"sidecars":        &s.Sidecars,
	} {
		group.Go(func() (err error) {
			*into, err = c.list(ctx, version.WithResource(resource))
			return err
		})
	}
	group.Go(func() (err error) {
		s.DestinationRules, err = c.list(ctx, version.WithResource("destinationrules"))
		if apierrors.IsForbidden(err) {
			// Roles of earlier versions do not have the permission, and only blackholes
			// need it.
			s.WithoutDestinationRules, err = true, nil
		}
		return err
	})
	group.Go(func() (err error) {
		s.Gateways, err = c.list(ctx, version.WithResource("gateways"))
		if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
			// Roles of earlier versions do not have the permission.
			err = nil
		}
		return err
	})
	group.Go(func() error {
		return c.services(ctx, func(service config.Service) { s.Services = append(s.Services, service) })
	})
	group.Go(func() (err error) {
		s.Routes, err = c.gatewayRoutes(ctx)
		return err
	})
	group.Go(func() error {
		return c.names(ctx, "namespaces", func(item metav1.PartialObjectMetadata) {
			s.Namespaces[item.Name] = item.Labels
		})
	})
	if err := group.Wait(); err != nil {
		return config.Snapshot{}, err
	}
	found, err := c.controlPlanes(parent, s)
	if err != nil {
		return config.Snapshot{}, err
	}
	return s, s.Configure(found, c.overrides)
}

// gatewayResources are routes of the Gateway API that can apply to the calls
// of a fault.
var gatewayResources = []string{"httproutes", "grpcroutes"} //nolint:gochecknoglobals // a constant table

// gatewayRoutes lists the routes of the Gateway API, if it is installed.
func (c Mesh) gatewayRoutes(ctx context.Context) ([]*unstructured.Unstructured, error) {
	var group metav1.APIGroup
	served, err := c.getJSON(ctx, "/apis/"+gatewayGroup, &group)
	if err != nil {
		return nil, fmt.Errorf("whether the cluster serves the Gateway API: %w", c.Explain(err))
	}
	if !served {
		return nil, nil
	}
	var routes []*unstructured.Unstructured
	for _, resource := range gatewayResources {
		for _, version := range group.Versions { // newest first; older installations have no v1
			found, err := c.list(ctx, schema.GroupVersionResource{Group: group.Name, Version: version.Version, Resource: resource})
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			routes = append(routes, found...)
			break
		}
	}
	return routes, nil
}

// list returns all objects of a resource in all namespaces.
func (c *connection) list(ctx context.Context, resource schema.GroupVersionResource) ([]*unstructured.Unstructured, error) {
	return c.selected(ctx, resource, metav1.NamespaceAll, "")
}

// selected returns the objects of a resource in a namespace that a label selector selects.
func (c *connection) selected(ctx context.Context, resource schema.GroupVersionResource, namespace, selector string) (objects []*unstructured.Unstructured, err error) {
	err = c.pages(resource.Resource, func(options metav1.ListOptions) (string, error) {
		options.LabelSelector = selector
		list, err := c.objects.Resource(resource).Namespace(namespace).List(ctx, options)
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			objects = append(objects, &list.Items[i])
		}
		return list.GetContinue(), nil
	})
	return objects, err
}

// istioVersion returns the newest served version of Istio's API. It requests only
// this group; client-go's discovery would import every Kubernetes type.
func (c *connection) istioVersion(ctx context.Context) (schema.GroupVersion, error) {
	var group metav1.APIGroup
	found, err := c.getJSON(ctx, "/apis/"+istioGroup, &group)
	if err != nil {
		return schema.GroupVersion{}, fmt.Errorf("which versions of %s the cluster serves: %w", istioGroup, c.Explain(err))
	}
	if !found {
		return schema.GroupVersion{}, fmt.Errorf("the cluster serves no %s: Istio is not installed there", istioGroup)
	}
	for _, wanted := range config.IstioVersions {
		if slices.ContainsFunc(group.Versions, func(served metav1.GroupVersionForDiscovery) bool { return served.Version == wanted }) {
			return schema.GroupVersion{Group: istioGroup, Version: wanted}, nil
		}
	}
	return schema.GroupVersion{}, fmt.Errorf("the cluster serves none of the versions %v of %s", config.IstioVersions, istioGroup)
}

// maxDocument limits the size of a response in getJSON: a page of the largest
// Services.
const maxDocument = 32 << 20

// getJSON reads a JSON document from the API server. found is false if there is
// none at the path.
func (c *connection) getJSON(ctx context.Context, path string, into any) (found bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.host+path, http.NoBody)
	if err != nil {
		return false, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return false, err
	}
	defer response.Body.Close() //nolint:errcheck // read to the end or dropped
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDocument))
	if err != nil {
		return false, err
	}
	switch response.StatusCode {
	case http.StatusNotFound:
		return false, nil
	case http.StatusOK:
		return true, json.Unmarshal(body, into)
	default:
		var status metav1.Status
		if json.Unmarshal(body, &status) == nil && status.Message != "" {
			return false, &apierrors.StatusError{ErrStatus: status}
		}
		return false, fmt.Errorf("%s answers %s", c.host+path, response.Status)
	}
}

// services lists the Services. It decodes only the fields that Squall needs,
// because a cluster may have thousands.
func (c Mesh) services(ctx context.Context, each func(config.Service)) error {
	return c.pages("services", func(options metav1.ListOptions) (string, error) {
		query := url.Values{"limit": {strconv.FormatInt(options.Limit, 10)}}
		if options.Continue != "" {
			query.Set("continue", options.Continue)
		}
		var list struct {
			Metadata metav1.ListMeta          `json:"metadata"`
			Items    []config.ServiceManifest `json:"items"`
		}
		if _, err := c.getJSON(ctx, "/api/v1/services?"+query.Encode(), &list); err != nil {
			return "", err
		}
		for _, item := range list.Items {
			each(item.Service())
		}
		return list.Metadata.Continue, nil
	})
}

// names lists the metadata of all objects of a core resource.
func (c Mesh) names(ctx context.Context, resource string, each func(metav1.PartialObjectMetadata)) error {
	return c.pages(resource, func(options metav1.ListOptions) (string, error) {
		list, err := c.metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource}).List(ctx, options)
		if err != nil {
			return "", err
		}
		for _, item := range list.Items {
			each(item)
		}
		return list.GetContinue(), nil
	})
}

// pages calls list for each page. It returns an error if a list changes so much
// that its next page expires; the caller retries.
func (c *connection) pages(resource string, list func(metav1.ListOptions) (next string, err error)) error {
	options := metav1.ListOptions{Limit: pageSize}
	for {
		next, err := list(options)
		switch {
		case apierrors.IsForbidden(err):
			return fmt.Errorf("no permission to list %s: %w", resource, err)
		case err != nil:
			return fmt.Errorf("list %s: %w", resource, c.Explain(err))
		case next == "":
			return nil
		}
		options.Continue = next
	}
}
