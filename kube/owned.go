package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/squall-chaos/squall/mesh/objects"
)

// ours selects the objects of runs.
const ours = objects.ManagedByLabel + "=" + objects.ManagedByValue + "," + objects.RunLabel

// List returns the objects of runs in a namespace, or in all namespaces if it is
// empty. If Jobs can be listed in some namespaces only, it lists them in the
// namespaces of the other objects, and runs without other objects are in Unread.
func (c Objects) List(ctx context.Context, namespace string) (objects.Owned, error) {
	version, err := c.istioVersion(ctx)
	if err != nil {
		return objects.Owned{}, err
	}
	jobs := ownedKind{kind: objects.KindJob, resource: schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}}
	owned, err := c.listOwned(ctx, []ownedKind{
		{kind: objects.KindVirtualService, resource: version.WithResource("virtualservices")},
		{kind: objects.KindServiceEntry, resource: version.WithResource("serviceentries")},
		{kind: objects.KindDestinationRule, resource: version.WithResource("destinationrules")},
		jobs,
	}, namespace)
	everyJob := objects.Unread{Kind: jobs.kind, Resource: jobs.resource.GroupResource().String()}
	denied := slices.Index(owned.Unread, everyJob)
	if err != nil || denied < 0 {
		return owned, err
	}
	owned.Unread[denied].Kind = objects.UnreadRuns
	for _, namespace := range namespacesOf(owned.Objects) {
		here, err := c.listOwned(ctx, []ownedKind{jobs}, namespace)
		if err != nil {
			return objects.Owned{}, err
		}
		owned.Objects = append(owned.Objects, here.Objects...)
		owned.Unread = append(owned.Unread, here.Unread...)
	}
	return owned, nil
}

// ownedKind is a kind of object that runs create.
type ownedKind struct {
	kind     string
	resource schema.GroupVersionResource
}

// listOwned lists several kinds at the same time. Kinds that may not be listed
// are in Unread.
func (c Objects) listOwned(ctx context.Context, kinds []ownedKind, namespace string) (objects.Owned, error) {
	found := make([]objects.Owned, len(kinds))
	group, ctx := errgroup.WithContext(ctx)
	for i, kind := range kinds {
		group.Go(func() error {
			listed, err := c.selected(ctx, kind.resource, namespace, ours)
			if apierrors.IsForbidden(err) {
				found[i].Unread = []objects.Unread{{Kind: kind.kind, Resource: kind.resource.GroupResource().String(), Namespace: namespace}}
				return nil
			}
			found[i].Objects = listed
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return objects.Owned{}, err
	}
	var owned objects.Owned
	for _, f := range found {
		owned.Objects = append(owned.Objects, f.Objects...)
		owned.Unread = append(owned.Unread, f.Unread...)
	}
	return owned, nil
}

// namespacesOf returns the namespaces of objects, sorted.
func namespacesOf(found []*unstructured.Unstructured) []string {
	namespaces := map[string]bool{}
	for _, object := range found {
		namespaces[object.GetNamespace()] = true
	}
	return slices.Sorted(maps.Keys(namespaces))
}

// Annotate adds annotations to an object. The error wraps objects.ErrGone if it
// no longer exists.
func (c Objects) Annotate(ctx context.Context, ref objects.Ref, annotations map[string]string) error {
	// With the UID the server refuses the patch for any other object.
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": ref.UID, "annotations": annotations}})
	if err != nil {
		return fmt.Errorf("patch of %s: %w", ref, err)
	}
	_, err = c.resource(ref).Patch(ctx, ref.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return fmt.Errorf("%s %w", ref, objects.ErrGone)
	case err != nil:
		return fmt.Errorf("annotate %s: %w", ref, c.Explain(err))
	}
	return nil
}

// Server is the version and the time of an API server.
type Server struct {
	// Version is empty if the user may not read it.
	Version string
	// Time is the server's clock, in whole seconds. Deadlines are compared with it.
	Time time.Time
}

// Server reads the version and the time of the API server.
func (c *Cluster) Server(ctx context.Context) (Server, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.host+"/version", http.NoBody)
	if err != nil {
		return Server{}, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return Server{}, c.Explain(err)
	}
	defer response.Body.Close() //nolint:errcheck // read to the end or dropped
	now, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return Server{}, fmt.Errorf("%s sends no valid Date header: %w", c.host, err)
	}
	if response.StatusCode != http.StatusOK {
		return Server{Time: now}, nil
	}
	var version struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := json.NewDecoder(response.Body).Decode(&version); err != nil {
		return Server{}, fmt.Errorf("%s/version: %w", c.host, err)
	}
	return Server{Version: version.GitVersion, Time: now}, nil
}
