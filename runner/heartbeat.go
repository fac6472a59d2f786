package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
)

// Heartbeats moves the deadlines of the Jobs that own the objects of a run.
type Heartbeats interface {
	// Armed waits until the cluster counts the deadline of a Job.
	Armed(ctx context.Context, job objects.Ref) error
	// Extend sets the deadline of a Job, counted from the start of the Job. The error
	// wraps ErrGone if the Job no longer exists.
	Extend(ctx context.Context, job objects.Ref, deadline time.Duration) error
}

// heartbeatHint is the next step when the cluster does not accept a heartbeat Job.
const heartbeatHint = "the Job has no pod; a quota must leave room for it, a policy may require --heartbeat-image, and with --heartbeat=off nothing removes the fault if Squall dies"

// heartbeatJob returns the Job that owns the run's objects in a namespace.
func (c Config) heartbeatJob(namespace string, run objects.Run) *unstructured.Unstructured {
	return objects.Heartbeat(namespace, run, c.Timing.Deadline, c.HeartbeatImage)
}

// armTimeout limits how long a cluster takes until it counts the deadline of a Job.
// A slower cluster could not be relied on to remove the fault.
const armTimeout = 10 * time.Second

func (s *session) arm(ctx context.Context, job objects.Ref) error {
	ctx, cancel := context.WithTimeout(ctx, armTimeout)
	defer cancel()
	return s.config.Cluster.Armed(ctx, job)
}

// beat extends the deadline of a Job until ctx is done. It calls failed when a
// heartbeat cannot come in time.
//
// The deadline of a Job counts from its start by the cluster's clock. The runner
// measures the same time by its own monotonic clock, from started, when it knew that
// the Job had started. So the dates of the two clocks do not matter.
func (s *session) beat(ctx context.Context, job objects.Ref, started time.Time, failed context.CancelCauseFunc) {
	timing := s.config.Timing
	longest := s.experiment.Spec.Duration.Duration + timing.Grace
	ticker := time.NewTicker(timing.Beat)
	defer ticker.Stop()
	for last := started; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		attempt, cancel := context.WithTimeout(ctx, timing.Beat)
		err := s.config.Cluster.Extend(attempt, job, min(now.Sub(started)+timing.Deadline, longest))
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			last = now
			continue
		}
		s.record.Add(event.HeartbeatFailed{Job: job, Error: err.Error()})
		// If the next heartbeat may come after the deadline, the cluster may remove the
		// fault while the run still counts on it.
		if errors.Is(err, ErrGone) || time.Since(last)+timing.Beat >= timing.Deadline {
			failed(fmt.Errorf("heartbeat: %s: %w", job, err))
			return
		}
	}
}
