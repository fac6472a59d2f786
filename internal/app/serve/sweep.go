package serve

import (
	"context"
	"slices"
	"time"

	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/mesh"
)

// sweepLoop removes what has expired, at once and then again and again.
func (s *Server) sweepLoop(ctx context.Context) {
	for goesOn := true; goesOn; goesOn = sleep.For(ctx, sweepEvery) {
		s.sweep(ctx)
	}
}

// sweep removes what runs have left whose time is over, whoever made it.
// Kubernetes does so by itself, unless a run went without a heartbeat.
func (s *Server) sweep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sweepEvery)
	defer cancel()
	runs, err := s.Look(ctx)
	if err == nil {
		runs = slices.DeleteFunc(runs, func(run mesh.ActiveRun) bool { return !run.Expired })
	}
	objects := 0
	for _, run := range runs {
		objects += len(run.Objects)
	}
	if err == nil && objects > 0 {
		if err = s.Remove(ctx, runs, "squall serve, "+s.Identity+": expired"); err == nil {
			s.Log.Warn("removed what had expired", "runs", len(runs), "objects", objects)
		}
	}
	switch {
	case ctx.Err() != nil && context.Cause(ctx) == context.Canceled: //nolint:errorlint // the cause itself
		return
	case err != nil:
		s.Log.Error("sweep", "error", err)
		objects = 0
	}
	s.Metrics.Swept(objects, err)
}

// Stop ends a run on somebody's behalf: one of this process, or one that only
// the cluster knows. Once begun it goes on without whoever asked: a run must not
// be left half removed because a browser was closed.
func (s *Server) Stop(ctx context.Context, id, owner string) error {
	s.mu.Lock()
	live := s.live[id]
	s.mu.Unlock()
	if live != nil {
		s.Log.Info("stopped", "run", id, "by", owner)
		live.stop(stoppedError(owner))
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	runs, err := s.Look(ctx)
	if err != nil {
		return err
	}
	runs = slices.DeleteFunc(runs, func(run mesh.ActiveRun) bool { return run.ID != id })
	if len(runs) == 0 {
		return errNotLive
	}
	s.Log.Info("stopped in the cluster", "run", id, "by", owner)
	return s.Remove(ctx, runs, owner)
}

// stopTimeout leaves time for the answer before the client's connection is
// closed.
const stopTimeout = writeTimeout - 5*time.Second

// stoppedError is why a run ends that somebody has stopped.
type stoppedError string

func (e stoppedError) Error() string { return "stopped by " + string(e) }

// Pause stops all starts by schedule, or lets them go on, in every replica.
func (s *Server) Pause(ctx context.Context, paused bool, owner string) error {
	if !paused {
		owner = ""
	}
	_, err := s.change(ctx, func(state *State) { state.Paused = owner })
	return err
}
