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
	Measurements []steadystate.Measurement
	Effect       *runner.Effect
	// Result is absent when the journal was cut short.
	Result *runner.Result
}

// Fold puts the events of a journal together.
func Fold(events []journal.Event) (Run, error) {
	var run Run
	for i, event := range events {
		var err error
		switch event.Type {
		case runner.EventStarted:
			run.Began = event.Time
			err = json.Unmarshal(event.Data, &run.Started)
		case runner.EventPlanned:
			err = json.Unmarshal(event.Data, &run.Plan)
		case runner.EventMeasured:
			var m steadystate.Measurement
			err = json.Unmarshal(event.Data, &m)
			run.Measurements = append(run.Measurements, m)
		case runner.EventEffect:
			err = json.Unmarshal(event.Data, &run.Effect)
		case runner.EventFinished:
			err = json.Unmarshal(event.Data, &run.Result)
		}
		if err != nil {
			return Run{}, fmt.Errorf("journal event %d (%s): %w", i+1, event.Type, err)
		}
	}
	return run, nil
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
