package runs

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// run is a live run.
type run struct {
	request Request
	run     objects.Run
	id      string // of run
	began   time.Time
	// ctx ends when the run must end: its cause is the reason.
	ctx    context.Context //nolint:containedctx // a runner.Recorder gets none
	cancel context.CancelCauseFunc
	// leadership ends when this replica does not lead any more.
	leadership context.Context //nolint:containedctx // as ctx

	mu    sync.Mutex
	phase event.Phase
	since time.Time // of phase
	// decided are the decisions of the plan.
	decided []mesh.Decision
	// from and to bound the time in which the fault is active; zero when not known.
	from, to time.Time
	stuck    map[objects.Ref]bool // VirtualServices that could not be deleted so far
	probes   map[string]steadystate.Measurement
	hit      *event.Counted
	// stored reports whether the start was stored, or an attempt failed.
	stored bool
}

func newRun(leadership context.Context, request Request, identity objects.Run) *run {
	ctx, cancel := context.WithCancelCause(leadership)
	return &run{
		request: request, run: identity, id: identity.ID, began: time.Now(), ctx: ctx, cancel: cancel, leadership: leadership,
		stuck: map[objects.Ref]bool{}, probes: map[string]steadystate.Measurement{},
	}
}

// name returns the name of the experiment.
func (r *run) name() string { return r.request.Experiment.Metadata.Name }

// deposed reports whether this replica does not lead any more.
func (r *run) deposed() bool { return r.leadership.Err() != nil }

// recorder returns the recorders of a run's events, in their order.
func (l *Live) recorder(one *run, journal *journal.Writer) event.Recorder {
	return event.Fanout(
		event.ToJournal(journal),
		event.RecorderFunc(func(_ time.Time, e event.Event) error {
			if creating, is := e.(event.Creating); is && creating.Object.GetKind() != objects.KindJob {
				return l.storeStart(one)
			}
			return nil
		}),
		event.RecorderFunc(func(at time.Time, e event.Event) error {
			one.follow(at, e)
			if phase, is := e.(event.Phase); is {
				l.notifyPhase(one, phase)
			}
			return nil
		}),
	)
}

// storeStart stores a start by schedule as handled, before the first object is
// created that may disturb calls: until then the next leader must make the start
// again, from then on it must not.
func (l *Live) storeStart(one *run) error {
	one.mu.Lock()
	done := one.stored || one.request.Nominal.IsZero()
	one.stored = true
	one.mu.Unlock()
	if done {
		return nil
	}
	return l.config.Starts.StoreHandled(one.ctx, one.name(), one.request.Nominal)
}

// storedStart reports whether the start was stored, or an attempt failed.
func (r *run) storedStart() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stored
}

// follow updates the state of the run.
func (r *run) follow(at time.Time, e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e := e.(type) {
	case event.Planned:
		r.decided = e.Decisions
	case event.Phase:
		r.followPhase(at, e)
	case event.Creating:
		// Each VirtualService is effective by itself, before the others are created,
		// unless all faults start later.
		if e.Object.GetKind() == objects.KindVirtualService && r.from.IsZero() && r.request.Experiment.Spec.FirstStart() == 0 {
			r.from = at
		}
	case event.Deleted:
		if e.Error == "" {
			delete(r.stuck, e.Object)
		} else if !r.to.IsZero() && e.Object.Kind == objects.KindVirtualService {
			r.stuck[e.Object] = true
		}
	case event.Measured:
		r.probes[e.Probe] = e.Measurement
	case event.Counted:
		r.hit = &e
	case event.Started, event.Created, event.Updating, event.Updated, event.UpdateFailed, event.Deleting, event.HeartbeatFailed:
		// Not shown while the run is live; the report has them.
	case event.Clean, event.Effect, event.Finished:
		// The run ends, and its report shows them.
	}
}

// followPhase needs r.mu.
func (r *run) followPhase(at time.Time, phase event.Phase) {
	r.phase, r.since = phase, at
	switch phase.Name {
	case event.PhaseObserve:
		if r.from.IsZero() {
			r.from = at.Add(r.request.Experiment.Spec.FirstStart())
		}
	case event.PhaseRollback:
		r.to = at
	case event.PhasePreflight, event.PhaseBaseline, event.PhaseScrapes, event.PhaseInject, event.PhaseRecover, event.PhaseClean, event.PhaseClose, event.PhaseEffect:
	}
}

// faultActive reports whether a fault is active at now: it stays so while it
// cannot be removed.
func (r *run) faultActive(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	begun := !r.from.IsZero() && !r.from.After(now)
	over := !r.to.IsZero() && (len(r.stuck) == 0 || r.to.Before(r.from))
	return begun && !over
}

// message returns a notification about the run.
func (r *run) message(kind notify.Kind) notify.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	message := notify.Event{Kind: kind, Run: r.id, Experiment: r.name(), Title: r.request.Experiment.Spec.Title, Host: r.request.Host, From: r.from, To: r.to}
	if !r.to.IsZero() && r.to.Before(r.from) { // it ended before the fault
		message.From, message.To = time.Time{}, time.Time{}
	}
	for _, d := range r.decided {
		message.Host = d.Host
		message.Callers = append(message.Callers, d.Callers)
	}
	slices.Sort(message.Callers)
	message.Callers = slices.Compact(message.Callers)
	return message
}
