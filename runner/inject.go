package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/heartbeat"
	"github.com/squall-chaos/squall/runner/keep"
)

// Creator creates the objects of a run.
type Creator interface {
	// Check returns an object as the cluster would store it, or an error if the cluster
	// would not create it. It creates nothing.
	Check(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error)
	// Create creates an object and returns it as the cluster has it. An error of type
	// *objects.TakenError means that the name is taken. After any other error the object may
	// exist.
	Create(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error)
}

// injection is the fault of a run in the cluster.
type injection struct {
	planned Planned
	// changes are the objects that may exist, in the order of their creation.
	changes []objects.Ref
	// owned are the created objects of the plan, in its order.
	owned []*keep.Object
	// begun is when the creation of the first VirtualService began, and since is when
	// all objects existed; zero until then.
	begun, since time.Time
}

// disturb injects the fault, observes, and rolls back in any case.
func (s *session) disturb(ctx context.Context, planned Planned) (end *ending) {
	// observing is done when ctx is, and when the fault has to end early: an event
	// cannot be recorded, or the keeper cannot follow a change.
	observing, stop := context.WithCancelCause(ctx)
	s.record.OnFailure(stop)
	in := &injection{planned: planned}
	var writers, counting sync.WaitGroup
	defer func() {
		// Nothing may write to an object while it is deleted, so the keeper ends before
		// the rollback begins. The meter only reads.
		stop(nil)
		writers.Wait()
		if err := (rollback{s}).undo(ctx, in, end); err != nil && end == nil {
			end = &ending{status: event.StatusFailed, err: err}
		}
		counting.Wait()
	}()
	if end := s.inject(ctx, in); end != nil {
		return end
	}
	keeper := &keep.Keeper{
		Cluster: s.config.Cluster, Record: s.record, Patience: s.config.Timing.Deadline, Interval: s.config.Timing.Beat, End: stop,
		Plan: plan{Planned: planned, session: s}, Since: in.since, Objects: in.owned, Ended: s.guard.beats.Ended,
		Look: func(ctx context.Context) (config.Snapshot, error) {
			now, err := s.config.Cluster.Snapshot(ctx)
			return mesh.Narrow(now, planned.Experiment.Spec), err
		},
	}
	writers.Go(func() { keeper.Keep(observing) })
	if s.meter != nil {
		s.meter.Injected(in.since)
		counting.Go(func() { s.meter.Count(observing, func(c event.Counted) { s.record.Add(c) }) })
	}
	if end := s.observe(ctx, observing); end != nil {
		return end
	}
	if err := s.guard.beats.Check(); err != nil {
		return &ending{status: event.StatusFailed, err: err}
	}
	return nil
}

// endingOf returns the ending for the cause with which an observation was stopped.
func endingOf(cause error) *ending {
	if ended, ok := errors.AsType[*heartbeat.EndError](cause); ok {
		return &ending{status: ended.Status, err: ended.Err, outside: ended.Outside}
	}
	return &ending{status: event.StatusFailed, err: cause}
}

// inject creates the planned objects.
func (s *session) inject(ctx context.Context, in *injection) *ending {
	if end := s.held(ctx, in.planned); end != nil {
		return end
	}
	s.run.Expires = time.Now().Add(s.config.Timing.duringFault(s.experiment.Spec))
	s.record.Add(event.Phase{Name: event.PhaseInject})
	s.guard.beats.Enter(heartbeat.Phase{Name: event.PhaseInject, Fault: heartbeat.Active, Rest: s.config.Timing.duringFault(s.experiment.Spec)})
	for _, object := range in.planned.At(0) {
		stamped := objects.Stamp(object, s.run)
		if job, has := s.guard.jobs[object.GetNamespace()]; has {
			stamped = objects.Own(stamped, job)
		}
		if in.begun.IsZero() && object.GetKind() == objects.KindVirtualService {
			in.begun = time.Now()
			if s.meter != nil {
				s.meter.Inject(in.begun)
			}
		}
		created, err := s.create(ctx, stamped, &in.changes)
		taken, isTaken := errors.AsType[*objects.TakenError](err)
		noFault := !slices.ContainsFunc(in.owned, (*keep.Object).IsVirtualService)
		switch {
		case isTaken && noFault:
			return &ending{status: event.StatusRefused, err: taken}
		case isChanged(err) && noFault && object.GetKind() != objects.KindVirtualService:
			return fail(ctx, event.StatusRefused, err)
		case err != nil:
			return fail(ctx, event.StatusFailed, err)
		}
		in.owned = append(in.owned, keep.NewObject(created, stamped))
		if object.GetKind() == objects.KindVirtualService {
			if end := s.yield(ctx, in.planned, created); end != nil {
				return end
			}
		}
	}
	in.since = time.Now()
	return nil
}

func isChanged(err error) bool {
	_, is := errors.AsType[*objects.ChangedError](err)
	return is
}

// createTimeout limits one write to the cluster.
const createTimeout = 10 * time.Second

// create records an object and then creates it. It adds the object to changes before
// the attempt, because after an error the object may exist.
func (s *session) create(ctx context.Context, object *unstructured.Unstructured, changes *[]objects.Ref) (*unstructured.Unstructured, error) {
	s.record.Add(event.Creating{Object: object})
	if err := s.record.Sync(ctx); err != nil {
		return nil, err
	}
	*changes = append(*changes, objects.RefTo(object))
	// After a request that was cut off it is not known whether the object exists, so
	// an interruption waits for the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	created, err := s.config.Cluster.Create(ctx, object)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", objects.RefTo(object), err)
	}
	ref := objects.RefTo(created)
	(*changes)[len(*changes)-1] = ref
	s.record.Add(event.Created{Ref: ref})
	if err := objects.Compare(object, created); err != nil {
		return nil, fmt.Errorf("the cluster has not stored what was sent: %w", err)
	}
	return created, nil
}
