// Package runnertest has a cluster in memory, for tests of packages that carry out
// runs.
package runnertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
)

// Cluster is a runner.Cluster in memory. It stores objects, deletes a Job whose
// deadline has passed with everything that the Job owns, and reports an error of the
// test for an object that nothing would delete if its runner died.
//
// Operations are named "snapshot", "permitted in NAMESPACE", "hold", "check KIND",
// "create KIND", "armed", "extend to DEADLINE", "update KIND" and "delete KIND". Get and
// Watch have no name, and never fail.
type Cluster struct {
	*Script
	*store
	// WithoutHeartbeat permits objects that no Job owns.
	WithoutHeartbeat bool
	// Restless makes a watch report objects every 10 ms, also if they have not changed.
	Restless bool
	// Admit changes an object before it is stored, or would be stored, as a webhook
	// does. It may be nil, and must not call the cluster.
	Admit func(object *unstructured.Unstructured, dryRun bool)
	// Created is called with an object after it was created, and Deleted with one that
	// is gone since a time. Both may be nil, and must not call the cluster.
	Created func(object *unstructured.Unstructured)
	Deleted func(object *unstructured.Unstructured, at time.Time)

	t        testing.TB
	hold     *objects.Hold
	snapshot config.Snapshot // without VirtualServices and ServiceEntries
}

var _ runner.Cluster = (*Cluster)(nil)

// New returns a cluster with a mesh configuration. At the end of the test every
// failure that Fail has set must have occurred.
func New(t testing.TB, snapshot config.Snapshot) *Cluster {
	c := &Cluster{Script: newScript(), t: t}
	c.store = &store{
		objects: map[string]*unstructured.Unstructured{}, started: map[types.UID]time.Time{}, born: map[types.UID]int{}, until: map[types.UID]time.Time{}, changed: make(chan struct{}),
		deleted: func(object *unstructured.Unstructured, at time.Time) {
			if c.Deleted != nil {
				c.Deleted(object, at)
			}
		},
	}
	for _, object := range slices.Concat(snapshot.VirtualServices, snapshot.ServiceEntries) {
		c.objects[nameOf(object)] = object.DeepCopy()
	}
	snapshot.VirtualServices, snapshot.ServiceEntries = nil, nil
	c.snapshot = snapshot
	t.Cleanup(func() { c.checkUsed(t) })
	return c
}

func nameOf(object *unstructured.Unstructured) string { return objects.RefTo(object).String() }

// begin records an operation and returns the error that it has to fail with. It
// locks the cluster in any case.
func (c *Cluster) begin(ctx context.Context, operation string) error {
	c.before(operation)
	c.store.mu.Lock()
	c.expire()
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.next(c.t, operation)
}

// Name implements runner.Cluster.
func (c *Cluster) Name() string { return "fake" }

// Snapshot implements runner.Mesh.
func (c *Cluster) Snapshot(ctx context.Context) (config.Snapshot, error) {
	err := c.begin(ctx, "snapshot")
	defer c.store.mu.Unlock()
	snapshot := c.snapshot
	for _, name := range slices.Sorted(maps.Keys(c.objects)) {
		switch object := c.objects[name]; object.GetKind() {
		case objects.KindVirtualService:
			snapshot.VirtualServices = append(snapshot.VirtualServices, object.DeepCopy())
		case objects.KindServiceEntry:
			snapshot.ServiceEntries = append(snapshot.ServiceEntries, object.DeepCopy())
		case objects.KindDestinationRule:
			snapshot.DestinationRules = append(slices.Clip(snapshot.DestinationRules), object.DeepCopy())
		}
	}
	return snapshot, err
}

// EditMesh changes what a snapshot has beside VirtualServices and ServiceEntries. It
// must replace what it changes: earlier snapshots share it.
func (c *Cluster) EditMesh(change func(*config.Snapshot)) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	change(&c.snapshot)
}

// Permitted implements runner.Mesh.
func (c *Cluster) Permitted(ctx context.Context, namespace string, _ []string) error {
	defer c.store.mu.Unlock()
	return c.begin(ctx, "permitted in "+namespace)
}

// Hold implements runner.Holds.
func (c *Cluster) Hold(ctx context.Context, _ []string) (*objects.Hold, error) {
	defer c.store.mu.Unlock()
	if err := c.begin(ctx, "hold"); err != nil {
		return nil, err
	}
	return c.hold, nil
}

// SetHold holds all runs; nil releases them.
func (c *Cluster) SetHold(hold *objects.Hold) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.hold = hold
}

// Check implements runner.Creator.
func (c *Cluster) Check(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	defer c.store.mu.Unlock()
	if err := c.begin(ctx, "check "+object.GetKind()); err != nil {
		return nil, err
	}
	return c.admitted(object, true), nil
}

// admitted returns an object as admission changes it. The lock is held.
func (c *Cluster) admitted(object *unstructured.Unstructured, dryRun bool) *unstructured.Unstructured {
	admitted := object.DeepCopy()
	if c.Admit != nil {
		c.Admit(admitted, dryRun)
	}
	return admitted
}

// Create implements runner.Creator.
func (c *Cluster) Create(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	operation := "create " + object.GetKind()
	err := c.begin(ctx, operation)
	defer c.store.mu.Unlock()
	if err != nil && !c.isLost(operation) {
		return nil, err
	}
	ref := objects.RefTo(object)
	if other := c.objects[ref.String()]; other != nil {
		return nil, &objects.TakenError{Object: ref, Run: other.GetLabels()[objects.RunLabel]}
	}
	stored := c.admitted(object, false)
	stored.SetResourceVersion(c.nextVersion())
	stored.SetUID(types.UID("uid-" + stored.GetResourceVersion()))
	stored.SetGeneration(1)
	checkOwner(c, object)
	if stored.GetKind() == objects.KindJob {
		seconds, _, _ := unstructured.NestedInt64(stored.Object, "spec", "activeDeadlineSeconds")
		c.started[stored.GetUID()] = time.Now()
		_ = unstructured.SetNestedField(stored.Object, time.Now().UTC().Format(time.RFC3339), "status", "startTime") // a new field always fits
		c.until[stored.GetUID()] = time.Now().Add(time.Duration(seconds) * time.Second)
	}
	c.objects[ref.String()] = stored
	c.born[stored.GetUID()] = c.version
	c.count(time.Now())
	c.notify()
	if c.Created != nil {
		c.Created(stored)
	}
	return stored.DeepCopy(), err
}

// checkOwner reports an object that would outlive its runner. The lock is held.
func checkOwner(c *Cluster, object *unstructured.Unstructured) {
	owners := object.GetOwnerReferences()
	for _, owner := range owners {
		job := c.objects[fmt.Sprintf("%s %s/%s", objects.KindJob, object.GetNamespace(), owner.Name)]
		if job == nil || job.GetUID() != owner.UID {
			c.t.Errorf("%s is owned by a Job that does not exist", nameOf(object))
		}
	}
	if object.GetKind() != objects.KindJob && !c.WithoutHeartbeat && len(owners) != 1 {
		c.t.Errorf("%s has no owner, so nothing would delete it", nameOf(object))
	}
}

// Armed implements heartbeat.Cluster.
func (c *Cluster) Armed(ctx context.Context, job objects.Ref) (*unstructured.Unstructured, error) {
	err := c.begin(ctx, "armed")
	defer c.store.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return c.get(job)
}

// Extend implements heartbeat.Cluster.
func (c *Cluster) Extend(ctx context.Context, job objects.Ref, deadline time.Duration, annotations map[string]string) (*unstructured.Unstructured, error) {
	if _, err := c.Get(ctx, job); errors.Is(err, objects.ErrGone) {
		return nil, err
	}
	err := c.begin(ctx, fmt.Sprintf("extend to %s", deadline))
	defer c.store.mu.Unlock()
	if err != nil {
		return nil, err
	}
	stored := c.admitted(objects.Extended(c.objects[job.String()], deadline, annotations), false)
	stored.SetResourceVersion(c.nextVersion())
	c.until[job.UID] = c.started[job.UID].Add(deadline)
	c.objects[job.String()] = stored
	return stored.DeepCopy(), nil
}

// Get implements keep.Cluster.
func (c *Cluster) Get(ctx context.Context, ref objects.Ref) (*unstructured.Unstructured, error) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.expire()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return c.get(ref)
}

// Watch implements keep.Cluster.
func (c *Cluster) Watch(ctx context.Context, ref objects.Ref, changed func(*unstructured.Unstructured)) {
	last := int64(-1)
	for ctx.Err() == nil {
		c.store.mu.Lock()
		c.expire()
		object, err := c.get(ref)
		next, wake := c.changed, c.wake()
		c.store.mu.Unlock()
		if err != nil {
			changed(nil)
			return
		}
		if c.Restless || object.GetGeneration() != last {
			last = object.GetGeneration()
			changed(object)
		}
		select {
		case <-ctx.Done():
		case <-next:
		case <-wake:
		}
	}
}

// Update implements keep.Cluster.
func (c *Cluster) Update(ctx context.Context, object *unstructured.Unstructured, ref objects.Ref, resourceVersion string) (*unstructured.Unstructured, error) {
	operation := "update " + ref.Kind
	failure := c.begin(ctx, operation)
	defer c.store.mu.Unlock()
	if failure != nil && !c.isLost(operation) {
		return nil, failure
	}
	now, err := c.get(ref)
	switch {
	case err != nil:
		return nil, err
	case now.GetResourceVersion() != resourceVersion:
		return nil, objects.ErrChanged
	}
	stored := c.objects[ref.String()]
	stored.Object["spec"] = object.DeepCopy().Object["spec"]
	stored.SetGeneration(stored.GetGeneration() + 1)
	stored.SetResourceVersion(c.nextVersion())
	c.notify()
	if failure != nil {
		return nil, failure
	}
	return stored.DeepCopy(), nil
}

// Earlier implements runner.Rivals.
func (c *Cluster) Earlier(ctx context.Context, created *unstructured.Unstructured, wanted func(*unstructured.Unstructured) bool) ([]*unstructured.Unstructured, error) {
	err := c.begin(ctx, "earlier")
	defer c.store.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(c.at(created), func(object *unstructured.Unstructured) bool { return !wanted(object) }), nil
}

// Delete implements removal.Deleter.
func (c *Cluster) Delete(ctx context.Context, ref objects.Ref, run string) error {
	err := c.begin(ctx, "delete "+ref.Kind)
	defer c.store.mu.Unlock()
	if err != nil {
		return err
	}
	stored := c.objects[ref.String()]
	if stored == nil || stored.GetUID() != ref.UID && (ref.UID != "" || stored.GetLabels()[objects.RunLabel] != run) {
		return fmt.Errorf("%s %w", ref, objects.ErrGone)
	}
	c.remove(ref.String(), time.Now())
	return nil
}

// Withdraw implements removal.Deleter.
func (c *Cluster) Withdraw(ctx context.Context, ref objects.Ref, run string) error {
	err := c.begin(ctx, "withdraw "+ref.Kind)
	defer c.store.mu.Unlock()
	stored := c.objects[ref.String()]
	if err == nil && stored != nil && stored.GetLabels()[objects.RunLabel] == run {
		stored.Object["spec"] = objects.WithdrawnSpec(ref)
		stored.SetGeneration(stored.GetGeneration() + 1)
		stored.SetResourceVersion(c.nextVersion())
		c.notify()
	}
	return err
}

// wake returns a channel that fires when a watch has to look again although no
// call has changed anything. The lock is held.
func (c *Cluster) wake() <-chan time.Time {
	if c.Restless {
		return time.After(10 * time.Millisecond)
	}
	var first time.Time
	for name, object := range c.objects {
		until, known := c.until[object.GetUID()]
		if strings.HasPrefix(name, objects.KindJob+" ") && known && (first.IsZero() || until.Before(first)) {
			first = until
		}
	}
	if first.IsZero() {
		return nil
	}
	return time.After(time.Until(first))
}
