package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/internal/app/records"
	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// liveRun is a run in progress.
type liveRun struct {
	run        mesh.Run
	experiment experiments.Experiment
	// reach is guarded by the server's lock: the plan adds to it.
	reach reach
	host  string
	by    by
	// nominal is the start by schedule; zero for one by hand.
	nominal time.Time
	began   time.Time
	stop    context.CancelCauseFunc
	// over says that the process does not lead any more.
	over func() error
	// running ends when the run is told to.
	running context.Context //nolint:containedctx // an event.Recorder is given none
	// detached outlives the run: what is noted and told of it is so in any case.
	detached context.Context //nolint:containedctx // an event.Recorder is given none

	mu       sync.Mutex
	phase    event.Phase
	since    time.Time // of the phase
	decided  []mesh.Decision
	from, to time.Time         // of the fault
	stuck    map[mesh.Ref]bool // what could not be deleted so far
	probes   map[string]steadystate.Measurement
	hit      *event.Counted
	dealt    bool
}

// start begins a run. The lock is held, and this process leads.
func (s *Server) start(e experiments.Experiment, nominal time.Time, owner by) string {
	config := s.Runner
	config.Owner = fmt.Sprintf("%s (squall serve, %s)", owner, s.Identity)
	run := config.NewRun(e, time.Now())
	ctx, stop := context.WithCancelCause(s.leads)
	live := &liveRun{
		run: run, experiment: e, reach: reachOf(e.Spec), by: owner, nominal: nominal, began: time.Now(), stop: stop, over: s.leads.Err,
		running: ctx, detached: context.WithoutCancel(ctx), probes: map[string]steadystate.Measurement{}, stuck: map[mesh.Ref]bool{},
	}
	live.host = live.reach.hosts[0]
	s.live[run.ID] = live
	s.Metrics.Live(len(s.live), s.faults())
	s.runs.Go(func() {
		defer stop(nil)
		s.carryOut(ctx, config, live)
	})
	return run.ID
}

// faults counts the live runs whose fault is in force.
func (s *Server) faults() int {
	faults := 0
	for _, run := range s.live {
		run.mu.Lock()
		begun := !run.from.IsZero() && !run.from.After(time.Now())
		over := !run.to.IsZero() && (len(run.stuck) == 0 || run.to.Before(run.from))
		if begun && !over {
			faults++
		}
		run.mu.Unlock()
	}
	return faults
}

// carryOut carries out a run, records it, and tells everybody.
func (s *Server) carryOut(ctx context.Context, config runner.Config, live *liveRun) {
	folder := filepath.Join(s.Out, live.run.ID)
	config.Permit = func(plan mesh.Plan) error {
		if reason := s.permit(live, plan); reason != "" {
			return errors.New(reason)
		}
		return nil
	}
	result, err := s.recorded(ctx, config, live, folder)
	if err != nil {
		s.Log.Error("the run cannot be recorded, so it did not start", "run", live.run.ID, "error", err)
		result = event.Result{Status: event.StatusRefused, Verdict: steadystate.Inconclusive, Reason: err.Error(), Finished: time.Now()}
		if !live.nominal.IsZero() {
			s.Metrics.Skipped(live.experiment.Metadata.Name, metrics.SkippedError)
		}
	}
	for _, ref := range result.Left {
		s.Log.Error("LEFT BEHIND", "run", live.run.ID, "object", ref.String(), "remove", ref.Removal())
	}
	s.Metrics.Finished(live.experiment.Metadata.Name, result, time.Since(live.began))
	s.Log.Info("finished", "run", live.run.ID, "experiment", live.experiment.Metadata.Name, "status", string(result.Status), "verdict", result.Verdict.String(), "reason", result.Reason)
	s.end(live, result.Left)
	if err := s.report(folder); err != nil {
		s.Log.Error("the report cannot be written; squall report makes it from the journal", "run", live.run.ID, "error", err)
	}
	s.remember(live.run.ID)
	s.prune()
	s.tellEnd(live, result) //nolint:contextcheck // it is told when ctx has ended, too
}

// recorded carries out a run with a journal. An error means that it has none, and
// so did not start.
func (s *Server) recorded(ctx context.Context, config runner.Config, live *liveRun, folder string) (event.Result, error) {
	r, err := runner.New(config)
	if err != nil {
		return event.Result{}, err
	}
	writer, err := journal.Create(folder)
	if err != nil {
		return event.Result{}, err
	}
	result := r.Run(ctx, live.run, live.experiment, s.recorder(live, writer)) //nolint:contextcheck // events are emitted when ctx is done, too
	if err := writer.Close(); err != nil {
		s.Log.Error("journal", "run", live.run.ID, "error", err)
	}
	return result, nil
}

// end takes a run from the live ones. A start that was not noted has been dealt
// with all the same, unless whoever leads next is to make it.
func (s *Server) end(live *liveRun, left []mesh.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, live.run.ID)
	if live.over() != nil {
		s.left = append(s.left, left...)
	}
	if !live.nominal.IsZero() && !live.wasDealt() && live.over() == nil {
		s.dealt(live.experiment.Metadata.Name, live.nominal)
	}
	s.Metrics.Live(len(s.live), s.faults())
	s.wake()
}

// wasDealt reports whether the start was noted, or nearly.
func (l *liveRun) wasDealt() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dealt
}

// recorder returns what a run's events are passed to, in this order.
func (s *Server) recorder(live *liveRun, writer *journal.Writer) event.Recorder {
	return event.Fanout(
		event.ToJournal(writer),
		event.RecorderFunc(func(_ time.Time, e event.Event) error {
			if _, is := e.(event.Creating); is {
				// From here on the start has happened: whoever leads next must not
				// make it again. Until here it must.
				return s.noteStart(live)
			}
			return nil
		}),
		event.RecorderFunc(func(at time.Time, e event.Event) error {
			live.follow(at, e)
			if phase, is := e.(event.Phase); is {
				s.tellPhase(live, phase)
			}
			return nil
		}),
	)
}

// noteStart notes a start by schedule in the store.
func (s *Server) noteStart(live *liveRun) error {
	live.mu.Lock()
	done := live.dealt || live.nominal.IsZero()
	live.dealt = true
	live.mu.Unlock()
	if done {
		return nil
	}
	name := live.experiment.Metadata.Name
	s.mu.Lock()
	s.noting[name] = live.nominal
	s.mu.Unlock()
	defer func() {
		// What could not be noted was not made: whoever leads next may make it.
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.noting[name].Equal(live.nominal) {
			delete(s.noting, name)
		}
	}()
	return s.save(live.running)
}

// follow keeps what the page shows.
func (l *liveRun) follow(at time.Time, e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e := e.(type) {
	case event.Planned:
		l.decided = e.Decisions
	case event.Phase:
		l.followPhase(at, e)
	case event.Creating:
		// Not only when all objects are there: each is in force by itself, unless
		// all faults start later.
		if e.Object.GetKind() == "VirtualService" && l.from.IsZero() && l.experiment.Spec.FirstStart() == 0 {
			l.from = at
		}
	case event.Deleted:
		if e.Error == "" {
			delete(l.stuck, e.Object)
		} else if !l.to.IsZero() && e.Object.Kind == "VirtualService" {
			l.stuck[e.Object] = true
		}
	case event.Measured:
		l.probes[e.Probe] = e.Measurement
	case event.Counted:
		l.hit = &e
	case event.Started, event.Created, event.Updating, event.Updated, event.UpdateFailed, event.Deleting, event.HeartbeatFailed:
		// Not shown while the run is live; the report has it.
	case event.Effect, event.Finished:
		// The run ends in a moment, and its report shows them.
	}
}

// followPhase keeps the phase, and when the fault is in force. The lock is held.
func (l *liveRun) followPhase(at time.Time, phase event.Phase) {
	l.phase, l.since = phase, at
	switch phase.Name {
	case event.PhaseObserve:
		if l.from.IsZero() {
			l.from = at.Add(l.experiment.Spec.FirstStart())
		}
	case event.PhaseRollback:
		l.to = at
	case event.PhasePreflight, event.PhaseBaseline, event.PhaseInject, event.PhaseRecover, event.PhaseEffect:
	}
}

// report writes the reports beside the journal.
func (s *Server) report(folder string) error {
	run, err := records.Read(filepath.Join(folder, journal.FileName))
	if err != nil {
		return err
	}
	var failures []error
	for _, format := range []reports.Format{reports.FormatHTML, reports.FormatJSON} {
		failures = append(failures, writeFile(filepath.Join(folder, format.FileName()), func(w io.Writer) error { return reports.Write(w, format, run) }))
	}
	return errors.Join(failures...)
}

// remember takes a run's summary into the list of past runs.
func (s *Server) remember(run string) {
	summary := records.Summary(s.Out, run)
	if summary == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.past[run], s.fresh[run] = *summary, true
}

// scan reads the folder of the records.
func (s *Server) scan(ctx context.Context) {
	s.mu.Lock()
	clear(s.fresh)
	s.mu.Unlock()
	summaries, err := s.records.Summaries(ctx)
	if err != nil {
		return // there is none yet, or ctx has ended
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.past, func(run string, _ reports.Summary) bool { return !s.fresh[run] })
	for _, summary := range summaries {
		if s.live[summary.Run] == nil && !s.fresh[summary.Run] {
			s.past[summary.Run] = summary
		}
	}
}

// prune removes the oldest records.
func (s *Server) prune() {
	before := time.Time{}
	if s.KeepFor > 0 {
		before = time.Now().Add(-s.KeepFor)
	}
	removed, err := records.Prune(s.Out, s.KeepRuns, before, func(run string) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.live[run] != nil
	})
	if err != nil {
		s.Log.Error("old records cannot be removed", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, run := range removed {
		delete(s.past, run)
	}
}

// message is what people are told of a run.
func (l *liveRun) message(kind notify.Kind) notify.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	message := notify.Event{Kind: kind, Run: l.run.ID, Experiment: l.experiment.Metadata.Name, Title: l.experiment.Spec.Title, Host: l.host, From: l.from, To: l.to}
	if !l.to.IsZero() && l.to.Before(l.from) { // it never came to the fault
		message.From, message.To = time.Time{}, time.Time{}
	}
	for _, d := range l.decided {
		message.Host = d.Host
		message.Callers = append(message.Callers, d.Callers)
	}
	slices.Sort(message.Callers)
	message.Callers = slices.Compact(message.Callers)
	return message
}

// tellPhase tells that a fault is in force, that it ends, and that it ends early.
func (s *Server) tellPhase(live *liveRun, phase event.Phase) {
	switch {
	case phase.Name == event.PhaseObserve:
		s.Notify(live.message(notify.Started))
		when := fmt.Sprintf("a fault is in force for %s", phase.Length)
		if first := live.experiment.Spec.FirstStart(); first > 0 {
			when = fmt.Sprintf("a fault starts in %s, and all are over after %s", first, phase.Length)
		}
		s.tell(live, false, "FaultStarted", fmt.Sprintf("%s: %s; end it: squall rollback %s", live.experiment.Metadata.Name, when, live.run.ID))
	case phase.Name == event.PhaseRollback && phase.Reason != "":
		message := live.message(notify.Stopped)
		message.Reason = phase.Reason
		s.Notify(message)
		s.tell(live, true, "FaultStoppedEarly", fmt.Sprintf("%s: %s", live.experiment.Metadata.Name, phase.Reason))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Metrics.Live(len(s.live), s.faults())
}

func (s *Server) tellEnd(live *liveRun, result event.Result) {
	message := live.message(notify.Finished)
	if result.Status == event.StatusRefused { // whatever it has tried to create
		message.From, message.To = time.Time{}, time.Time{}
	}
	message.Verdict, message.Status, message.Reason = result.Verdict.String(), string(result.Status), result.Reason
	if s.ExternalURL != "" {
		message.ReportURL = strings.TrimSuffix(s.ExternalURL, "/") + "/runs/" + live.run.ID + "/" + reports.FormatHTML.FileName()
	}
	s.Notify(message)
	words := fmt.Sprintf("%s: %s (%s)", live.experiment.Metadata.Name, result.Verdict, result.Status)
	if result.Reason != "" {
		words += ": " + result.Reason
	}
	s.tell(live, result.Verdict != steadystate.Held, "ExperimentFinished", words)
}

// tell writes a Kubernetes Event to the target's Service where that is in the
// callers' namespace, else to the namespace. It runs beside the run, which it
// must not hold up.
func (s *Server) tell(live *liveRun, warning bool, reason, message string) {
	live.mu.Lock()
	decided := slices.Clone(live.decided)
	live.mu.Unlock()
	told := map[string]bool{}
	for _, d := range decided {
		if told[d.Callers] {
			continue
		}
		told[d.Callers] = true
		s.runs.Go(func() {
			ctx, cancel := context.WithTimeout(live.detached, storeTimeout)
			defer cancel()
			if err := s.Tell(ctx, aboutOf(d), warning, reason, message); err != nil {
				s.Log.Warn("a Kubernetes Event cannot be written", "error", err)
			}
		})
	}
}

func aboutOf(d mesh.Decision) mesh.Ref {
	if name, namespace, ok := host.Parse(d.Host, "").AsService(); ok && namespace == d.Callers {
		return mesh.Ref{APIVersion: "v1", Kind: "Service", Namespace: namespace, Name: name}
	}
	return mesh.Ref{APIVersion: "v1", Kind: "Namespace", Namespace: d.Callers, Name: d.Callers}
}
