package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
)

// Objects reads, watches and updates objects.
type Objects interface {
	// Get returns an object. The error wraps ErrGone if it no longer exists.
	Get(ctx context.Context, object objects.Ref) (*unstructured.Unstructured, error)
	// Watch calls changed with the state of an object, at once and whenever it
	// changes, until ctx is done; nil means that the object no longer exists. It waits
	// while the cluster does not answer.
	Watch(ctx context.Context, object objects.Ref, changed func(*unstructured.Unstructured))
	// Update replaces the spec of an object of the run by the spec of object, if it
	// still has the resource version. The error wraps ErrChanged if it has not, ErrGone if the object no
	// longer exists, and ErrRejected if the cluster will never accept it.
	Update(ctx context.Context, object *unstructured.Unstructured, ref objects.Ref, resourceVersion string) (*unstructured.Unstructured, error)
}

// keeper keeps the objects of an active fault in their planned state: it makes the
// steps of the plan, and renders the objects again when their bases change. It ends
// the observation when it cannot follow a change.
type keeper struct {
	cluster   Objects
	record    *event.Queue
	permitted func(mesh.Plan) error
	// patience is how long an update may fail.
	patience time.Duration
	end      context.CancelCauseFunc

	planned Planned
	// since is when the fault began. made is the time from then up to which the steps
	// of the plan are made.
	since time.Time
	made  time.Duration
	// failing is when an update began to fail; zero if none does. retry is when it is
	// tried again.
	failing, retry time.Time
	// owned are the objects of the run, in the order of the plan.
	owned []*owned
	jobs  []objects.Ref
}

// owned is an object of the run as it was last written.
type owned struct {
	objects.Ref
	generation      int64
	resourceVersion string
	spec            any
}

// newOwned returns an object that was created from a planned one.
func newOwned(created, planned *unstructured.Unstructured) *owned {
	o := &owned{Ref: objects.RefTo(created)}
	o.wrote(created, planned)
	return o
}

// wrote stores the state after a write of an object.
func (o *owned) wrote(now, object *unstructured.Unstructured) {
	o.generation, o.resourceVersion, o.spec = now.GetGeneration(), now.GetResourceVersion(), object.Object["spec"]
}

func (o *owned) isVirtualService() bool { return o.Kind == objects.KindVirtualService }

// watched is the state of a watched object; nil when it is gone.
type watched struct {
	objects.Ref
	object *unstructured.Unstructured
}

// gone reports whether the object is deleted, or about to be.
func (w watched) gone() bool { return w.object == nil || w.object.GetDeletionTimestamp() != nil }

// keep runs until ctx is done.
func (k *keeper) keep(ctx context.Context) {
	changes := make(chan watched)
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	for _, ref := range k.refs() {
		watching.Go(func() {
			k.cluster.Watch(ctx, ref, func(object *unstructured.Unstructured) {
				select {
				case <-ctx.Done():
				case changes <- watched{Ref: ref, object: object}:
				}
			})
		})
	}
	for {
		end := (*ending)(nil)
		select {
		case <-ctx.Done():
			return
		case <-k.nextMoment():
			end = k.bring(ctx)
		case change := <-changes:
			end = k.judge(ctx, change)
		}
		if end != nil {
			k.end(end)
			return
		}
	}
}

// refs returns what is watched: the objects of the run, their bases, and the Jobs.
func (k *keeper) refs() []objects.Ref {
	var refs []objects.Ref
	for _, o := range k.owned {
		refs = append(refs, o.Ref)
	}
	for _, base := range k.planned.bases() {
		refs = append(refs, base.Ref)
	}
	return append(refs, k.jobs...)
}

// nextMoment fires at the next step of the plan, or when a failed update is to be
// tried again.
func (k *keeper) nextMoment() <-chan time.Time {
	if !k.failing.IsZero() {
		return time.After(time.Until(k.retry))
	}
	for _, step := range k.planned.Steps {
		if step.After.Duration > k.made {
			return time.After(time.Until(k.since.Add(step.After.Duration)))
		}
	}
	return nil
}

// updatePause is the pause before a failed update is tried again.
const updatePause = 500 * time.Millisecond

// bring updates the objects to the state that is planned for now. It tries again
// what the cluster does not answer, for as long as patience. It returns an ending
// when the cluster rejects an update.
func (k *keeper) bring(ctx context.Context) *ending {
	k.made = time.Since(k.since)
	for i, object := range k.planned.At(k.made) {
		if reflect.DeepEqual(k.owned[i].spec, object.Object["spec"]) {
			continue
		}
		end, err := k.update(ctx, k.owned[i], object)
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
		k.record.Add(event.UpdateFailed{Object: k.owned[i].Ref, Error: err.Error()})
		if errors.Is(err, ErrRejected) || time.Since(k.failing) > k.patience {
			err = hint.With(fmt.Errorf("the fault could not be changed as planned: %w", err), "the fault was rolled back; check the permissions and Istio's webhook")
			return &ending{status: event.StatusFailed, err: err}
		}
		return nil
	}
	k.failing = time.Time{}
	return nil
}

// update writes an object once. It returns an ending if someone else has changed the
// object.
func (k *keeper) update(ctx context.Context, o *owned, object *unstructured.Unstructured) (*ending, error) {
	k.record.Add(event.Updating{Object: object})
	if err := k.record.Sync(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	updated, err := k.cluster.Update(ctx, object, o.Ref, o.resourceVersion)
	switch {
	case err == nil:
		o.wrote(updated, object)
		k.record.Add(event.Updated{Ref: o.Ref})
		return nil, nil
	case errors.Is(err, ErrGone):
		return k.deleted(ctx, o.Ref), nil
	case errors.Is(err, ErrRejected):
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
func (k *keeper) refresh(ctx context.Context, o *owned, attempted *unstructured.Unstructured) *ending {
	now, err := k.cluster.Get(ctx, o.Ref)
	switch {
	case errors.Is(err, ErrGone):
		return k.deleted(ctx, o.Ref)
	case err != nil:
		return nil //nolint:nilerr // the update is tried again, and its own error recorded
	case now.GetGeneration() == o.generation:
		o.resourceVersion = now.GetResourceVersion()
		return nil
	case sameJSON(now.Object["spec"], attempted.Object["spec"]):
		o.wrote(now, attempted)
		return nil
	default:
		return drifted(o.Ref, "changed", "")
	}
}

// sameJSON compares values of which one may have been decoded from JSON.
func sameJSON(a, b any) bool {
	one, err := json.Marshal(a)
	if err != nil {
		return false
	}
	other, err := json.Marshal(b)
	return err == nil && bytes.Equal(one, other)
}

// deleted returns the ending for an object of the run that is gone: the run was
// rolled back or deleted with its Job, or only this object was deleted.
func (k *keeper) deleted(ctx context.Context, ref objects.Ref) *ending {
	for _, job := range k.jobs {
		attempt, cancel := context.WithTimeout(ctx, createTimeout)
		object, err := k.cluster.Get(attempt, job)
		cancel()
		if errors.Is(err, ErrGone) || err == nil {
			if end := endedBy(watched{Ref: job, object: object}); end != nil {
				return end
			}
		}
	}
	return drifted(ref, "deleted", "")
}

// endedBy returns the ending for the state of a heartbeat Job, and nil while the Job
// is as it should be.
func endedBy(job watched) *ending {
	if job.object != nil {
		if by := job.object.GetAnnotations()[objects.StoppedByAnnotation]; by != "" {
			return &ending{status: event.StatusInterrupted, err: fmt.Errorf("rolled back by %s", by)}
		}
	}
	if job.gone() {
		return &ending{status: event.StatusInterrupted, err: errors.New("the objects of the run were deleted from outside")}
	}
	return nil
}

// drifted returns the ending for an object that was changed or deleted. and is what
// follows from that, if anything does.
func drifted(ref objects.Ref, what, and string) *ending {
	err := fmt.Errorf("%s was %s while the fault was active%s", ref, what, and)
	return &ending{status: event.StatusStopped, err: hint.With(err, "start again when the change is done")}
}

// judge returns the ending for a change, and nil if the fault stays as planned. An
// object of the run that someone else has changed is not the planned fault, and a
// VirtualService whose base has changed would restore the old routes.
func (k *keeper) judge(ctx context.Context, change watched) *ending {
	if i := slices.IndexFunc(k.owned, func(o *owned) bool { return o.Ref == change.Ref }); i >= 0 {
		switch {
		case change.gone():
			return k.deleted(ctx, change.Ref)
		case change.object.GetGeneration() > k.owned[i].generation:
			return drifted(change.Ref, "changed", "")
		}
		return nil
	}
	if slices.Contains(k.jobs, change.Ref) {
		return endedBy(change)
	}
	if change.gone() {
		return drifted(change.Ref, "deleted", "")
	}
	for _, base := range k.planned.bases() {
		if base.Ref == change.Ref && base.Generation == change.object.GetGeneration() {
			return nil
		}
	}
	return k.follow(ctx, change)
}

// follow renders the objects again after a change of a base.
func (k *keeper) follow(ctx context.Context, change watched) *ending {
	next := k.planned.again(k.planned.Snapshot.With(change.object))
	if end := permit(k.permitted, next.Plan); end != nil {
		return drifted(change.Ref, "changed", ", and it cannot follow: "+end.Error())
	}
	if !k.planned.sameShape(next) {
		return drifted(change.Ref, "changed", ", and other routes are effective now")
	}
	k.planned = next
	k.record.Add(event.Planned{Plan: next.Plan})
	return k.bring(ctx)
}
