// Package reports renders what a journal says: every report is a function of
// the journal alone, so that it can be made later and elsewhere.
package reports

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/journal"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Run is what a journal says, put together.
type Run struct {
	runner.Started
	Began        time.Time
	Plan         mesh.Plan
	Phases       []Phase
	Measurements []steadystate.Measurement
	Changes      []Change
	Effect       *runner.Effect
	// Result is absent when the journal was cut short.
	Result *runner.Result
	// Last is the time of the last event.
	Last time.Time
}

// Phase is a step of the run, and when it began.
type Phase struct {
	runner.Phase
	Began time.Time `json:"began"`
}

// Change is something that the run did to an object.
type Change struct {
	Time   time.Time `json:"time"`
	What   string    `json:"what"` // the type of the journal's event
	Object mesh.Ref  `json:"object"`
	Error  string    `json:"error,omitempty"`
}

// Fold puts the events of a journal together.
func Fold(events []journal.Event) (Run, error) {
	var run Run
	for i, event := range events {
		if err := run.take(event); err != nil {
			return Run{}, fmt.Errorf("journal event %d (%s): %w", i+1, event.Type, err)
		}
		run.Last = event.Time
	}
	return run, nil
}

// take adds one event. Types that are not known are left out, so that an older
// version reads what it can.
func (r *Run) take(event journal.Event) error {
	changed := func(object mesh.Ref, failure string) {
		r.Changes = append(r.Changes, Change{event.Time, event.Type, object, failure})
	}
	switch event.Type {
	case runner.EventStarted:
		r.Began = event.Time
		return decode(event, func(s runner.Started) { r.Started = s })
	case runner.EventPlanned:
		return decode(event, func(p mesh.Plan) { r.Plan = p })
	case runner.EventPhase:
		return decode(event, func(p runner.Phase) { r.Phases = append(r.Phases, Phase{p, event.Time}) })
	case runner.EventMeasured:
		return decode(event, func(m steadystate.Measurement) { r.Measurements = append(r.Measurements, m) })
	case runner.EventCreating, runner.EventUpdating:
		return decode(event, func(c runner.Change) {
			if c.Object != nil {
				changed(mesh.RefTo(c.Object), "")
			}
		})
	case runner.EventCreated, runner.EventUpdated:
		return decode(event, func(ref mesh.Ref) { changed(ref, "") })
	case runner.EventDeleted:
		return decode(event, func(d runner.Deletion) { changed(d.Object, d.Error) })
	case runner.EventEffect:
		return decode(event, func(e runner.Effect) { r.Effect = &e })
	case runner.EventFinished:
		return decode(event, func(result runner.Result) { r.Result = &result })
	}
	return nil
}

func decode[T any](event journal.Event, take func(T)) error {
	var data T
	if err := json.Unmarshal(event.Data, &data); err != nil {
		return err
	}
	take(data)
	return nil
}

// calls says whose calls are disturbed: as the file does when that is all, and
// as the plan does when the faults differ or the callers were found.
func (r Run) calls() []string {
	callers := r.Experiment.Spec.Callers
	simple := len(callers) > 0
	for _, f := range r.Experiment.Spec.Faults {
		simple = simple && f.Target == nil && f.Callers == nil
	}
	if simple || len(r.Plan.Decisions) == 0 {
		return []string{fmt.Sprintf("from %s to %s", CallersInWords(callers), r.host())}
	}
	var calls []string
	for _, d := range r.Plan.Decisions {
		calls = append(calls, fmt.Sprintf("from namespace %s to %s", d.Callers, d.Host))
	}
	return calls
}

// host is the target as the mesh knows it, or as the file names it when no
// plan was made.
func (r Run) host() string {
	if len(r.Plan.Decisions) > 0 {
		return r.Plan.Decisions[0].Host
	}
	return r.Experiment.Spec.Target.Host
}
