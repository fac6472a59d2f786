package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/squall-chaos/squall/mesh"
)

// heartbeat moves the deadline of a run's Jobs on while the run lives.
//
// A Job's deadline counts from its start by the cluster's clock. The runner
// measures the same time by its own monotonic clock from the moment before it
// created the Job, so that neither clock's date matters.
type heartbeat struct {
	session *session
	fail    context.CancelCauseFunc
	jobs    []beatingJob
	cancel  context.CancelFunc
	running sync.WaitGroup
}

type beatingJob struct {
	ref     mesh.Ref
	created time.Time
}

// newHeartbeat makes a heartbeat that calls fail when the cluster can not be
// told in time that the run is alive.
func (s *session) newHeartbeat(fail context.CancelCauseFunc) *heartbeat {
	return &heartbeat{session: s, fail: fail}
}

func (h *heartbeat) add(job mesh.Ref, created time.Time) {
	h.jobs = append(h.jobs, beatingJob{job, created})
}

// start beats until ctx ends or stop is called.
func (h *heartbeat) start(ctx context.Context) {
	ctx, h.cancel = context.WithCancel(ctx)
	for _, job := range h.jobs {
		h.running.Go(func() { h.beat(ctx, job) })
	}
}

// stop ends the heartbeat and waits until nothing of it runs.
func (h *heartbeat) stop() {
	if h.cancel != nil {
		h.cancel()
	}
	h.running.Wait()
}

func (h *heartbeat) beat(ctx context.Context, job beatingJob) {
	timing := h.session.Timing
	longest := h.session.experiment.Spec.Duration.Duration + timing.Grace
	ticker := time.NewTicker(timing.Beat)
	defer ticker.Stop()
	for last := job.created; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		attempt, cancel := context.WithTimeout(ctx, timing.Beat)
		err := h.session.Mesh.Extend(attempt, job.ref, min(now.Sub(job.created)+timing.Deadline, longest))
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			last = now
			continue
		}
		h.session.record.add(EventHeartbeat, Heartbeat{Job: job.ref, Error: err.Error()})
		// The next beat must come before the deadline, else the cluster may
		// remove the fault while the run still believes in it.
		if errors.Is(err, ErrGone) || time.Since(last)+timing.Beat >= timing.Deadline {
			h.fail(fmt.Errorf("heartbeat: %s: %w", job.ref, err))
			return
		}
	}
}
