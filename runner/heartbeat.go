package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner/event"
)

// heartbeat moves the deadline of a run's Jobs on while the run lives.
//
// A Job's deadline counts from its start by the cluster's clock. The runner
// measures the same time by its own monotonic clock from the moment at which it
// knew that the Job had started, so that neither clock's date matters.
type heartbeat struct {
	session *session
	fail    context.CancelCauseFunc
	stopped chan struct{}
	running sync.WaitGroup
}

// newHeartbeat makes a heartbeat that calls fail when the cluster can not be
// told in time that the run is alive.
func (s *session) newHeartbeat(fail context.CancelCauseFunc) *heartbeat {
	return &heartbeat{session: s, fail: fail, stopped: make(chan struct{})}
}

// start beats for a Job that has started, until ctx ends or stop is called.
func (h *heartbeat) start(ctx context.Context, job mesh.Ref, started time.Time) {
	ctx, cancel := context.WithCancel(ctx)
	h.running.Go(func() { h.beat(ctx, job, started) })
	h.running.Go(func() {
		defer cancel()
		select {
		case <-h.stopped:
		case <-ctx.Done():
		}
	})
}

// stop ends the heartbeat and waits until nothing of it runs.
func (h *heartbeat) stop() {
	close(h.stopped)
	h.running.Wait()
}

func (h *heartbeat) beat(ctx context.Context, job mesh.Ref, started time.Time) {
	timing := h.session.Timing
	longest := h.session.experiment.Spec.Duration.Duration + timing.Grace
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
		err := h.session.Mesh.Extend(attempt, job, min(now.Sub(started)+timing.Deadline, longest))
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			last = now
			continue
		}
		h.session.record.add(event.HeartbeatFailed{Job: job, Error: err.Error()})
		// The next beat must come before the deadline, else the cluster may
		// remove the fault while the run still believes in it.
		if errors.Is(err, ErrGone) || time.Since(last)+timing.Beat >= timing.Deadline {
			h.fail(fmt.Errorf("heartbeat: %s: %w", job, err))
			return
		}
	}
}
