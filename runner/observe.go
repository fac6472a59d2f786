package runner

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/heartbeat"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// watcher returns a watcher that records its measurements.
func (s *session) watcher() steadystate.Watcher {
	return steadystate.Watcher{
		Querier:  s.config.Querier,
		Alerts:   s.config.Alerts,
		Interval: s.experiment.Spec.SteadyState.Interval.Duration,
		Record:   func(m steadystate.Measurement) { s.record.Add(event.Measured{Measurement: m}) },

		Evaluated: s.evaluated,
	}
}

// baseline measures before the fault, and meanwhile checks that no call is hit yet. It
// returns an ending if the hypothesis does not hold, or if a call is hit.
func (s *session) baseline(ctx context.Context, planned Planned) *ending {
	counting, stop := context.WithCancel(ctx)
	defer stop()
	clean := proof{s}.startMeter(counting, planned)
	if end := s.measureBaseline(ctx); end != nil {
		return end
	}
	err, done := await(ctx, clean, func() {
		s.record.Add(event.Phase{Name: event.PhaseScrapes})
		s.guard.beats.Enter(heartbeat.Phase{Name: event.PhaseScrapes, Fault: heartbeat.Pending, Rest: s.config.Timing.beforeFault(s.experiment.Spec)})
	})
	if !done || err != nil {
		return fail(ctx, event.StatusRefused, err)
	}
	return nil
}

// measureBaseline measures before the fault. It returns an ending if the hypothesis
// does not hold.
func (s *session) measureBaseline(ctx context.Context) *ending {
	length := s.experiment.Spec.SteadyState.Before
	s.record.Add(event.Phase{Name: event.PhaseBaseline, Length: length})
	watcher := s.watcher()
	var baseline []steadystate.Measurement
	watcher.Record = func(m steadystate.Measurement) {
		baseline = append(baseline, m)
		s.record.Add(event.Measured{Measurement: m})
	}
	findings := watcher.Watch(ctx, s.probes, experiments.Before, length.Duration)
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	s.findings = append(s.findings, findings...)
	if f, found := decisive(findings); found {
		return s.notHeld(f)
	}
	anchored, err := steadystate.Anchor(s.probes, baseline)
	if err != nil {
		return &ending{status: event.StatusRefused, err: hint.With(err, "nothing was injected; set min or max of the probe, or use a query that has data")}
	}
	s.probes = anchored
	return nil
}

// notHeld returns the ending of a run whose baseline has a finding that is not held.
func (s *session) notHeld(f steadystate.Finding) *ending {
	reason, next := "the hypothesis does not hold before the fault", "fix the system or the probe first"
	if slices.ContainsFunc(s.experiment.Spec.StopConditions, func(c experiments.StopCondition) bool { return c.Name == f.Probe }) {
		reason, next = "a stop condition is missed before the fault", "fix the system or the condition first"
	}
	reason = fmt.Sprintf("%s: %s: %s", reason, f.Probe, f.Reason)
	if s.before != "" {
		reason += "; " + s.before
		next = "wait until the windows of the probes do not include that run any more, or " + next
	}
	return refused(reason, "nothing was injected; "+next)
}

// observe measures while the fault is active, until observing is done or the
// experiment's time has passed. It returns an ending if the fault has to end early.
func (s *session) observe(ctx, observing context.Context) *ending {
	s.record.Add(event.Phase{Name: event.PhaseObserve, Length: s.experiment.Spec.Duration})
	s.guard.beats.Enter(heartbeat.Phase{Name: event.PhaseObserve, Fault: heartbeat.Active, Rest: time.Until(s.run.Expires)})
	start := time.Now()
	findings := s.watcher().Watch(observing, s.probes, experiments.During, s.experiment.Spec.Duration.Duration)
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx)
	case observing.Err() != nil:
		return endingOf(context.Cause(observing))
	}
	s.findings = append(s.findings, findings...)
	if f, found := decisive(findings); found {
		return &ending{status: event.StatusStopped, err: fmt.Errorf("%s: %s%s", f.Probe, f.Reason, s.whileActive(time.Since(start)))}
	}
	return nil
}

// whileActive names the faults that are active at a time from the start of the
// observation, if the experiment has several.
func (s *session) whileActive(at time.Duration) string {
	all := s.experiment.Spec.Injections()
	if len(all) < 2 {
		return ""
	}
	var names []string
	for _, one := range all.At(at) {
		names = append(names, cmp.Or(one.Fault.Name, fmt.Sprintf("fault %d", one.Number+1)))
	}
	if len(names) == 0 {
		return " (while no fault was active)"
	}
	return fmt.Sprintf(" (while %s was active)", strings.Join(names, " and "))
}

// recover measures after the rollback until the hypothesis holds again.
func (s *session) recover(ctx context.Context) *ending {
	within := s.experiment.Spec.Recovery.Within
	s.record.Add(event.Phase{Name: event.PhaseRecover, Length: within})
	s.guard.beats.Enter(heartbeat.Phase{Name: event.PhaseRecover, Fault: heartbeat.Gone, Rest: s.config.Timing.afterFault(s.experiment.Spec)})
	findings, took := s.watcher().Recover(ctx, s.probes, within.Duration)
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	for i := range findings {
		if findings[i].Verdict != steadystate.Held {
			findings[i].Reason = fmt.Sprintf("not recovered within %s: %s", within, findings[i].Reason)
		}
	}
	s.findings = append(s.findings, findings...)
	if steadystate.Worst(findings) == steadystate.Held {
		s.result.Recovery.Duration = took.Round(time.Millisecond)
	}
	return nil
}
