package batch_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/batch"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// disturbed is a Prometheus in which the page fails until a time.
type disturbed struct{ until time.Time }

func (d disturbed) Query(context.Context, string) ([]steadystate.Sample, error) {
	if time.Now().Before(d.until) {
		return []steadystate.Sample{{Value: 0.5}}, nil
	}
	return []steadystate.Sample{{Value: 1}}, nil
}

// next returns an experiment whose probe has a window in which a fault may be.
func next() experiments.Experiment {
	e := experiments.Experiment{Metadata: experiments.Metadata{Name: "next"}}
	e.Spec.SteadyState.Interval.Duration = 5 * time.Second
	e.Spec.SteadyState.Probes = []experiments.Probe{
		{Name: "page answers", Min: experiments.Number(0.99), Phases: []experiments.Phase{experiments.Before, experiments.During}, Measure: experiments.Measure{Query: "page"}},
		{Name: "not judged before", Min: experiments.Number(2), Phases: []experiments.Phase{experiments.After}, Measure: experiments.Measure{Query: "page"}},
	}
	return e
}

func TestBefore(t *testing.T) {
	const waiting = "waiting up to 2m until the hypothesis of next holds: page answers: 0.5 is below 0.99"
	for name, test := range map[string]struct {
		pauses    batch.Pauses
		disturbed time.Duration
		injected  bool
		took      time.Duration
		notes     []string
	}{
		"it holds":             {pauses: batch.Pauses{Longest: 2 * time.Minute}, injected: true},
		"it holds again later": {pauses: batch.Pauses{Longest: 2 * time.Minute}, disturbed: 12 * time.Second, injected: true, took: 15 * time.Second, notes: []string{waiting, "the hypothesis of next holds after 15s"}},
		"it does not hold":     {pauses: batch.Pauses{Longest: 2 * time.Minute}, disturbed: time.Hour, injected: true, took: 2 * time.Minute, notes: []string{waiting}},
		"nothing was injected": {pauses: batch.Pauses{Longest: 2 * time.Minute}, disturbed: time.Hour},
		"no wait":              {disturbed: time.Hour, injected: true},
		"a pause":              {pauses: batch.Pauses{Fixed: 30 * time.Second}, took: 30 * time.Second, notes: []string{"a pause of 30s before next"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var notes []string
				test.pauses.Querier = disturbed{until: start.Add(test.disturbed)}
				test.pauses.Note = func(note string) { notes = append(notes, note) }
				test.pauses.Before(t.Context(), next(), test.injected)
				if diff := cmp.Diff(test.notes, notes); diff != "" {
					t.Error(diff)
				}
				if took := time.Since(start); took != test.took {
					t.Errorf("took %s instead of %s", took, test.took)
				}
			})
		})
	}
}

// A signal ends the wait.
func TestBeforeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		start := time.Now()
		pauses := batch.Pauses{Fixed: 5 * time.Second, Longest: time.Hour, Querier: disturbed{until: start.Add(time.Hour)}, Note: func(string) {}}
		pauses.Before(ctx, next(), true)
		if took := time.Since(start); took != 7*time.Second {
			t.Errorf("took %s", took)
		}
	})
}
