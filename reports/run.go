// Package reports renders the journal of a run. Every report is a function of the
// journal alone, so it can be rendered later and on another machine.
package reports

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports/words"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Run is a run as recorded in its journal.
type Run struct {
	event.Started
	Began time.Time
	Plan  mesh.Plan
	// Warnings are what may be wrong with the plan.
	Warnings     []string
	Phases       []Phase
	Measurements []steadystate.Measurement
	Changes      []Change
	Effect       *event.Effect
	// Clean is what was seen after the rollback; nil if there was none, and in journals
	// of earlier versions.
	Clean *event.Clean
	// Result is nil if the journal was cut short.
	Result *event.Result
	// Last is the time of the last event.
	Last time.Time
}

// Phase is a phase of the run and the time at which it began.
type Phase struct {
	event.Phase
	Began time.Time `json:"began"`
}

// Change is an action of the run on an object, or its outcome.
type Change struct {
	Time   time.Time   `json:"time"`
	What   string      `json:"what"` // the type of the event
	Object objects.Ref `json:"object"`
	Error  string      `json:"error,omitempty"`
}

// Fold returns the run that a journal records. It skips lines of types that this
// version does not know.
func Fold(lines []journal.Line) (Run, error) {
	var run Run
	for i, line := range lines {
		e, err := event.Decode(line)
		if _, unknown := errors.AsType[*event.UnknownTypeError](err); err != nil && !unknown {
			return Run{}, fmt.Errorf("journal event %d (%s): %w", i+1, line.Type, err)
		}
		if _, begins := e.(event.Started); begins && i > 0 {
			return Run{}, fmt.Errorf("journal event %d: another run begins here; a journal has one run", i+1)
		}
		if e != nil {
			run.add(line.Time, e)
		}
		run.Last = line.Time
	}
	return run, nil
}

// add adds one event.
func (r *Run) add(at time.Time, e event.Event) {
	changed := func(object objects.Ref, failure string) {
		r.Changes = append(r.Changes, Change{Time: at, What: e.Type(), Object: object, Error: failure})
	}
	switch e := e.(type) {
	case event.Started:
		r.Began, r.Started = at, e
	case event.Planned:
		r.Plan, r.Warnings = e.Plan, e.Warnings
	case event.Phase:
		r.Phases = append(r.Phases, Phase{Phase: e, Began: at})
	case event.Measured:
		r.Measurements = append(r.Measurements, e.Measurement)
	case event.Creating:
		if e.Object != nil { // a journal of another program may lack it
			changed(objects.RefTo(e.Object), "")
		}
	case event.Updating:
		if e.Object != nil {
			changed(objects.RefTo(e.Object), "")
		}
	case event.Created:
		changed(e.Ref, "")
	case event.Updated:
		changed(e.Ref, "")
	case event.UpdateFailed:
		changed(e.Object, e.Error)
	case event.Deleted:
		changed(e.Object, e.Error)
	case event.Effect:
		r.Effect = &e
	case event.Clean:
		r.Clean = &e
	case event.Finished:
		r.Result = &e.Result
	case event.Deleting, event.HeartbeatFailed, event.Counted:
		// Not in a report. The Deleted that follows a Deleting has the outcome. A
		// failed heartbeat that matters ends the run and is its reason. The Effect
		// has the final count.
	}
}

// calls returns the disturbed calls: the ones of the file, or the ones of the plan
// if the faults differ or the callers were found in Prometheus.
func (r Run) calls() []string {
	callers := r.Experiment.Spec.Callers
	simple := len(callers) > 0
	for _, f := range r.Experiment.Spec.Faults {
		simple = simple && f.Target == nil && f.Callers == nil
	}
	if simple || len(r.Plan.Decisions) == 0 {
		return []string{fmt.Sprintf("from %s to %s", cmp.Or(words.Callers(callers), "all callers"), r.host())}
	}
	var calls []string
	for _, d := range r.Plan.Decisions {
		from := "namespace"
		if d.Gateway != nil {
			from = "the gateway in"
		}
		calls = append(calls, fmt.Sprintf("from %s %s to %s", from, d.Callers, d.Host))
	}
	return calls
}

// host returns the host of the target in the plan, or in the file if there is no
// plan.
func (r Run) host() string {
	if len(r.Plan.Decisions) > 0 {
		return r.Plan.Decisions[0].Host
	}
	return r.Experiment.Spec.Target.Host
}
