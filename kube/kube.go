// Package kube is the adapter to the Kubernetes API server: it reads the mesh
// configuration, creates and deletes the objects of runs, and has the Leases,
// Events and permission checks of Squall. It never writes an object that Squall
// has not created.
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
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
)

// requestTimeout bounds one request. The slowest one is a page of a list.
const requestTimeout = 10 * time.Second

// Cluster is one Kubernetes API server. It is safe for concurrent use.
type Cluster struct {
	Mesh
	Objects
	Access
	*connection
}

// Mesh reads the configuration of a mesh.
type Mesh struct{ *connection }

// Objects reads and writes the objects of runs.
type Objects struct{ *connection }

// Access asks which permissions the user has.
type Access struct{ *connection }

// connection has the clients of one API server.
type connection struct {
	host     string
	objects  dynamic.Interface
	watches  dynamic.Interface // without a timeout
	metadata metadata.Interface
	http     *http.Client
	// overrides are what the user says about the control planes.
	overrides config.Overrides
}

var _ runner.Cluster = (*Cluster)(nil)

// Connect returns a client. It sends no request.
func Connect(given *rest.Config) (*Cluster, error) {
	given = rest.CopyConfig(given)
	given.Timeout = cmp.Or(given.Timeout, requestTimeout)
	// The throttling of the client is disabled: the server has priority and
	// fairness, and a rollback must not wait in a queue of the client.
	given.QPS = -1
	given.WarningHandler = rest.NoWarnings{}
	given.UserAgent = rest.DefaultKubernetesUserAgent() // read when the client is created
	client, err := rest.HTTPClientFor(given)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	objects, err := dynamic.NewForConfigAndClient(given, client)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	partial, err := metadata.NewForConfigAndClient(given, client)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	patient := rest.CopyConfig(given)
	patient.Timeout = 0
	watches, err := dynamic.NewForConfigAndClient(patient, &http.Client{Transport: client.Transport})
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(given)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	c := &connection{host: strings.TrimSuffix(base.String(), "/"), objects: objects, watches: watches, metadata: partial, http: client}
	return &Cluster{Mesh: Mesh{connection: c}, Objects: Objects{connection: c}, Access: Access{connection: c}, connection: c}, nil
}

// Name returns the address of the API server.
func (c *Cluster) Name() string { return c.host }

// Check lets the API server validate and admit an object without storing it
// (a dry run). It returns the object as it would be stored.
func (c Objects) Check(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	checked, err := c.resource(objects.RefTo(object)).Create(ctx, object, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: FieldManager, FieldValidation: metav1.FieldValidationStrict})
	if apierrors.IsAlreadyExists(err) {
		return nil, c.taken(ctx, objects.RefTo(object))
	}
	return checked, c.Explain(err)
}

// FieldManager is the field manager of Squall's writes.
const FieldManager = "squall"

// Get returns an object. The error wraps objects.ErrGone if the object does not
// exist, or another one has its name.
func (c Objects) Get(ctx context.Context, ref objects.Ref) (*unstructured.Unstructured, error) {
	object, err := c.resource(ref).Get(ctx, ref.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), err == nil && object.GetUID() != ref.UID:
		return nil, fmt.Errorf("%s %w", ref, objects.ErrGone)
	case err != nil:
		return nil, fmt.Errorf("get %s: %w", ref, c.Explain(err))
	}
	return object, nil
}

// Create creates an object. If the name is taken, the error is a
// *objects.TakenError.
func (c Objects) Create(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	created, err := c.resource(objects.RefTo(object)).Create(ctx, object, metav1.CreateOptions{FieldManager: FieldManager})
	if apierrors.IsAlreadyExists(err) {
		return nil, c.taken(ctx, objects.RefTo(object))
	}
	return created, c.Explain(err)
}

// taken returns the error for a name that is taken, with the run of the object
// that has the name.
func (c Objects) taken(ctx context.Context, ref objects.Ref) error {
	taken := &objects.TakenError{Object: ref}
	if existing, err := c.resource(ref).Get(ctx, ref.Name, metav1.GetOptions{}); err == nil {
		taken.Run = existing.GetLabels()[objects.RunLabel]
	}
	return taken
}

// Armed waits until the Job controller has started the Job, and returns it. The
// deadline counts from that moment.
func (c Objects) Armed(ctx context.Context, job objects.Ref) (*unstructured.Unstructured, error) {
	watcher, err := c.resource(job).Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", job.Name).String()})
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", job, c.Explain(err))
	}
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the Job controller has not started %s, so nothing would end a fault whose run has died", job)
		case event, open := <-watcher.ResultChan():
			if !open {
				return nil, fmt.Errorf("the watch on %s ended before the Job controller started it", job)
			}
			if event.Type == watch.Error {
				return nil, fmt.Errorf("watch %s: %w", job, apierrors.FromObject(event.Object))
			}
			object, ok := event.Object.(*unstructured.Unstructured)
			if !ok || object.GetUID() != job.UID {
				continue
			}
			if event.Type == watch.Deleted {
				return nil, fmt.Errorf("%s %w", job, objects.ErrGone)
			}
			if objects.StartTime(object) != "" {
				return object, nil
			}
		}
	}
}

// Update replaces the spec of an object, unless the object has changed since the
// resource version. The error wraps objects.ErrChanged if it has changed, and
// objects.ErrGone if it no longer exists.
func (c Objects) Update(ctx context.Context, object *unstructured.Unstructured, ref objects.Ref, resourceVersion string) (*unstructured.Unstructured, error) {
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": ref.UID},
		// The server compares the resource version in the patch with the current
		// one, and returns a conflict if they differ.
		{"op": "replace", "path": "/metadata/resourceVersion", "value": resourceVersion},
		{"op": "replace", "path": "/spec", "value": object.Object["spec"]},
	})
	if err != nil {
		return nil, fmt.Errorf("patch of %s: %w", ref, err)
	}
	patched, err := c.resource(ref).Patch(ctx, ref.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("%s %w", ref, objects.ErrGone)
	case apierrors.IsConflict(err):
		return nil, fmt.Errorf("%s %w", ref, objects.ErrChanged)
	case refusesForGood(err):
		return nil, fmt.Errorf("update %s: %w: %w", ref, objects.ErrRejected, err)
	case err != nil:
		return nil, fmt.Errorf("update %s: %w", ref, c.Explain(err))
	}
	return patched, nil
}

// refusesForGood reports whether an error is final: a retry would get the same
// answer, such as not permitted or not valid.
func refusesForGood(err error) bool {
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) {
		return false
	}
	code := status.Status().Code
	return code >= http.StatusBadRequest && code < http.StatusInternalServerError && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout
}

// watchPause is the pause before a watch that has ended is started again.
const watchPause = 200 * time.Millisecond

// Watch calls changed with the object, now and whenever it changes, until ctx is
// done; with nil if the object no longer exists. Errors of the cluster are
// retried.
func (c Objects) Watch(ctx context.Context, ref objects.Ref, changed func(*unstructured.Unstructured)) {
	named := fields.OneTermEqualSelector("metadata.name", ref.Name).String()
	for ctx.Err() == nil {
		// A list has the current resource version. The object has the version of
		// its last change, which the server may have compacted.
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

// follow calls changed for the states of an object after a resource version,
// until the watch ends.
func (c Objects) follow(ctx context.Context, ref objects.Ref, named, resourceVersion string, changed func(*unstructured.Unstructured)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The server chooses a timeout of some minutes for the watch. The timeout of the
	// normal client is shorter, so only the answer to the request has one here.
	unanswered := time.AfterFunc(requestTimeout, cancel)
	watcher, err := c.watches.Resource(gvr(ref)).Namespace(ref.Namespace).Watch(ctx, metav1.ListOptions{
		FieldSelector: named, ResourceVersion: resourceVersion,
	})
	unanswered.Stop()
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
				return // ended, or an error: list again
			}
			if event.Type == watch.Deleted || object.GetUID() != ref.UID {
				return
			}
			changed(object)
		}
	}
}

// Extend sets the Job's deadline, which counts from its start, and adds annotations. It
// returns the Job as it is stored.
func (c Objects) Extend(ctx context.Context, job objects.Ref, deadline time.Duration, annotations map[string]string) (*unstructured.Unstructured, error) {
	patch, err := json.Marshal(map[string]any{
		// With the UID the server refuses the patch for any other Job.
		"metadata": map[string]any{"uid": job.UID, "annotations": annotations},
		"spec":     map[string]any{"activeDeadlineSeconds": objects.DeadlineSeconds(deadline)},
	})
	if err != nil {
		return nil, fmt.Errorf("patch of %s: %w", job, err)
	}
	patched, err := c.resource(job).Patch(ctx, job.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err), err == nil && patched.GetDeletionTimestamp() != nil:
		return nil, fmt.Errorf("%s %w", job, objects.ErrGone)
	case err != nil:
		return nil, fmt.Errorf("extend the deadline of %s: %w", job, c.Explain(err))
	}
	return patched, nil
}

// Earlier returns the VirtualServices of runs, in all namespaces, that existed when an
// object was created, and for which wanted returns true: of the list at exactly its
// resource version, which etcd counts for all objects together. For an object without one
// it returns those that exist now.
func (c Objects) Earlier(ctx context.Context, created *unstructured.Unstructured, wanted func(*unstructured.Unstructured) bool) (found []*unstructured.Unstructured, err error) {
	err = c.pages("virtualservices", func(options metav1.ListOptions) (string, error) {
		options.LabelSelector, options.Limit = ours, runsPageSize
		if version := created.GetResourceVersion(); version != "" && options.Continue == "" { // which has the version already
			options.ResourceVersion, options.ResourceVersionMatch = version, metav1.ResourceVersionMatchExact
		}
		list, err := c.objects.Resource(gvr(objects.RefTo(created))).List(ctx, options)
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			if wanted(&list.Items[i]) {
				found = append(found, list.Items[i].DeepCopy()) // which does not keep the page in memory
			}
		}
		return list.GetContinue(), nil
	})
	return found, err
}

// runsPageSize is the maximum number of VirtualServices in one response of Earlier. Many
// runs may list them at the same time.
const runsPageSize = 50

// Delete deletes an object of a run by its UID. Without a UID it deletes the
// object only if it has the label of the run. The object is gone when Delete
// returns nil.
func (c Objects) Delete(ctx context.Context, ref objects.Ref, run string) error {
	if ref.UID == "" {
		existing, err := c.resource(ref).Get(ctx, ref.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return missing(ref)
		}
		if err != nil {
			return fmt.Errorf("get %s: %w", ref, c.Explain(err))
		}
		if existing.GetLabels()[objects.RunLabel] != run {
			return missing(ref)
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
		return missing(ref)
	case err == nil:
		return c.gone(ctx, ref)
	case apierrors.IsConflict(err) && c.gone(ctx, ref) == nil:
		// Usually the name now belongs to another object, and this one is gone. But an
		// admission webhook may return the same error.
		return missing(ref)
	case apierrors.ReasonForError(err) != metav1.StatusReasonUnknown: // the server has answered
		return &objects.KeptError{Object: ref, Err: err}
	}
	return fmt.Errorf("delete %s: %w", ref, c.Explain(err))
}

// missing returns the error of Delete for an object that does not exist.
func missing(ref objects.Ref) error { return fmt.Errorf("%s %w", ref, objects.ErrGone) }

// Withdraw replaces the spec of a VirtualService of a run by one that applies to no
// calls.
func (c Objects) Withdraw(ctx context.Context, ref objects.Ref, run string) error {
	tests := []map[string]any{{"op": "test", "path": "/metadata/labels/" + strings.ReplaceAll(objects.RunLabel, "/", "~1"), "value": run}}
	if ref.UID != "" {
		tests = append(tests, map[string]any{"op": "test", "path": "/metadata/uid", "value": ref.UID})
	}
	patch, err := json.Marshal(append(tests, map[string]any{"op": "replace", "path": "/spec", "value": objects.WithdrawnSpec(ref)}))
	if err != nil {
		return fmt.Errorf("patch of %s: %w", ref, err)
	}
	_, err = c.resource(ref).Patch(ctx, ref.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
	if err != nil {
		return fmt.Errorf("update %s: %w", ref, c.Explain(err))
	}
	return nil
}

// gone returns an error if an object still exists: an object with a finalizer
// stays effective although the cluster has accepted its deletion.
func (c Objects) gone(ctx context.Context, ref objects.Ref) error {
	left, err := c.Get(ctx, ref)
	switch {
	case errors.Is(err, objects.ErrGone):
		return nil
	case err != nil:
		return err
	default:
		return &objects.KeptError{Object: ref, Finalizers: left.GetFinalizers()}
	}
}

// Explain shortens an error of the HTTP client, which contains a whole URL, to
// its cause.
func (c *connection) Explain(err error) error {
	var transport *url.Error
	if !errors.As(err, &transport) {
		return err
	}
	return fmt.Errorf("the API server %s does not answer: %w", c.host, transport.Err)
}

// resource returns the client for an object's kind.
func (c *connection) resource(ref objects.Ref) dynamic.ResourceInterface {
	return c.objects.Resource(gvr(ref)).Namespace(ref.Namespace)
}

func gvr(ref objects.Ref) schema.GroupVersionResource {
	return schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupVersion().WithResource(plurals[ref.Kind])
}

// plurals has the resource names of the kinds that Squall creates.
var plurals = map[string]string{objects.KindVirtualService: "virtualservices", objects.KindServiceEntry: "serviceentries", objects.KindDestinationRule: "destinationrules", objects.KindJob: "jobs"} //nolint:gochecknoglobals // a constant table
