package serve

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/serve/leadership"
	"github.com/squall-chaos/squall/internal/app/serve/runs"
	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
	"github.com/squall-chaos/squall/mesh"
)

// Lead starts runs until ctx ends. Then it ends the live runs, which roll back,
// and returns when they have.
func (s *Server) Lead(ctx context.Context) {
	select {
	case <-s.loaded: // Watch has read the directory
	case <-ctx.Done():
		return
	}
	handled, err := s.leadership.Claim(ctx)
	if err != nil {
		return // ctx has ended
	}
	during := term{s}
	during.takeOver(ctx, handled)
	s.config.Log.Info("leading", "identity", s.config.Identity)
	var sweeping sync.WaitGroup
	sweeping.Go(func() { every(ctx, sweepEvery, func() { s.runs.Sweep(ctx) }) })
	for ctx.Err() == nil {
		pause := during.tick(time.Now())
		_ = s.leadership.Save(ctx) // tried again in the next turn
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.awake:
		}
		timer.Stop()
	}
	during.standDown()
	s.runs.Wait()
	sweeping.Wait()
	_ = s.leadership.Save(context.WithoutCancel(ctx)) // the error is logged
	s.config.Log.Info("no longer leading", "identity", s.config.Identity)
}

// term is the time in which a server leads and starts runs.
type term struct{ *Server }

// takeOver begins a term, which lasts as long as ctx.
func (s term) takeOver(ctx context.Context, handled map[string]time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.term = ctx
	now := time.Now()
	for _, one := range s.scheduler.Lead(handled, now) {
		if !one.Ignored.IsZero() {
			s.config.Log.Warn("the stored time of the last start lies in the future, so a clock was wrong; the schedule begins now", "experiment", one.Experiment, "stored", one.Ignored.UTC())
		}
		s.leadership.Handled(one.Experiment, now)
	}
	s.publishNext(s.scheduler.Names()...)
	s.config.Metrics.Leading(true)
}

// standDown ends a term.
func (s term) standDown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.term = nil
	s.scheduler.StandDown()
	s.publishNext(s.scheduler.Names()...)
	s.config.Metrics.Leading(false)
}

// tick carries out what the scheduler decides on the starts that are due. It
// returns the pause until the next turn.
func (s term) tick(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.term == nil {
		return maxPause
	}
	s.runs.Publish()
	decisions, next := s.scheduler.Due(now)
	for _, decision := range decisions {
		s.carryOut(decision)
	}
	if next.IsZero() {
		return maxPause
	}
	return min(maxPause, next.Sub(now))
}

func (s term) carryOut(decision scheduler.Decision) {
	switch d := decision.(type) {
	case scheduler.Start:
		name := d.Experiment.Metadata.Name
		run := s.start(d.Experiment, d.Slot, d.Nominal, "schedule")
		s.overtaken(name, d.Overtaken)
		s.config.Metrics.Started(name, d.Lag)
		s.config.Log.Info("started by schedule", "run", run, "experiment", name, "nominal", d.Nominal.UTC(), "lag", d.Lag)
	case scheduler.Skip:
		s.leadership.Handled(d.Experiment, d.Nominal)
		s.overtaken(d.Experiment, d.Overtaken)
		s.config.Metrics.Skipped(d.Experiment, scheduler.ReasonOf(d.Why))
		s.config.Log.Warn("start skipped", "experiment", d.Experiment, "nominal", d.Nominal.UTC(), "reason", d.Why)
	case scheduler.Wait:
		if d.Replaces {
			s.runs.Replace(d.Experiment)
		}
	}
}

// overtaken counts starts that will not be made because a later one was due.
func (s term) overtaken(experiment string, overtaken scheduler.Overtaken) {
	for range overtaken.Count {
		s.config.Metrics.Skipped(experiment, overtaken.Reason)
	}
	s.publishNext(experiment)
}

// start starts a run in a slot. It needs s.mu, and a term.
func (s *Server) start(e experiments.Experiment, slot *scheduler.Slot, nominal time.Time, owner string) string {
	return s.runs.Start(s.term, runs.Request{
		Experiment: e, Host: slot.Host(), Nominal: nominal, Owner: owner,
		Permit: func(plan mesh.Plan) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.scheduler.Widen(slot, plan)
		},
		Ended: func(err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.scheduler.Release(slot)
			if err != nil && !nominal.IsZero() {
				s.config.Metrics.Skipped(e.Metadata.Name, scheduler.Failure)
			}
			s.awake.ring()
		},
	})
}

// StartNow implements web.Controls.
func (s *Server) StartNow(name, owner string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.term == nil {
		if err := s.unready(); errors.Is(err, leadership.ErrTakingOver) {
			return "", err
		}
		return "", fmt.Errorf("%w: %s", leadership.ErrNotLeading, s.leadership.Leader())
	}
	e, slot, err := s.scheduler.StartNow(name, time.Now())
	if err != nil {
		return "", err
	}
	run := s.start(e, slot, time.Time{}, owner)
	s.config.Log.Info("started by hand", "run", run, "experiment", name, "by", owner)
	return run, nil
}

// Stop implements web.Controls.
func (s *Server) Stop(ctx context.Context, run, owner string) error {
	return s.runs.Stop(ctx, run, owner)
}

// Pause implements web.Controls.
func (s *Server) Pause(ctx context.Context, paused bool, owner string) error {
	if !paused {
		owner = ""
	}
	return s.leadership.Pause(ctx, owner)
}
