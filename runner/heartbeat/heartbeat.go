// Package heartbeat moves the deadlines of the Jobs that own the objects of a run, so
// that the cluster deletes the objects soon after the run has died.
package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
)

// Cluster moves the deadlines of Jobs.
type Cluster interface {
	// Armed waits until the cluster counts the deadline of a Job.
	Armed(ctx context.Context, job objects.Ref) error
	// Extend sets the deadline of a Job, counted from the start of the Job. The error
	// wraps objects.ErrGone if the Job no longer exists.
	Extend(ctx context.Context, job objects.Ref, deadline time.Duration) error
}

// Hint is the next step when the cluster does not accept a heartbeat Job.
const Hint = "the Job has no pod; a quota must leave room for it, a policy may require --heartbeat-image, and with --heartbeat=off nothing removes the fault if Squall dies"

// armTimeout limits how long a cluster takes until it counts the deadline of a Job.
// A slower cluster could not be relied on to remove the fault.
const armTimeout = 10 * time.Second

// Arm waits until the cluster counts the deadline of a Job, for 10 seconds at most.
func Arm(ctx context.Context, cluster Cluster, job objects.Ref) error {
	ctx, cancel := context.WithTimeout(ctx, armTimeout)
	defer cancel()
	return cluster.Armed(ctx, job)
}

// Heartbeat extends the deadlines of the Jobs of a run.
type Heartbeat struct {
	Cluster Cluster
	Record  *event.Queue
	// Interval is the time between two heartbeats. Deadline is how long after the
	// last one the cluster deletes the objects.
	Interval, Deadline time.Duration
	// Longest is the latest deadline, from the start of the Job.
	Longest time.Duration
}

// Beat extends the deadline of a Job until ctx is done. It calls failed when a
// heartbeat cannot come in time.
//
// The deadline of a Job counts from its start by the cluster's clock. The runner
// measures the same time by its own monotonic clock, from started, when it knew that
// the Job had started. So the dates of the two clocks do not matter.
func (h Heartbeat) Beat(ctx context.Context, job objects.Ref, started time.Time, failed context.CancelCauseFunc) {
	ticker := time.NewTicker(h.Interval)
	defer ticker.Stop()
	for last := started; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		attempt, cancel := context.WithTimeout(ctx, h.Interval)
		err := h.Cluster.Extend(attempt, job, min(now.Sub(started)+h.Deadline, h.Longest))
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			last = now
			continue
		}
		h.Record.Add(event.HeartbeatFailed{Job: job, Error: err.Error()})
		// If the next heartbeat may come after the deadline, the cluster may remove the
		// fault while the run still counts on it.
		if errors.Is(err, objects.ErrGone) || time.Since(last)+h.Interval >= h.Deadline {
			failed(fmt.Errorf("heartbeat: %s: %w", job, err))
			return
		}
	}
}
