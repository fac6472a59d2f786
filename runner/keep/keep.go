// Package keep keeps the objects of an active fault in their planned state: it makes
// the steps of the plan, and follows changes of the objects, of their bases and of the
// mesh around them.
package keep

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/heartbeat"
)

// Cluster reads, watches and updates objects.
type Cluster interface {
	// Get returns an object. The error wraps objects.ErrGone if it no longer exists.
	Get(ctx context.Context, object objects.Ref) (*unstructured.Unstructured, error)
	// Watch calls changed with the state of an object, at once and whenever it
	// changes, until ctx is done; nil means that the object no longer exists. It waits
	// while the cluster does not answer.
	Watch(ctx context.Context, object objects.Ref, changed func(*unstructured.Unstructured))
	// Update writes the spec of object to ref, unless the resource version of ref has
	// changed. The error wraps objects.ErrChanged if it has not,
	// objects.ErrGone if the object no longer exists, and objects.ErrRejected if the
	// cluster will never accept it.
	Update(ctx context.Context, object *unstructured.Unstructured, ref objects.Ref, resourceVersion string) (*unstructured.Unstructured, error)
}

// Plan is the planned state of the objects. Times are from the begin of the fault.
type Plan interface {
	// At returns the objects as they are planned for a time, always in the same order.
	At(after time.Duration) []*unstructured.Unstructured
	// Next returns the time of the first step after a time, and false after the last.
	Next(after time.Duration) (time.Duration, bool)
	// Bases returns the objects of users that the planned objects are derived from.
	Bases() []mesh.Version
	// Follow returns the plan, with the same objects, for another state of a base. It
	// returns an error if there is none.
	Follow(base *unstructured.Unstructured) (Plan, error)
	// In returns the plan, with the same objects, for another state of the mesh. It
	// returns an error if there is none.
	In(now config.Snapshot) (Plan, error)
}

// Keeper keeps the objects of an active fault in their planned state: it makes the
// steps of the plan, and renders the objects again when their bases change. It ends
// the fault when it cannot follow a change.
type Keeper struct {
	Cluster Cluster
	Record  *event.Queue
	// Patience is how long an update may fail.
	Patience time.Duration
	// Interval is the time after which the objects are read again, for the case that a
	// watch reports nothing.
	Interval time.Duration
	// Look reads the mesh.
	Look func(context.Context) (config.Snapshot, error)
	// End is called with a *heartbeat.EndError when the fault has to end.
	End  context.CancelCauseFunc
	Plan Plan
	// Since is when the fault began.
	Since time.Time
	// Objects are the objects of the run, in the order of the plan.
	Objects []*Object
	// Ended returns why the run was ended from outside; nil if it was not.
	Ended func(context.Context) *heartbeat.EndError

	// made is the time from Since up to which the steps of the plan are made.
	made time.Duration
	// failing is when an update began to fail; zero if none does. retry is when it is
	// tried again.
	failing, retry time.Time
}

// Object is an object of the run as it was last written.
type Object struct {
	objects.Ref
	generation      int64
	resourceVersion string
	sent            *unstructured.Unstructured
}

// NewObject returns an object that was created, from what was sent.
func NewObject(created, sent *unstructured.Unstructured) *Object {
	o := &Object{Ref: objects.RefTo(created), sent: sent}
	o.wrote(created, sent)
	return o
}

// wrote stores the state after a write of an object.
func (o *Object) wrote(now, sent *unstructured.Unstructured) {
	o.generation, o.resourceVersion, o.sent = now.GetGeneration(), now.GetResourceVersion(), sent
}

// with returns the object as it is sent with the spec of another one.
func (o *Object) with(spec *unstructured.Unstructured) *unstructured.Unstructured {
	sent := o.sent.DeepCopy()
	sent.Object["spec"] = spec.Object["spec"]
	return sent
}

// IsVirtualService reports whether the object is a VirtualService.
func (o *Object) IsVirtualService() bool { return o.Kind == objects.KindVirtualService }

// watched is the state of a watched object; nil when it is gone.
type watched struct {
	objects.Ref
	object *unstructured.Unstructured
}

// gone reports whether the object is deleted, or about to be.
func (w watched) gone() bool { return w.object == nil || w.object.GetDeletionTimestamp() != nil }

// Keep runs until ctx is done, or the fault has to end.
func (k *Keeper) Keep(ctx context.Context) {
	changes := make(chan watched)
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	for _, ref := range k.refs() {
		watching.Go(func() {
			k.Cluster.Watch(ctx, ref, func(object *unstructured.Unstructured) {
				select {
				case <-ctx.Done():
				case changes <- watched{Ref: ref, object: object}:
				}
			})
		})
	}
	watching.Go(func() { k.readAgain(ctx, changes) })
	meshes := make(chan config.Snapshot)
	watching.Go(func() { k.look(ctx, meshes) })
	for {
		var end *heartbeat.EndError
		select {
		case <-ctx.Done():
			return
		case <-k.nextMoment():
			end = k.bring(ctx)
		case change := <-changes:
			end = k.judge(ctx, change)
		case now := <-meshes:
			end = k.judgeMesh(ctx, now)
		}
		if end != nil {
			k.End(end)
			return
		}
	}
}

// readAgain reads the objects of the run every interval until ctx is done.
func (k *Keeper) readAgain(ctx context.Context, changes chan<- watched) {
	for sleep.For(ctx, k.Interval) {
		for _, o := range k.Objects {
			attempt, cancel := context.WithTimeout(ctx, k.Interval)
			object, err := k.Cluster.Get(attempt, o.Ref)
			cancel()
			if err != nil && !errors.Is(err, objects.ErrGone) {
				continue // the heartbeat ends a run whose cluster does not answer
			}
			select {
			case <-ctx.Done():
			case changes <- watched{Ref: o.Ref, object: object}:
			}
		}
	}
}

// lookInterval is the time between two looks at the mesh, so that a change is noticed
// within 5 seconds. A look takes at most a tenth of the time: in a mesh that takes longer
// than 0.4 seconds to read, looks are rarer. But the pause after one is at most longestPause
// and an interval, so that a change is noticed if the mesh takes very long to read once.
const (
	lookInterval = 4 * time.Second
	lookShare    = 10
	longestPause = 12 * time.Second
)

// look reads the mesh repeatedly until ctx is done. All runs of a process read at the same
// moments, so that they can share what is read.
func (k *Keeper) look(ctx context.Context, meshes chan<- config.Snapshot) {
	took := time.Duration(0)
	for sleep.For(ctx, untilLook(time.Now(), took)) {
		began := time.Now()
		now, err := k.Look(ctx)
		if err != nil { // the heartbeat ends a run whose cluster does not answer
			took = 0 // a failure does not delay the next look
			continue
		}
		took = time.Since(began)
		select {
		case <-ctx.Done():
		case meshes <- now:
		}
	}
}

// untilLook returns the time from now until the next look, after one that has taken a
// time.
func untilLook(now time.Time, took time.Duration) time.Duration {
	return now.Add(min((lookShare-1)*took, longestPause)).Truncate(lookInterval).Add(lookInterval).Sub(now)
}

// judgeMesh returns the ending for a state of the mesh in which the fault would not be
// effective as it is planned, and nil if it goes on.
func (k *Keeper) judgeMesh(ctx context.Context, now config.Snapshot) *heartbeat.EndError {
	next, err := k.Plan.In(now)
	if err != nil {
		err = fmt.Errorf("the mesh was changed while the fault was active, and %w", err)
		return &heartbeat.EndError{Status: event.StatusStopped, Err: hint.With(err, nextStep)}
	}
	k.Plan = next
	if !k.failing.IsZero() {
		return nil // the next attempt is for this plan
	}
	return k.bring(ctx)
}

// nextStep is what the user does after a change that ends a run.
const nextStep = "start again when the change is done"

// refs returns what is watched: the objects of the run, and their bases.
func (k *Keeper) refs() []objects.Ref {
	var refs []objects.Ref
	for _, o := range k.Objects {
		refs = append(refs, o.Ref)
	}
	for _, base := range k.Plan.Bases() {
		refs = append(refs, base.Ref)
	}
	return refs
}

// nextMoment fires at the next step of the plan, or when a failed update is to be
// tried again.
func (k *Keeper) nextMoment() <-chan time.Time {
	if !k.failing.IsZero() {
		return time.After(time.Until(k.retry))
	}
	if next, has := k.Plan.Next(k.made); has {
		return time.After(time.Until(k.Since.Add(next)))
	}
	return nil
}

// writeTimeout limits one request to the cluster.
const writeTimeout = 10 * time.Second

// updatePause is the pause before a failed update is tried again.
const updatePause = 500 * time.Millisecond

// bring updates the objects to the state that is planned for now. It tries again
// what the cluster does not answer, for as long as patience. It returns an ending
// when the cluster rejects an update.
func (k *Keeper) bring(ctx context.Context) *heartbeat.EndError {
	k.made = time.Since(k.Since)
	for i, object := range k.Plan.At(k.made) {
		if reflect.DeepEqual(k.Objects[i].sent.Object["spec"], object.Object["spec"]) {
			continue
		}
		end, err := k.update(ctx, k.Objects[i], object)
		if end != nil {
			return end
		}
		if err == nil {
			continue
		}
		if k.failing.IsZero() {
			k.failing = time.Now()
		}
		k.retry = time.Now().Add(updatePause)
		k.Record.Add(event.UpdateFailed{Object: k.Objects[i].Ref, Error: err.Error()})
		if errors.Is(err, objects.ErrRejected) || time.Since(k.failing) > k.Patience {
			err = hint.With(fmt.Errorf("the fault could not be changed as planned: %w", err), "the fault was rolled back; check the permissions and Istio's webhook")
			return &heartbeat.EndError{Status: event.StatusFailed, Err: err}
		}
		return nil
	}
	k.failing = time.Time{}
	return nil
}

// update writes an object once. It returns an ending if someone else has changed the
// object.
func (k *Keeper) update(ctx context.Context, o *Object, object *unstructured.Unstructured) (*heartbeat.EndError, error) {
	k.Record.Add(event.Updating{Object: object})
	if err := k.Record.Sync(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	updated, err := k.Cluster.Update(ctx, object, o.Ref, o.resourceVersion)
	switch {
	case err == nil:
		o.wrote(updated, o.with(object))
		k.Record.Add(event.Updated{Ref: o.Ref})
		return asEnd(objects.Compare(o.sent, updated)), nil
	case errors.Is(err, objects.ErrGone):
		return k.deleted(ctx, o.Ref), nil
	case errors.Is(err, objects.ErrRejected):
		return nil, err
	default:
		// The answer may be lost, and the resource version also changes with the
		// status.
		return k.refresh(ctx, o, object), err
	}
}

// refresh reads the state of an object after an attempt to update it. It returns an
// ending if the object has neither the spec that was last written nor the attempted
// one.
func (k *Keeper) refresh(ctx context.Context, o *Object, attempted *unstructured.Unstructured) *heartbeat.EndError {
	now, err := k.Cluster.Get(ctx, o.Ref)
	switch {
	case errors.Is(err, objects.ErrGone):
		return k.deleted(ctx, o.Ref)
	case err != nil:
		return nil //nolint:nilerr // the update is tried again, and its own error recorded
	case now.GetGeneration() == o.generation:
		o.resourceVersion = now.GetResourceVersion()
		return nil
	case objects.Compare(o.with(attempted), now) == nil:
		o.wrote(now, o.with(attempted))
		return nil
	default:
		return drifted(o.Ref, "changed", "")
	}
}

// deleted returns the ending for an object of the run that is gone: the run was
// rolled back or deleted with its Job, or only this object was deleted.
func (k *Keeper) deleted(ctx context.Context, ref objects.Ref) *heartbeat.EndError {
	if end := k.Ended(ctx); end != nil {
		return end
	}
	end := drifted(ref, "deleted", "")
	end.Outside = true
	return end
}

// drifted returns the ending for an object that was changed or deleted. The consequence
// is added to the reason; it may be empty.
func drifted(ref objects.Ref, what, consequence string) *heartbeat.EndError {
	err := fmt.Errorf("%s was %s while the fault was active%s", ref, what, consequence)
	return &heartbeat.EndError{Status: event.StatusStopped, Err: hint.With(err, nextStep)}
}

// asEnd returns the ending for an object that is not stored as it was sent; nil for
// no error.
func asEnd(changed error) *heartbeat.EndError {
	if changed == nil {
		return nil
	}
	return &heartbeat.EndError{Status: event.StatusStopped, Err: fmt.Errorf("changed while the fault was active: %w", changed)}
}

// judge returns the ending for a change, and nil if the fault stays as planned. An
// object of the run that someone else has changed is not the planned fault, and a
// VirtualService whose base has changed would restore the old routes.
func (k *Keeper) judge(ctx context.Context, change watched) *heartbeat.EndError {
	if i := slices.IndexFunc(k.Objects, func(o *Object) bool { return o.Ref == change.Ref }); i >= 0 {
		switch {
		case change.gone():
			return k.deleted(ctx, change.Ref)
		case change.object.GetGeneration() > k.Objects[i].generation:
			return drifted(change.Ref, "changed", "")
		default:
			return asEnd(objects.CompareMetadata(k.Objects[i].sent, change.object))
		}
	}
	if change.gone() {
		return drifted(change.Ref, "deleted", "")
	}
	for _, base := range k.Plan.Bases() {
		if base.Ref == change.Ref && base.Generation >= change.object.GetGeneration() {
			return nil
		}
	}
	return k.follow(ctx, change)
}

// follow renders the objects again after a change of a base.
func (k *Keeper) follow(ctx context.Context, change watched) *heartbeat.EndError {
	next, err := k.Plan.Follow(change.object)
	if err != nil {
		return drifted(change.Ref, "changed", ", and "+err.Error())
	}
	k.Plan = next
	return k.bring(ctx)
}
