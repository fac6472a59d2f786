package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/runner/clean"
	"github.com/squall-chaos/squall/runner/effect"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/heartbeat"
)

// proof is the part of a session that counts the requests hit, and proves that the
// calls are clean before the fault and after it.
type proof struct{ *session }

// startMeter starts to count the requests hit. The channel gets nil when two scrapes
// show that no call is hit yet, and otherwise an error with which the run is refused.
func (s proof) startMeter(ctx context.Context, planned Planned) <-chan error {
	done := make(chan error, 1)
	if s.experiment.Spec.Effect.MinRequests == 0 {
		done <- nil
		return done
	}
	s.meter = effect.NewMeter(s.query, s.clock, s.experiment.Spec, planned.Decisions)
	go func() { done <- clean.Before(ctx, s.meter, s.meter.Settled()) }()
	return done
}

// start starts to watch the calls after the rollback of a run that has ended, and
// returns the channel for the result; nil if there is nothing to watch.
func (s proof) start(ctx context.Context, planned Planned, ended *ending) <-chan event.Clean {
	done := make(chan event.Clean, 1)
	switch {
	case s.removed.IsZero() || !s.rolledBack:
		return nil
	case s.meter == nil:
		done <- event.Clean{State: event.CleanNotCounted, Reason: "effect.minRequests is 0, so no requests are counted"}
		return done
	}
	removed, since := s.meter.Removed(s.removed)
	limits := clean.Limits{
		Within: s.config.Timing.Clean, Held: s.meter.Held(), Calls: s.meter.Total().Requests > 0,
		Brief: ended != nil && ended.status == event.StatusInterrupted,
	}
	counters := &alone{Meter: s.meter, rival: func(ctx context.Context) error { return s.disturbed(ctx, planned) }}
	// An interruption ends the run, but not before it is known what it leaves.
	go func() { done <- clean.After(context.WithoutCancel(ctx), counters, removed, since, limits) }()
	return done
}

// disturbed returns an error if another run disturbs the calls after the rollback.
func (s proof) disturbed(ctx context.Context, planned Planned) error {
	rival, is, err := s.rival(ctx, planned, planned.Objects[len(planned.Objects)-1])
	if is {
		err = &clean.DisturbedError{Reason: "another run disturbs the same calls: " + rival.Reason}
	}
	return err
}

// alone are the counters of the calls after a rollback, up to the moment from which
// another run disturbs them: the requests that two runs hit cannot be told apart.
type alone struct {
	*effect.Meter
	// rival returns an error if another run disturbs the calls now, or if that is not
	// known.
	rival func(context.Context) error
	// ended is the error from that moment on.
	ended error
}

// Read implements clean.Counters.
func (a *alone) Read(ctx context.Context) (now effect.Reading, err error) {
	if a.ended != nil {
		return now, a.ended
	}
	now, err = a.Look(ctx)
	if rival := a.rival(ctx); rival != nil {
		err = rival
	}
	if _, is := errors.AsType[*clean.DisturbedError](err); is {
		a.ended = err
	}
	if err == nil {
		a.Add(now)
	}
	return now, err
}

// finish records whether the calls are clean after the rollback, and how many
// requests were hit. closing is how long after the rollback proxies close open
// connections. It returns the ending of the run, which failed if calls are still hit.
func (s proof) finish(ctx context.Context, closing time.Duration, watched <-chan event.Clean, ended *ending) *ending {
	if watched == nil {
		return ended
	}
	// The proof has limits, and goes on after an interruption.
	found, _ := await(context.WithoutCancel(ctx), watched, func() {
		s.record.Add(event.Phase{Name: event.PhaseClean, Length: experiments.Duration{Duration: s.config.Timing.Clean}})
		s.guard.beats.Enter(heartbeat.Phase{Name: event.PhaseClean, Fault: heartbeat.Gone, Rest: s.config.Timing.Clean + s.config.Timing.Grace})
	})
	if closing > 0 && found.State != event.CleanStillHit {
		found.Closes.Duration = closing
		found.Awaited = s.awaitClosing(ctx, s.removed.Add(max(found.After.Duration, effect.PushDelay)+closing), ended)
	}
	s.clean = &found
	s.record.Add(found)
	if s.meter != nil {
		s.record.Add(event.Phase{Name: event.PhaseEffect})
		s.guard.beats.Enter(heartbeat.Phase{Name: event.PhaseEffect, Fault: heartbeat.Gone, Rest: s.config.Timing.Grace})
		counted := s.meter.Effect()
		s.effect = &counted
		s.record.Add(counted)
	}
	if ended == nil && ctx.Err() != nil {
		ended = interrupted(ctx)
	}
	if found.State != event.CleanStillHit {
		return ended
	}
	s.result.StillHit = true
	failed := &ending{status: event.StatusFailed}
	reason := fmt.Sprintf("deleted, but proxies still inject: %.1f requests/s are hit %s after the rollback: is istiod pushing?", found.Rate, s.config.Timing.Clean)
	if ended != nil {
		reason += "; before that: " + ended.Error()
		failed.outside = ended.outside
	}
	failed.err = hint.With(errors.New(reason), "no object is left to delete; check istiod, and the proxies of the callers that have lost it")
	return failed
}

// awaitClosing waits until proxies have closed the connections that were open at the
// rollback, and reports whether it did. A run that was ended early does not wait.
func (s proof) awaitClosing(ctx context.Context, until time.Time, ended *ending) bool {
	if ended != nil && ended.status != event.StatusStopped {
		return false
	}
	rest := max(time.Until(until), 0)
	s.record.Add(event.Phase{Name: event.PhaseClose, Length: experiments.Duration{Duration: rest.Round(time.Millisecond)}})
	s.guard.beats.Enter(heartbeat.Phase{Name: event.PhaseClose, Fault: heartbeat.Gone, Rest: rest + s.config.Timing.Grace})
	return sleep.For(ctx, rest)
}

// noticeable is how long a run waits for scrapes before it shows that it does.
const noticeable = time.Second

// await returns what a channel gets, and false if ctx is done before. It calls slow
// once if that takes longer than a second.
func await[T any](ctx context.Context, from <-chan T, slow func()) (got T, ok bool) {
	for wait := time.After(noticeable); ; wait = nil {
		select {
		case got = <-from:
			return got, true
		case <-wait:
			slow()
		case <-ctx.Done():
			return got, false
		}
	}
}
