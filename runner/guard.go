package runner

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/heartbeat"
)

// guard has the heartbeat Jobs of a run. They exist from before its baseline until its
// recovery is over, so that other users see the run and can end it in every phase.
type guard struct {
	beats *heartbeat.Heartbeat
	// changes are the Jobs that may exist.
	changes []objects.Ref
	// jobs maps a namespace to its Job.
	jobs map[string]objects.Ref
}

// Holds has the holds on runs.
type Holds interface {
	// Hold returns the hold on runs that disturb calls from some namespaces, or create
	// objects in them; nil if there is none.
	Hold(ctx context.Context, namespaces []string) (*objects.Hold, error)
}

// held returns the ending of a run that may not start because of a hold. A kill switch
// first sets the hold and then ends the runs that it sees. So a run that is not held
// after its Jobs were created is seen.
func (s *session) held(ctx context.Context, planned Planned) *ending {
	namespaces := map[string]bool{}
	for _, object := range planned.Objects {
		namespaces[object.GetNamespace()] = true
	}
	for _, decision := range planned.Decisions {
		namespaces[decision.Callers] = true
	}
	hold, err := s.config.Cluster.Hold(ctx, slices.Sorted(maps.Keys(namespaces)))
	if err != nil {
		return fail(ctx, event.StatusRefused, hint.With(fmt.Errorf("it is not known whether runs are held: %w", err), "nothing was injected; check the permissions"))
	}
	if hold == nil {
		return nil
	}
	end := refused(hold.String(), "wait, or release the hold: "+hold.Release())
	end.outside = true
	return end
}

// heartbeatJob returns the Job that owns the run's objects in a namespace.
func (c Config) heartbeatJob(namespace string, run objects.Run) *unstructured.Unstructured {
	return objects.Heartbeat(namespace, run, c.Timing.Deadline, c.HeartbeatImage)
}

// beforeFault is how long a run goes on at the latest until its fault is gone, if no
// scrape is late.
func (t Timing) beforeFault(spec experiments.Spec) time.Duration {
	return spec.SteadyState.Before.Duration + t.duringFault(spec)
}

// duringFault is how long a fault stays at the latest.
func (t Timing) duringFault(spec experiments.Spec) time.Duration {
	return spec.Duration.Duration + t.Grace
}

// afterFault is how long a run goes on at the latest when its fault is gone, if no
// scrape is late.
func (t Timing) afterFault(spec experiments.Spec) time.Duration {
	return spec.Recovery.Within.Duration + t.Grace
}

// raiseGuard creates a heartbeat Job in each namespace with planned objects, and moves
// its deadline until lowerGuard. It calls end when the run has to end. The cluster may
// count the deadline later; no fault is injected before it does.
func (s *session) raiseGuard(ctx context.Context, planned Planned, end context.CancelCauseFunc) *ending {
	s.guard = guard{jobs: map[string]objects.Ref{}}
	s.guard.beats = heartbeat.New(ctx, heartbeat.Config{
		Cluster: s.config.Cluster, Record: s.record, Interval: s.config.Timing.Beat, Deadline: s.config.Timing.Deadline, End: end,
	}, heartbeat.Phase{Name: event.PhaseBaseline, Fault: heartbeat.Pending, Rest: s.config.Timing.beforeFault(s.experiment.Spec)})
	if s.config.WithoutHeartbeat {
		return nil
	}
	for _, namespace := range slices.Sorted(maps.Keys(kindsIn(planned.Objects))) {
		sent := objects.Extended(s.config.heartbeatJob(namespace, s.run), s.config.Timing.Deadline, map[string]string{objects.PhaseAnnotation: string(event.PhaseBaseline)})
		job, err := s.create(ctx, sent, &s.guard.changes)
		if err == nil {
			s.guard.jobs[namespace] = objects.RefTo(job)
			s.guard.beats.Start(s.guard.jobs[namespace], sent, s.config.Timing.Deadline) //nolint:contextcheck // the heartbeats end with the run
		}
		switch {
		case err != nil && s.record.Failed() != nil: // the error is not about the Job
			return fail(ctx, event.StatusFailed, err)
		case isChanged(err):
			return fail(ctx, event.StatusRefused, err)
		case err != nil:
			return fail(ctx, event.StatusFailed, hint.With(fmt.Errorf("heartbeat in %s: %w", namespace, err), heartbeat.Hint))
		}
	}
	return nil
}

// lowerGuard ends the heartbeats and deletes the Jobs. It adds those that are left to
// the result.
func (s *session) lowerGuard(ctx context.Context) {
	s.guard.beats.Stop()
	done := s.delete(ctx, s.guard.changes, func() {})
	s.result.Left = append(s.result.Left, done.left...)
	s.guard.changes = nil
}
