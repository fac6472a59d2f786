package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/effect"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/heartbeat"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// session is one run in progress.
type session struct {
	config  Config
	planner *Planner
	query   effect.Query

	run        objects.Run
	experiment experiments.Experiment
	// before names the run of this runner that has ended shortly before; it may be empty.
	before string
	record *event.Queue
	guard  guard

	// probes are everything that is measured. After the baseline their relative
	// tolerances are absolute.
	probes []experiments.Probe
	// evaluated maps a probe to the server time of its last answer.
	evaluated map[string]time.Time
	clock     effect.Clock
	// meter counts the requests hit; nil if the experiment asks for no effect.
	meter *effect.Meter

	// removed is when the rollback had deleted the fault; zero if nothing was
	// injected. rolledBack reports that no VirtualService is left.
	removed    time.Time
	rolledBack bool
	findings   []steadystate.Finding
	effect     *event.Effect
	clean      *event.Clean
	result     event.Result
}

// ending is why a run ends early. The hint of its error is the hint of the result.
type ending struct {
	status event.Status
	err    error
	// outside is as in event.Result.
	outside bool
}

func (e *ending) Error() string { return e.err.Error() }

func (e *ending) Unwrap() error { return e.err }

// refused returns the ending of a run that injects nothing.
func refused(reason, next string) *ending {
	return &ending{status: event.StatusRefused, err: hint.With(errors.New(reason), next)}
}

// interrupted returns the ending of a run whose context is done.
func interrupted(ctx context.Context) *ending {
	if end, is := errors.AsType[*heartbeat.EndError](context.Cause(ctx)); is {
		return endingOf(end)
	}
	return &ending{status: event.StatusInterrupted, err: context.Cause(ctx)}
}

// fail returns the ending of a run with an error. If ctx is done, that is the
// reason, and not the error that it has caused.
func fail(ctx context.Context, status event.Status, err error) *ending {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	return &ending{status: status, err: err}
}

// execute carries out the run. It returns nil if the run went to its end.
func (s *session) execute(ctx context.Context) *ending {
	s.record.Add(event.Started{
		Run: s.run, Experiment: s.experiment, Version: s.config.Version, Cluster: s.config.Cluster.Name(), Queries: queries(s.probes), Prometheus: s.config.Prometheus,
		WithoutHeartbeat: s.config.WithoutHeartbeat,
	})
	planned, end := preflight{s}.plan(ctx)
	if end != nil {
		return end
	}
	guarded, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if end = s.raiseGuard(guarded, planned, stop); end == nil {
		end = s.carryOut(guarded, planned)
	}
	s.lowerGuard(ctx)
	return end
}

// carryOut carries out what follows the preflight.
func (s *session) carryOut(ctx context.Context, planned Planned) *ending {
	if end := s.baseline(ctx, planned); end != nil {
		return end
	}
	s.guard.beats.Armed()
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	if end := s.unchanged(ctx, &planned); end != nil {
		return end
	}
	ended := s.disturb(ctx, planned)
	watched := proof{s}.start(ctx, planned, ended)
	// After a deviation the run goes on to the recovery. After a signal it does not,
	// because a user waits, nor after an error of the cluster.
	if ended == nil || ended.status == event.StatusStopped {
		if end := s.recover(ctx); end != nil {
			ended = end
		}
	}
	return proof{s}.finish(ctx, planned.Closing(), watched, ended)
}

func queries(probes []experiments.Probe) map[string]string {
	all := map[string]string{}
	for _, p := range probes {
		all[p.Name] = p.PromQL()
	}
	return all
}

// conclude returns the result. The verdict is the worst of the findings before,
// during and after the fault, and of the effect. A run that has ended early is at
// best inconclusive.
func (s *session) conclude(end *ending) event.Result {
	result := s.result
	result.Status, result.Findings = event.StatusCompleted, s.findings
	result.Verdict = steadystate.Worst(s.findings)
	if f, found := decisive(s.findings); found {
		result.Reason = fmt.Sprintf("%s (%s): %s", f.Probe, f.Phase, f.Reason)
	}
	if s.effect != nil && s.effect.Verdict > result.Verdict {
		result.Verdict, result.Reason = s.effect.Verdict, s.effect.Reason
	}
	if s.clean != nil && s.clean.State == event.CleanUnobserved && result.Verdict == steadystate.Held {
		result.Verdict, result.Reason = steadystate.Inconclusive, "it was not observed that the proxies are clean: "+s.clean.Reason
	}
	if len(s.experiment.Spec.SteadyState.Probes) == 0 && result.Verdict == steadystate.Held {
		result.Verdict, result.Reason, result.Untested = steadystate.Inconclusive, "no hypothesis was tested", true
	}
	if end == nil {
		return result
	}
	result.Status, result.Outside, result.Reason, result.Hint = end.status, end.outside, end.Error(), hint.Of(end)
	switch end.status {
	case event.StatusRefused:
		result.Verdict = steadystate.Inconclusive
	case event.StatusCompleted, event.StatusStopped, event.StatusInterrupted, event.StatusFailed:
		result.Verdict = max(result.Verdict, steadystate.Inconclusive)
	}
	return result
}

// decisive returns the finding that decides the verdict, if it is not Held.
func decisive(findings []steadystate.Finding) (steadystate.Finding, bool) {
	worst := steadystate.Worst(findings)
	for _, f := range findings {
		if f.Verdict == worst && worst != steadystate.Held {
			return f, true
		}
	}
	return steadystate.Finding{}, false
}
