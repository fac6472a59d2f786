// Package kube reads the mesh configuration from a Kubernetes API server
// and creates and deletes a run's objects there. It writes no object that was
// not made by Squall.
package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner"
)

// requestTimeout bounds one request; the slowest is a page of a list.
const requestTimeout = 10 * time.Second

// Cluster is one Kubernetes API server. It is safe for concurrent use.
type Cluster struct {
	host     string
	objects  dynamic.Interface
	watches  dynamic.Interface // without a timeout
	metadata metadata.Interface
	http     *http.Client
}

var _ runner.Cluster = (*Cluster)(nil)

// Connect makes a client; nothing is sent yet.
func Connect(config *rest.Config) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.Timeout = cmp.Or(config.Timeout, requestTimeout)
	// The client's own throttle is off: the server has a fair one, and a
	// rollback must not wait in a queue of ours.
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	config.UserAgent = rest.DefaultKubernetesUserAgent() // before the client is made, else it has none
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	objects, err := dynamic.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	partial, err := metadata.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	patient := rest.CopyConfig(config)
	patient.Timeout = 0
	watches, err := dynamic.NewForConfigAndClient(patient, &http.Client{Transport: client.Transport})
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	return &Cluster{host: strings.TrimSuffix(base.String(), "/"), objects: objects, watches: watches, metadata: partial, http: client}, nil
}

// Name gives the address of the API server.
func (c *Cluster) Name() string { return c.host }

// Check asks the API server to validate and admit an object without storing
// it.
func (c *Cluster) Check(ctx context.Context, object *unstructured.Unstructured) error {
	_, err := c.resource(mesh.RefTo(object)).Create(ctx, object, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: fieldManager, FieldValidation: metav1.FieldValidationStrict})
	if apierrors.IsAlreadyExists(err) {
		return c.taken(ctx, mesh.RefTo(object))
	}
	return c.explain(err)
}

// fieldManager is the name under which the API server knows our writes.
const fieldManager = "squall"

// Get reads an object of a certain UID.
func (c *Cluster) Get(ctx context.Context, ref mesh.Ref) (*unstructured.Unstructured, error) {
	object, err := c.resource(ref).Get(ctx, ref.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), err == nil && object.GetUID() != ref.UID:
		return nil, fmt.Errorf("%s %w", ref, runner.ErrGone)
	case err != nil:
		return nil, fmt.Errorf("get %s: %w", ref, c.explain(err))
	}
	return object, nil
}

// Create creates an object. When the name is taken the error is of type
// *runner.TakenError.
func (c *Cluster) Create(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	created, err := c.resource(mesh.RefTo(object)).Create(ctx, object, metav1.CreateOptions{FieldManager: fieldManager})
	if apierrors.IsAlreadyExists(err) {
		return nil, c.taken(ctx, mesh.RefTo(object))
	}
	return created, c.explain(err)
}

// taken says whose object stands in the way.
func (c *Cluster) taken(ctx context.Context, ref mesh.Ref) error {
	taken := &runner.TakenError{Object: ref}
	if existing, err := c.resource(ref).Get(ctx, ref.Name, metav1.GetOptions{}); err == nil {
		taken.Run = existing.GetLabels()[mesh.RunLabel]
	}
	return taken
}

// Armed waits until the Job controller has started the Job, from which moment
// its deadline counts.
func (c *Cluster) Armed(ctx context.Context, job mesh.Ref) error {
	watcher, err := c.resource(job).Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", job.Name).String()})
	if err != nil {
		return fmt.Errorf("watch %s: %w", job, c.explain(err))
	}
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the Job controller has not started %s, so nothing would end a fault whose run has died", job)
		case event, open := <-watcher.ResultChan():
			if !open {
				return fmt.Errorf("the watch on %s ended before the Job controller started it", job)
			}
			if event.Type == watch.Error {
				return fmt.Errorf("watch %s: %w", job, apierrors.FromObject(event.Object))
			}
			object, ok := event.Object.(*unstructured.Unstructured)
			if !ok || object.GetUID() != job.UID {
				continue
			}
			if event.Type == watch.Deleted {
				return fmt.Errorf("%s %w", job, runner.ErrGone)
			}
			if started, _, _ := unstructured.NestedString(object.Object, "status", "startTime"); started != "" {
				return nil
			}
		}
	}
}

// Update gives an object of ours a new spec, unless it has changed since the
// resource version. The error wraps runner.ErrChanged when it has, and
// runner.ErrGone when it does not exist any more.
func (c *Cluster) Update(ctx context.Context, object *unstructured.Unstructured, ref mesh.Ref, resourceVersion string) (*unstructured.Unstructured, error) {
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": ref.UID},
		// The server compares a resource version that is written, and refuses
		// with a conflict.
		{"op": "replace", "path": "/metadata/resourceVersion", "value": resourceVersion},
		{"op": "replace", "path": "/spec", "value": object.Object["spec"]},
	})
	if err != nil {
		return nil, fmt.Errorf("patch of %s: %w", ref, err)
	}
	patched, err := c.resource(ref).Patch(ctx, ref.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("%s %w", ref, runner.ErrGone)
	case apierrors.IsConflict(err):
		return nil, fmt.Errorf("%s %w", ref, runner.ErrChanged)
	case refusesForGood(err):
		return nil, fmt.Errorf("update %s: %w: %w", ref, runner.ErrRejected, err)
	case err != nil:
		return nil, fmt.Errorf("update %s: %w", ref, c.explain(err))
	}
	return patched, nil
}

// refusesForGood reports whether the server would give the same answer again:
// not permitted, not valid. What it is too busy for may pass.
func refusesForGood(err error) bool {
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) {
		return false
	}
	code := status.Status().Code
	return code >= http.StatusBadRequest && code < http.StatusInternalServerError && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout
}

// watchPause is how long a watch that has ended waits before it starts again.
const watchPause = 200 * time.Millisecond

// Watch tells the state of an object, now and whenever it changes, until ctx
// ends; nil says that the object does not exist any more. Errors of the cluster
// are waited out.
func (c *Cluster) Watch(ctx context.Context, ref mesh.Ref, changed func(*unstructured.Unstructured)) {
	named := fields.OneTermEqualSelector("metadata.name", ref.Name).String()
	for ctx.Err() == nil {
		// The resource version of a list is of now. That of an object is of its
		// last change, which the server may have forgotten.
		list, err := c.resource(ref).List(ctx, metav1.ListOptions{FieldSelector: named})
		if apierrors.IsNotFound(err) { // the kind itself is gone, and its objects
			changed(nil)
			return
		}
		if err == nil {
			i := slices.IndexFunc(list.Items, func(o unstructured.Unstructured) bool { return o.GetUID() == ref.UID })
			if i < 0 {
				changed(nil)
				return
			}
			changed(&list.Items[i])
			c.follow(ctx, ref, named, list.GetResourceVersion(), changed)
		}
		sleep.For(ctx, watchPause)
	}
}

// follow tells an object's states after a resource version, until the watch
// ends.
func (c *Cluster) follow(ctx context.Context, ref mesh.Ref, named, resourceVersion string, changed func(*unstructured.Unstructured)) {
	// Without a timeout the server chooses one of some minutes, which the
	// client's own would cut short.
	watcher, err := c.watches.Resource(gvr(ref)).Namespace(ref.Namespace).Watch(ctx, metav1.ListOptions{
		FieldSelector: named, ResourceVersion: resourceVersion,
	})
	if err != nil {
		return
	}
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case event, open := <-watcher.ResultChan():
			object, ok := event.Object.(*unstructured.Unstructured)
			if !open || !ok {
				return // ended, or an error: look again
			}
			if event.Type == watch.Deleted || object.GetUID() != ref.UID {
				return
			}
			changed(object)
		}
	}
}

// Extend sets the Job's deadline, counted from its start.
func (c *Cluster) Extend(ctx context.Context, job mesh.Ref, deadline time.Duration) error {
	patch, err := json.Marshal(map[string]any{
		// The UID makes the server refuse the patch for any other Job.
		"metadata": map[string]any{"uid": job.UID},
		"spec":     map[string]any{"activeDeadlineSeconds": mesh.DeadlineSeconds(deadline)},
	})
	if err != nil {
		return fmt.Errorf("patch of %s: %w", job, err)
	}
	patched, err := c.resource(job).Patch(ctx, job.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err), err == nil && patched.GetDeletionTimestamp() != nil:
		return fmt.Errorf("%s %w", job, runner.ErrGone)
	case err != nil:
		return fmt.Errorf("extend the deadline of %s: %w", job, c.explain(err))
	}
	return nil
}

// Delete deletes exactly the object that the run created.
func (c *Cluster) Delete(ctx context.Context, ref mesh.Ref, run string) error {
	if ref.UID == "" {
		existing, err := c.resource(ref).Get(ctx, ref.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("get %s: %w", ref, c.explain(err))
		}
		if existing.GetLabels()[mesh.RunLabel] != run {
			return nil
		}
		ref.UID = existing.GetUID()
	}
	propagation := metav1.DeletePropagationBackground
	err := c.resource(ref).Delete(ctx, ref.Name, metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &ref.UID},
		PropagationPolicy: &propagation,
	})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err == nil:
		return c.gone(ctx, ref)
	case apierrors.IsConflict(err) && c.gone(ctx, ref) == nil:
		// As a rule the name now belongs to another object, and ours is gone. But
		// an admission webhook may say the same.
		return nil
	}
	return fmt.Errorf("delete %s: %w", ref, c.explain(err))
}

// gone makes sure that an object does not exist any more: one with a finalizer
// stays, and stays in force, though the cluster has agreed to delete it.
func (c *Cluster) gone(ctx context.Context, ref mesh.Ref) error {
	left, err := c.Get(ctx, ref)
	switch {
	case errors.Is(err, runner.ErrGone):
		return nil
	case err != nil:
		return err
	case len(left.GetFinalizers()) > 0:
		return fmt.Errorf("%s is kept by finalizers that somebody has set: %s", ref, strings.Join(left.GetFinalizers(), ", "))
	default:
		return fmt.Errorf("%s is still there", ref)
	}
}

// explain shortens an error of the transport, which names a whole URL, to
// what it means.
func (c *Cluster) explain(err error) error {
	var transport *url.Error
	if !errors.As(err, &transport) {
		return err
	}
	return fmt.Errorf("the API server %s does not answer: %w", c.host, transport.Err)
}

// resource gives the client for an object's kind.
func (c *Cluster) resource(ref mesh.Ref) dynamic.ResourceInterface {
	return c.objects.Resource(gvr(ref)).Namespace(ref.Namespace)
}

func gvr(ref mesh.Ref) schema.GroupVersionResource {
	return schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupVersion().WithResource(plurals[ref.Kind])
}

// plurals are the resource names of the kinds that Squall creates.
var plurals = map[string]string{"VirtualService": "virtualservices", "ServiceEntry": "serviceentries", "Job": "jobs"} //nolint:gochecknoglobals // a constant table
