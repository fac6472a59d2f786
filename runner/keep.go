package runner

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/mesh"
)

// ErrChanged says that an object has changed since it was read.
var ErrChanged = errors.New("has changed")

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
	end  context.CancelCauseFunc
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
		var moment <-chan time.Time
		if next := k.nextMoment(); next > 0 {
			moment = time.After(time.Until(k.since.Add(next)))
		}
		ended := (*ending)(nil)
		select {
		case <-ctx.Done():
			return
		case <-moment:
			ended = k.bring(ctx)
		case sighting := <-seen:
			ended = k.judge(ctx, sighting)
		}
		if ended != nil {
			k.end(ended)
			return
		}
	}
}

// watched gives our objects and those that they were derived from.
func (k *keeper) watched() []mesh.Ref {
	var refs []mesh.Ref
	for _, o := range k.owned {
		refs = append(refs, o.Ref)
	}
	for _, base := range k.planned.bases() {
		refs = append(refs, base.Ref)
	}
	return refs
}

// bases gives the objects that a plan's shadows were derived from.
func (p Planned) bases() []mesh.Version {
	var bases []mesh.Version
	for _, d := range p.Decisions {
		bases = append(bases, d.Bases...)
	}
	return bases
}

// nextMoment gives the time, from the start of the fault, of the next step of
// the plan; 0 when there is none.
func (k *keeper) nextMoment() time.Duration {
	for _, step := range k.planned.Steps {
		if step.After.Duration > k.made {
			return step.After.Duration
		}
	}
	return 0
}

// bring brings the objects into the state that is planned for now.
func (k *keeper) bring(ctx context.Context) *ending {
	k.made = time.Since(k.since)
	for i, object := range k.planned.At(k.made) {
		if reflect.DeepEqual(k.owned[i].spec, object.Object["spec"]) {
			continue
		}
		if end := k.update(ctx, k.owned[i], object); end != nil {
			return end
		}
	}
	return nil
}

// updatePause is how long an update that the cluster did not answer waits until
// it is tried again.
const updatePause = 500 * time.Millisecond

// update writes an object of ours, unless somebody else has done so. While the
// cluster does not answer it is tried again; the heartbeat decides for how
// long.
func (k *keeper) update(ctx context.Context, o *owned, object *unstructured.Unstructured) *ending {
	k.record.add(EventUpdating, Change{Object: object})
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, createTimeout)
		updated, err := k.Mesh.Update(attempt, object, o.Ref, o.resourceVersion)
		cancel()
		switch {
		case err == nil:
			o.generation, o.resourceVersion, o.spec = updated.GetGeneration(), updated.GetResourceVersion(), object.Object["spec"]
			k.record.add(EventUpdated, o.Ref)
			return nil
		case errors.Is(err, ErrGone):
			return k.deleted(ctx, o.Ref)
		case errors.Is(err, ErrChanged):
			if end := k.refresh(ctx, o); end != nil {
				return end
			}
		}
		pause(ctx, updatePause)
	}
	return nil
}

// refresh reads the resource version of an object of ours, which also changes
// with its status. Its spec must be as it was written.
func (k *keeper) refresh(ctx context.Context, o *owned) *ending {
	attempt, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	now, err := k.Mesh.Get(attempt, o.Ref)
	switch {
	case errors.Is(err, ErrGone):
		return k.deleted(ctx, o.Ref)
	case err != nil:
		return nil // tried again
	case now.GetGeneration() != o.generation:
		return drifted(o.Ref, "was changed")
	}
	o.resourceVersion = now.GetResourceVersion()
	return nil
}

// deleted says why an object of ours is gone: because somebody has pulled the
// kill switch, or deleted the run with its Job or its namespace, or because
// somebody has deleted this one.
func (k *keeper) deleted(ctx context.Context, ref mesh.Ref) *ending {
	for _, job := range k.jobs {
		attempt, cancel := context.WithTimeout(ctx, createTimeout)
		object, err := k.Mesh.Get(attempt, job)
		cancel()
		switch {
		case errors.Is(err, ErrGone), err == nil && object.GetDeletionTimestamp() != nil:
			return &ending{Interrupted, "the objects of the run were deleted from outside", ""}
		case err == nil && object.GetAnnotations()[mesh.StoppedByAnnotation] != "":
			return &ending{Interrupted, "rolled back by " + object.GetAnnotations()[mesh.StoppedByAnnotation], ""}
		}
	}
	return drifted(ref, "was deleted")
}

func drifted(ref mesh.Ref, what string) *ending {
	return &ending{Stopped, fmt.Sprintf("%s %s while the fault was in force", ref, what), "start again when the change is done"}
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
	if refusal, refused := next.Refusal(); refused {
		return drifted(s.Ref, "was changed so that the fault cannot follow: "+refusal.Reason+",")
	}
	if !sameShape(k.planned, next) {
		return drifted(s.Ref, "was changed so that other routes are in force")
	}
	k.planned = next
	k.record.add(EventPlanned, next.Plan)
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
