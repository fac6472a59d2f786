package reports_test

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// The time for the report of a run with many probes is linear in its measurements.
func TestManyProbes(t *testing.T) {
	var run reports.Run
	value := 1.0
	for i := range 500 {
		name := fmt.Sprint("probe ", i)
		run.Experiment.Spec.SteadyState.Probes = append(run.Experiment.Spec.SteadyState.Probes, experiments.Probe{Name: name})
		for range 100 {
			run.Measurements = append(run.Measurements, steadystate.Measurement{Probe: name, Phase: experiments.During, Value: &value})
		}
	}
	run.Result = &event.Result{Status: event.StatusCompleted}
	began := time.Now()
	for _, format := range []reports.Format{reports.FormatText, reports.FormatMarkdown, reports.FormatJUnit, reports.FormatJSON, reports.FormatHTML} {
		if err := reports.Write(io.Discard, format, run); err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took > 30*time.Second { // usually one second
		t.Errorf("it took %s", took)
	}
}
