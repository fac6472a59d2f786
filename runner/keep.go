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

	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner/event"
)

// ErrChanged says that an object has changed since it was read.
var ErrChanged = errors.New("has changed")

// ErrRejected says that the cluster has refused a write and would do so again:
// it is not permitted, or not valid.
var ErrRejected = errors.New("the cluster refuses it")

// keeper holds the fault in the state that is planned, while it is in force: at
// its moments it brings the objects into their next state, and when the routes
// that they were derived from change, it renders them again. What it cannot
// follow ends the run.
type keeper struct {
	*session
	planned Planned
	since   time.Time
	// made is the time, from the start of the fault, up to which the steps of
	// the plan have been made.
	made time.Duration
	// failing is since when an update has not been answered; zero when none is
	// due.
	failing time.Time
	// retry is when it is tried again.
	retry time.Time
	end   context.CancelCauseFunc
	// owned are our objects as we last wrote them, in the order of the plan.
	owned []*owned
	jobs  []mesh.Ref
}

// owned is an object of ours as it was last written.
type owned struct {
	mesh.Ref
	generation      int64
	resourceVersion string
	spec            any
}

// sighting is the state of an object that is watched, nil when it is gone.
type sighting struct {
	mesh.Ref
	object *unstructured.Unstructured
}

// keep runs until ctx ends.
func (k *keeper) keep(ctx context.Context) {
	seen := make(chan sighting)
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	for _, ref := range k.watched() {
		watching.Go(func() {
			k.Mesh.Watch(ctx, ref, func(object *unstructured.Unstructured) {
				select {
				case <-ctx.Done():
				case seen <- sighting{ref, object}:
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
		case sighting := <-seen:
			end = k.judge(ctx, sighting)
		}
		if end != nil {
			k.end(end)
			return
		}
	}
}

// watched gives our objects, those that they were derived from, and the Jobs.
func (k *keeper) watched() []mesh.Ref {
	var refs []mesh.Ref
	for _, o := range k.owned {
		refs = append(refs, o.Ref)
	}
	for _, base := range k.planned.bases() {
		refs = append(refs, base.Ref)
	}
	return append(refs, k.jobs...)
}

// bases gives the objects that a plan's shadows were derived from.
func (p Planned) bases() []mesh.Version {
	var bases []mesh.Version
	for _, d := range p.Decisions {
		bases = append(bases, d.Bases...)
	}
	return bases
}

// nextMoment fires at the next step of the plan, or when an update that the
// cluster did not answer is to be tried again.
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

// updatePause is how long an update that the cluster did not answer waits until
// it is tried again.
const updatePause = 500 * time.Millisecond

// bring brings the objects into the state that is planned for now. What the
// cluster does not answer is tried again, for as long as a heartbeat lasts; what
// it refuses ends the run.
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
		k.record.add(event.UpdateFailed{Object: k.owned[i].Ref, Error: err.Error()})
		if errors.Is(err, ErrRejected) || time.Since(k.failing) > k.Timing.Deadline {
			return &ending{event.StatusFailed, fmt.Sprintf("the fault could not be changed as planned: %v", err), "what was in force is rolled back; check the permissions and Istio's webhook"}
		}
		return nil
	}
	k.failing = time.Time{}
	return nil
}

// update writes an object of ours once, unless somebody else has done so.
func (k *keeper) update(ctx context.Context, o *owned, object *unstructured.Unstructured) (*ending, error) {
	k.record.add(event.Updating{Object: object})
	if err := k.record.sync(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	updated, err := k.Mesh.Update(ctx, object, o.Ref, o.resourceVersion)
	switch {
	case err == nil:
		o.wrote(updated, object)
		k.record.add(event.Updated{Ref: o.Ref})
		return nil, nil
	case errors.Is(err, ErrGone):
		return k.deleted(ctx, o.Ref), nil
	case errors.Is(err, ErrRejected):
		return nil, err
	default:
		// The answer may have been lost, and the resource version changes with
		// the status too.
		return k.refresh(ctx, o, object), err
	}
}

// wrote takes over what was written.
func (o *owned) wrote(now, object *unstructured.Unstructured) {
	o.generation, o.resourceVersion, o.spec = now.GetGeneration(), now.GetResourceVersion(), object.Object["spec"]
}

// refresh reads how an object of ours is now: as it was written last, or as it
// was just attempted, with the answer lost. Anything else is somebody's edit.
func (k *keeper) refresh(ctx context.Context, o *owned, attempted *unstructured.Unstructured) *ending {
	now, err := k.Mesh.Get(ctx, o.Ref)
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
		return drifted(o.Ref, "was changed")
	}
}

// sameJSON compares values that one may have come through JSON.
func sameJSON(a, b any) bool {
	one, err := json.Marshal(a)
	if err != nil {
		return false
	}
	other, err := json.Marshal(b)
	return err == nil && bytes.Equal(one, other)
}

// deleted says why an object of ours is gone: because somebody has pulled the
// kill switch, or deleted the run with its Job or its namespace, or because
// somebody has deleted this one.
func (k *keeper) deleted(ctx context.Context, ref mesh.Ref) *ending {
	for _, job := range k.jobs {
		attempt, cancel := context.WithTimeout(ctx, createTimeout)
		object, err := k.Mesh.Get(attempt, job)
		cancel()
		if errors.Is(err, ErrGone) || err == nil {
			if end := ended(object); end != nil {
				return end
			}
		}
	}
	return drifted(ref, "was deleted")
}

// ended says what the state of a heartbeat Job, nil when it is gone, means for
// its run: nil when nothing.
func ended(job *unstructured.Unstructured) *ending {
	switch {
	case job != nil && job.GetAnnotations()[mesh.StoppedByAnnotation] != "":
		return &ending{event.StatusInterrupted, "rolled back by " + job.GetAnnotations()[mesh.StoppedByAnnotation], ""}
	case job == nil || job.GetDeletionTimestamp() != nil:
		return &ending{event.StatusInterrupted, "the objects of the run were deleted from outside", ""}
	default:
		return nil
	}
}

func drifted(ref mesh.Ref, what string) *ending {
	return &ending{event.StatusStopped, fmt.Sprintf("%s %s while the fault was in force", ref, what), "start again when the change is done"}
}

// judge decides what a change means. An object of ours that somebody has
// deleted or edited is no fault of ours any more. A shadow of routes that have
// changed would bring the old ones back.
func (k *keeper) judge(ctx context.Context, s sighting) *ending {
	if i := slices.IndexFunc(k.owned, func(o *owned) bool { return o.Ref == s.Ref }); i >= 0 {
		switch {
		case s.object == nil || s.object.GetDeletionTimestamp() != nil:
			return k.deleted(ctx, s.Ref)
		case s.object.GetGeneration() > k.owned[i].generation:
			return drifted(s.Ref, "was changed")
		}
		return nil
	}
	if slices.Contains(k.jobs, s.Ref) {
		return ended(s.object)
	}
	if s.object == nil || s.object.GetDeletionTimestamp() != nil {
		return drifted(s.Ref, "was deleted")
	}
	for _, base := range k.planned.bases() {
		if base.Ref == s.Ref && base.Generation == s.object.GetGeneration() {
			return nil
		}
	}
	return k.follow(ctx, s)
}

// follow renders the objects again after a change of what they were derived
// from.
func (k *keeper) follow(ctx context.Context, s sighting) *ending {
	next := k.planned
	next.Snapshot = k.planned.Snapshot.With(s.object)
	next.Plan = mesh.Decide(next.Snapshot, next.Experiment, next.Options)
	if end := k.refusalOf(next.Plan); end != nil {
		return drifted(s.Ref, "was changed so that the fault cannot follow: "+end.reason+",")
	}
	if !sameShape(k.planned, next) {
		return drifted(s.Ref, "was changed so that other routes are in force")
	}
	k.planned = next
	k.record.add(event.Planned{Plan: next.Plan})
	return k.bring(ctx)
}

// sameShape reports whether two plans have the same objects, derived from the
// same ones.
func sameShape(a, b Planned) bool {
	refs := func(p Planned) (all []mesh.Ref) {
		for _, object := range p.Objects {
			all = append(all, mesh.RefTo(object))
		}
		for _, base := range p.bases() {
			all = append(all, base.Ref)
		}
		return all
	}
	return slices.Equal(refs(a), refs(b))
}
